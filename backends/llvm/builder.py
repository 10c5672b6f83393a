"""LLVM IR text of one function, built with scopes.

A scope is the function's body, a loop's body or the arm of a branch. A pure instruction is written
once, in the outermost scope in which its operands exist; so what a loop does not change leaves it,
and nothing is computed twice, without any optimisation pass. Values are the text of LLVM operands
(`%v12`, `3`, `splat (i32 1)`); i64 arithmetic on constants is folded.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_VALUE = re.compile(r"%v\d+")

_COMPARED = {
    "eq": operator.eq,
    "ne": operator.ne,
    "slt": operator.lt,
    "sle": operator.le,
    "sgt": operator.gt,
    "sge": operator.ge,
}


@dataclass(slots=True)
class Scope:
    """Lines so far, the pure instructions among them, and the block that the next line is in."""

    entry: str
    label: str = ""
    lines: list[str] = field(default_factory=list[str])
    known: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.label = self.entry


@dataclass(slots=True)
class Phi:
    """A value carried round a loop."""

    name: str
    type: str
    initial: str
    next: str = ""


@dataclass(slots=True)
class OpenLoop:
    """A loop under construction: `counter` = 0, step, ... while below `length`."""

    counter: str
    length: str
    step: str
    once: bool
    depth: int
    phis: list[Phi] = field(default_factory=list[Phi])
    derived: dict[str, Phi] = field(default_factory=dict[str, Phi])


class Builder:
    """The body of one function."""

    def __init__(self) -> None:
        self.scopes = [Scope("entry")]
        self._depths: dict[str, int] = {}
        self._values = 0
        self._labels = 0
        #: The depths of the arms of branches around the current scope, after that of the function.
        self.arms = [0]

    # ---- instructions

    @property
    def depth(self) -> int:
        """The number of scopes around the current one."""
        return len(self.scopes) - 1

    @property
    def guard(self) -> int:
        """The depth of the innermost arm of a branch: its test may be what allows a read."""
        return self.arms[-1]

    def depth_of(self, *operands: str) -> int:
        """The depth of the innermost scope that any of these values needs."""
        depths = self._depths
        return max([depths[v] for text in operands for v in _VALUE.findall(text)], default=0)

    def reserve(self, depth: int) -> str:
        """The name of a value that the caller defines, in a scope of that depth."""
        return self._new(depth)

    def _new(self, depth: int) -> str:
        self._values += 1
        name = f"%v{self._values}"
        self._depths[name] = depth
        return name

    def pure(self, text: str, floor: int = 0, version: int = 0) -> str:
        """The value of an instruction without side effects, no further out than depth `floor`.

        Instructions with equal text but another `version` are different ones.
        """
        depth = max(self.depth_of(text), floor)
        scope = self.scopes[depth]
        key = f"{version}:{text}" if version else text
        name = scope.known.get(key)
        if name is None:
            name = scope.known[key] = self._new(depth)
            scope.lines.append(f"  {name} = {text}")
        return name

    def here(self, text: str) -> str:
        """The value of an instruction that stays in this place."""
        name = self._new(self.depth)
        self.scopes[-1].lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """An instruction without a value."""
        self.scopes[-1].lines.append("  " + text)

    def room(self, type: str, align: int) -> str:
        """A new place on the stack, taken where the function begins."""
        name = self.reserve(0)
        self.scopes[0].lines.insert(0, f"  {name} = alloca {type}, align {align}")
        return name

    def label(self, stem: str) -> str:
        """A new label."""
        self._labels += 1
        return f"{stem}{self._labels}"

    def place(self, label: str) -> None:
        """Begin the block of that label here."""
        scope = self.scopes[-1]
        scope.lines.append(f"{label}:")
        scope.label = label

    # ---- i64 arithmetic

    def add(self, a: str, b: str) -> str:
        if _constant(a) and _constant(b):
            return str(int(a) + int(b))
        if a == "0" or b == "0":
            return b if a == "0" else a
        return self.pure(f"add i64 {a}, {b}")

    def sub(self, a: str, b: str) -> str:
        if _constant(a) and _constant(b):
            return str(int(a) - int(b))
        return a if b == "0" else "0" if a == b else self.pure(f"sub i64 {a}, {b}")

    def mul(self, a: str, b: str) -> str:
        if _constant(a) and _constant(b):
            return str(int(a) * int(b))
        if "0" in (a, b):
            return "0"
        if a == "1" or b == "1":
            return b if a == "1" else a
        return self.pure(f"mul i64 {a}, {b}")

    def multiple(self, a: str, of: int) -> str:
        """The least multiple of a number that is not below `a`, which is not negative."""
        if of == 1:
            return a
        if _constant(a):
            return str(-(-int(a) // of) * of)
        raised = self.add(a, str(of - 1))
        if of & (of - 1) == 0:
            return self.pure(f"and i64 {raised}, {-of}")
        return self.mul(self.pure(f"udiv i64 {raised}, {of}"), str(of))

    def minimum(self, a: str, *others: str) -> str:
        for b in others:
            if _constant(a) and _constant(b):
                a = str(min(int(a), int(b)))
            elif a != b:
                a = self.pure(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")
        return a

    def maximum(self, a: str, b: str) -> str:
        if _constant(a) and _constant(b):
            return str(max(int(a), int(b)))
        return self.pure(f"call i64 @llvm.smax.i64(i64 {a}, i64 {b})")

    def compare(self, predicate: str, a: str, b: str) -> str:
        if _constant(a) and _constant(b) and predicate in _COMPARED:
            return "true" if _COMPARED[predicate](int(a), int(b)) else "false"
        return self.pure(f"icmp {predicate} i64 {a}, {b}")

    def both(self, one: str, other: str) -> str:
        """Whether both i1 hold."""
        if "false" in (one, other):
            return "false"
        if "true" in (one, other):
            return other if one == "true" else one
        return self.pure(f"and i1 {one}, {other}")

    def either(self, one: str, other: str) -> str:
        """Whether one of two i1 holds."""
        if "true" in (one, other):
            return "true"
        if "false" in (one, other):
            return other if one == "false" else one
        return self.pure(f"or i1 {one}, {other}")

    def gep(self, pointer: str, offset: str) -> str:
        """`pointer` plus `offset` bytes."""
        if offset == "0":
            return pointer
        return self.pure(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    # ---- loops

    def begin_loop(self, length: str, step: str = "1", once: bool = False) -> OpenLoop:
        """Opens the body of a loop; `once`: it runs at least once."""
        self.scopes.append(Scope(self.label("body")))
        return OpenLoop(self._new(self.depth), length, step, once, self.depth)

    def carry(self, loop: OpenLoop, type: str, initial: str) -> Phi:
        """A value carried round the loop; set its `next` before the loop ends."""
        phi = Phi(self._new(loop.depth), type, initial)
        loop.phis.append(phi)
        return phi

    def offset(self, loop: OpenLoop, factor: str) -> str:
        """counter * factor, kept by addition."""
        if factor in ("0", "1"):
            return loop.counter if factor == "1" else "0"
        if factor not in loop.derived:
            step = self.mul(loop.step, factor)
            loop.derived[factor] = Phi(self._new(loop.depth), "i64", "0", step)
        return loop.derived[factor].name

    def end_loop(self, loop: OpenLoop) -> dict[str, str]:
        """Closes the loop; gives, for each carried value's name, the value after the loop."""
        counter = Phi(loop.counter, "i64", "0", loop.step)
        for phi in (counter, *loop.derived.values()):
            phi.next = self.here(f"add i64 {phi.name}, {phi.next}")
        again = self.here(f"icmp slt i64 {counter.next}, {loop.length}")
        body = self.scopes.pop()
        outer = self.scopes[-1]
        before, after = outer.label, self.label("exit")
        if loop.once or (_constant(loop.length) and int(loop.length) > 0):
            outer.lines.append(f"  br label %{body.entry}")
            sure = True
        else:
            entered = self.pure(f"icmp sgt i64 {loop.length}, 0")
            outer.lines.append(f"  br i1 {entered}, label %{body.entry}, label %{after}")
            sure = False
        outer.lines.append(f"{body.entry}:")
        for phi in (counter, *loop.derived.values(), *loop.phis):
            sources = f"[{phi.initial}, %{before}], [{phi.next}, %{body.label}]"
            outer.lines.append(f"  {phi.name} = phi {phi.type} {sources}")
        outer.lines += body.lines
        outer.lines.append(f"  br i1 {again}, label %{body.entry}, label %{after}")
        self.place(after)
        results: dict[str, str] = {}
        for phi in loop.phis:
            skipped = "" if sure else f"[{phi.initial}, %{before}], "
            results[phi.name] = self.here(f"phi {phi.type} {skipped}[{phi.next}, %{body.label}]")
        return results

    # ---- branches

    def begin_arm(self) -> None:
        """Opens one arm of a branch."""
        self.scopes.append(Scope(self.label("arm")))
        self.arms.append(self.depth)

    def end_arm(self) -> Scope:
        """Closes the arm and gives it for `branch`."""
        self.arms.pop()
        return self.scopes.pop()

    def branch(
        self, test: str, then: Scope, otherwise: Scope, merge: Sequence[tuple[str, str, str]]
    ) -> list[str]:
        """A branch on an i1; of each (type, value in then, in otherwise), the one that holds."""
        outer = self.scopes[-1]
        after = self.label("join")
        outer.lines.append(f"  br i1 {test}, label %{then.entry}, label %{otherwise.entry}")
        for arm in (then, otherwise):
            outer.lines += [f"{arm.entry}:", *arm.lines, f"  br label %{after}"]
        self.place(after)
        return [
            a
            if a == b
            else self.here(f"phi {type} [{a}, %{then.label}], [{b}, %{otherwise.label}]")
            for type, a, b in merge
        ]

    def leave(self, test: str, status: int) -> None:
        """Returns `status` from the function where the i1 `test` holds."""
        stop, go = self.label("leave"), self.label("go")
        self.do(f"br i1 {test}, label %{stop}, label %{go}")
        self.scopes[-1].lines += [f"{stop}:", f"  ret i32 {status}"]
        self.place(go)


def _constant(value: str) -> bool:
    return value[0] not in "%@"
