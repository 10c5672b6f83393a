"""A SlotProgram with fewer rotation keys: rotations are made of others.

    %1, %2, %3 = rotate %0 by 1, 2, 3   ->   %1 = rotate %0 by 1      (few: one key)
                                             %2 = rotate %1 by 1
                                             %3 = rotate %2 by 1

"few" takes keys away as long as no rotation is added: rotations of one value, such as baby steps,
follow from each other. "powers-of-two" has keys for 2^k and -2^k alone, which serve any program,
and takes more rotations. Either shares fewer decompositions, and a rotation of a rotation has the
noise of both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Literal as OneOf
from typing import TypeAlias, get_args

from ...ir.errors import ArgumentError
from ...ir.rotations import signed_digits
from ...ir.slots import SlotOp, SlotProgram

KeysName: TypeAlias = OneOf["each", "few", "powers-of-two"]
KEYS: tuple[KeysName, ...] = get_args(KeysName)

#: Rotations of one value, by their step modulo the slots: the one that each is made of, or 0, and
#: the step from there. What is made of others comes after them.
_Tree: TypeAlias = Mapping[int, tuple[int, int]]


def with_keys(program: SlotProgram, keys: KeysName) -> SlotProgram:
    """The program with a key for each of its steps, with few, or with powers of two.

    Raises:
        ArgumentError: there is no such choice.
    """
    if keys not in KEYS:
        raise ArgumentError(f"keys= is not {keys!r}", hint=f"one of {', '.join(KEYS)}")
    wanted = {_steps(op, program.slots) for op in program.ops if op.op == "rotate"}
    if keys == "each":
        return program
    if keys == "few":
        return _rewritten(program, _few(wanted, program.slots))
    return _rewritten(program, {each: _by_powers(each, program.slots) for each in wanted})


def _steps(op: SlotOp, slots: int) -> frozenset[int]:
    return frozenset(step % slots for step in op.steps)


def _rewritten(program: SlotProgram, trees: Mapping[frozenset[int], _Tree]) -> SlotProgram:
    ops: list[SlotOp] = []
    number, made = list(range(program.encrypted)), program.encrypted
    for op in program.ops:
        args = tuple(number[arg] for arg in op.args)
        if op.op != "rotate":
            like = None if op.like is None else number[op.like]
            ops.append(replace(op, args=args, like=like))
            number.append(made)
            made += 1
            continue
        at = {0: args[0]}
        for parent, steps in _grouped(trees[_steps(op, program.slots)]):
            signed = tuple(s - program.slots if 2 * s > program.slots else s for s in steps)
            ops.append(SlotOp("rotate", (at[parent],), signed))
            for step in steps:
                at[(parent + step) % program.slots] = made
                made += 1
        number += [at[step % program.slots] for step in op.steps]
    outputs = tuple(
        replace(each, values=tuple(number[value] for value in each.values))
        for each in program.outputs
    )
    return replace(program, ops=tuple(ops), outputs=outputs)


def _grouped(tree: _Tree) -> Iterator[tuple[int, list[int]]]:
    """Each rotation that others are made of, before them, with all the steps from there."""
    for one in (0, *tree):
        steps = [step for parent, step in tree.values() if parent == one]
        if steps:
            yield one, steps


def _few(wanted: Collection[frozenset[int]], slots: int) -> dict[frozenset[int], _Tree]:
    """Trees of no other rotations than are wanted, with few different steps."""
    keys = set[int]().union(*wanted)
    trees = {each: _spanning(each, keys, slots) for each in wanted}
    for key in sorted(keys, key=lambda step: (-min(step, slots - step), step)):
        rest = keys - {key}
        others = {
            each: _spanning(each, rest, slots)
            for each, tree in trees.items()
            if any(step == key for _, step in tree.values())
        }
        if all(len(tree) == len(each - {0}) for each, tree in others.items()):
            keys = rest
            trees |= others
    return trees


def _spanning(wanted: frozenset[int], keys: Collection[int], slots: int) -> _Tree:
    """As many of the wanted rotations as these keys reach by way of wanted ones, fewest first."""
    tree: dict[int, tuple[int, int]] = {}
    front = [0]
    while front:
        reached: list[int] = []
        for one in front:
            for key in sorted(keys):
                to = (one + key) % slots
                if to and to in wanted and to not in tree:
                    tree[to] = one, key
                    reached.append(to)
        front = reached
    return tree


def _by_powers(wanted: frozenset[int], slots: int) -> _Tree:
    """A tree of all wanted rotations by steps of 2^k and -2^k, with what is needed on the way."""
    powers = [sign << k for k in range((slots - 1).bit_length()) for sign in (1, -1)]
    tree: dict[int, tuple[int, int]] = {}
    digits = {
        step: min(signed_digits(step), signed_digits(step - slots), key=len)
        for step in wanted - {0}
    }
    for step in sorted(digits, key=lambda step: (len(digits[step]), step)):
        if step in tree:
            continue
        parts = [digit % slots for digit in reversed(digits[step])]
        near = [power % slots for power in powers if (step - power) % slots in tree]
        at = 0
        if len(parts) > 1 and near:
            at, parts = (step - near[0]) % slots, near[:1]
        for part in parts:
            to = (at + part) % slots
            if to not in tree:
                tree[to] = at, part
            at = to
    return tree
