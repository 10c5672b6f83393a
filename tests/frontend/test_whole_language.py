"""Two thousand texts, each read, printed and read again, and what they are made of: everything."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, cast

import pytest

from einloom.frontend import parser
from einloom.frontend.builder import Builder
from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade, TensorDecl
from einloom.ir.einsum import (
    PLACES,
    Access,
    Coordinate,
    Einsum,
    Literal,
    Map,
    Parameter,
    Reduce,
    UserOperator,
)
from einloom.ir.operators import OPERATORS, REDUCTIONS, SEMIRINGS, Semiring
from einloom.ir.ranks import Partition, Quotient, Rank, RankExpr, Term
from einloom.ir.source import Source

from ..texts import Writer

TEXTS = 2000


@cache
def texts() -> tuple[str, ...]:
    rng = random.Random(0)
    return tuple(Writer(rng, lawful=number % 20 == 0).text() for number in range(TEXTS))


@cache
def read() -> tuple[Cascade, ...]:
    return tuple(map(parse_cascade, texts()))


def test_text() -> None:
    for cascade in read():
        text = str(cascade)
        found = parse_cascade(text)
        assert found == cascade
        assert str(found) == text


def test_json() -> None:
    for cascade in read():
        assert Cascade.from_json(cascade.to_json()) == cascade


# ---- what is reached


def inside(value: Any) -> Iterator[Any]:
    """A node and every node in it."""
    if isinstance(value, tuple):
        for item in cast("tuple[Any, ...]", value):
            yield from inside(item)
    elif dataclasses.is_dataclass(value):
        yield value
        for field in dataclasses.fields(value):
            if field.name != "span":
                yield from inside(getattr(value, field.name))


NODES = {
    *(Cascade, TensorDecl, Rank, Quotient, RankExpr, Term, Partition, Einsum),
    *(Access, Literal, Coordinate, Map, Reduce, UserOperator, Parameter, Semiring),
}

#: What docs/language.md has, beyond the kinds of nodes.
CONSTRUCTS: dict[str, Callable[[Any], bool]] = {
    "an operator of the text's own": lambda n: isinstance(n, Map) and not isinstance(n.op, str),
    "a reduction by one": lambda n: isinstance(n, Reduce) and not isinstance(n.op, str),
    "a declared parameter": lambda n: isinstance(n, Parameter) and n.dtype is not None,
    "laws": lambda n: isinstance(n, UserOperator) and bool(n.laws),
    "an identity": lambda n: isinstance(n, UserOperator) and n.identity is not None,
    "an inverse": lambda n: isinstance(n, UserOperator) and n.inverse is not None,
    "distributivity": lambda n: isinstance(n, UserOperator) and bool(n.distributes_over),
    "a semiring of the text's own": lambda n: isinstance(n, Einsum) and n.ring is n.semiring,
    "another semiring": lambda n: isinstance(n, Einsum) and n.semiring == "max_plus",
    "an assumption": lambda n: isinstance(n, Cascade) and bool(n.assumptions),
    "several outputs": lambda n: isinstance(n, Cascade) and len(n.outputs) > 1,
    "a declared dtype of an input": lambda n: isinstance(n, TensorDecl) and n.dtype is not None,
    "an extent of an input that is no rank": lambda n: (
        isinstance(n, TensorDecl) and any(extent.rank is None for extent in n.extents)
    ),
    "an alias": lambda n: (
        isinstance(n, Rank) and isinstance(n.shape, RankExpr) and n.shape.rank is not None
    ),
    "a size that is a number": lambda n: isinstance(n, Rank) and isinstance(n.shape, int),
    "a size with an offset": lambda n: isinstance(n, Quotient) and n.offset != 0,
    "a divided size that is deduced": lambda n: (
        isinstance(n, Rank) and n.name.startswith("P") and isinstance(n.shape, Quotient)
    ),
    "a step of lag 1": lambda n: isinstance(n, Einsum) and (n.step or (0, "", 0))[2] == 1,
    "a step of lag 3": lambda n: isinstance(n, Einsum) and (n.step or (0, "", 0))[2] == 3,
    "a number on the left": lambda n: (
        isinstance(n, Einsum) and any(index.constant is not None for index in n.left)
    ),
    "a diagonal": lambda n: (
        isinstance(n, Einsum) and len(n.free) < sum(1 for _ in n.output.variables())
    ),
    "a scalar": lambda n: isinstance(n, Einsum) and not n.output.indices,
    "a declared dtype of an Einsum": lambda n: isinstance(n, Einsum) and n.dtype is not None,
    "a filter": lambda n: isinstance(n, Einsum) and n.where is not None and n.otherwise is None,
    "a filter with else": lambda n: isinstance(n, Einsum) and n.otherwise is not None,
    "an implicit sum": lambda n: isinstance(n, Einsum) and bool(n.reduced),
    "a place": lambda n: isinstance(n, Reduce) and n.op in ("argmax", "argmin"),
    "a cast": lambda n: isinstance(n, Map) and n.op == "cast",
    "a bitcast": lambda n: isinstance(n, Map) and n.op == "bitcast",
    "a chain": lambda n: isinstance(n, Map) and len(n.args) > 2 and n.op == "add",
    "a gather": lambda n: (
        isinstance(n, Access) and any(isinstance(index, Access) for index in n.indices)
    ),
    "a filled gather": lambda n: (
        isinstance(n, Access)
        and n.fill is not None
        and any(isinstance(index, Access) for index in n.indices)
    ),
    "a size as a value": lambda n: isinstance(n, Coordinate) and n.name.isupper(),
    "a coordinate": lambda n: isinstance(n, Coordinate) and n.name.islower(),
    "a size times a variable": lambda n: isinstance(n, Term) and bool(n.sizes and n.variable),
    "a negative coefficient": lambda n: isinstance(n, Term) and n.coefficient < 0,
    "a complex number": lambda n: isinstance(n, Literal) and isinstance(n.value, complex),
    "a truth": lambda n: isinstance(n, Literal) and n.value is True,
    "the largest integer": lambda n: isinstance(n, Literal) and n.value == 2**64 - 1,
    "nan": lambda n: isinstance(n, Literal) and n.value != n.value,
}


@cache
def reached() -> tuple[set[type], set[str], set[str], set[str], set[str]]:
    """The kinds of nodes, the constructs, the operators, the reductions and the semirings."""
    kinds, constructs, mapped, folded, rings = set[type](), *(set[str]() for _ in range(4))
    for cascade in read():
        for node in inside(cascade):
            kinds.add(node.__class__)
            match node:
                case Map():
                    mapped.add(str(node.op))
                case Reduce():
                    folded.add(str(node.op))
                case Einsum():
                    rings.add(node.ring.name)
                case _:
                    pass
            constructs |= {
                name for name, is_it in CONSTRUCTS.items() if name not in constructs and is_it(node)
            }
    return kinds, constructs, mapped, folded, rings


def test_every_kind_of_node_is_reached() -> None:
    assert reached()[0] >= NODES


def test_every_construct_is_reached() -> None:
    assert sorted(CONSTRUCTS.keys() - reached()[1]) == []


def test_every_operator_and_semiring_is_reached() -> None:
    mapped, folded, rings = reached()[2:]
    assert sorted(OPERATORS.keys() - mapped) == []
    assert sorted({*(row.name for row in REDUCTIONS.values()), *map(str, PLACES)} - folded) == []
    assert sorted(SEMIRINGS.keys() - rings) == []


def test_every_rule_of_the_grammar_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule that has a meaning, and each of the parts that it may leave out or have."""
    found: set[tuple[str, int, bool]] = set()
    methods = parser._grammar().table.methods

    def recording(name: str) -> Callable[..., Any]:
        method = getattr(Builder, name)

        def called(self: Builder, kept: list[Any], begin: int, stop: int) -> Any:
            found.update((name, at, part is None) for at, part in enumerate(kept[-3:]))
            return method(self, kept, begin, stop)

        return called

    for name in methods:
        monkeypatch.setattr(Builder, name, recording(name))
    for text in texts()[: TEXTS // 10]:
        parser.parse_file(Source(f'use "other.ein"\n{text}'))
    assert {name for name, _, _ in found} == methods
    left_out = {name for name, _, missing in found if missing}
    assert left_out >= {
        "operator",
        "parameter",
        "laws",
        "law",
        "input",
        "target",
        "rank",
        "bracket",
    }
    assert {("definition", at, missing) for at in range(3) for missing in (True, False)} <= found
