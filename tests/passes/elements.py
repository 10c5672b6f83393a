"""The element graph of a Cascade on one instance: which element is made of which.

The Einsums are walked point by point, as the interpreter walks them. Of an input's element only the
*visit* matters at which it can be read: its coordinate on the rank that is traversed. Filters that
depend on coordinates alone are decided; a gather may read every element of the axis it indexes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from einloom.ir.cascade import Cascade
from einloom.ir.einsum import Access, Coordinate, Einsum, Expr, Literal, Map, Reduce
from einloom.ir.expr import free_variables
from einloom.ir.operators import OPERATORS, is_chain
from einloom.ir.ranks import Rank, RankExpr
from einloom.ir.sizes import infer_sizes
from einloom.passes.scope import needed_for

from .aliases import Names

#: An element: its tensor (or the reduction inside an expression that it is of), its coordinates.
Key: TypeAlias = tuple[str, tuple[int, ...]]
Env: TypeAlias = dict[str, int]
#: The home of a point, the inputs that it reads, and the elements; of these, those that are fixed.
Found: TypeAlias = tuple[int, frozenset[tuple[str, int]], frozenset[Key], frozenset[Key]]


@dataclass(frozen=True, slots=True)
class Term:
    """A point of an iteration space: what it reads, and the visits at which it may be executed.

    Sets of visits are bit masks. `home` is empty where the point does not have all coordinates of
    the family; `inputs` has the visit at which each input is read, with the input's name: home, or
    without one that of the element. Of the reads those are `fixed` that do not go along the family.
    """

    home: int
    inputs: frozenset[tuple[str, int]]
    reads: frozenset[int]
    fixed: frozenset[int]

    @property
    def visits(self) -> int:
        return union(mask for _, mask in self.inputs)


@dataclass(frozen=True, slots=True)
class Node:
    """An element that is computed: from one term, or from all terms of a reduction."""

    key: Key
    home: int
    terms: tuple[Term, ...]
    carried: bool  # a scan along the family makes it, so it is the state that its next step reads
    output: bool
    stored: bool = False  # it is read at another name of the rank, or through a gather


@dataclass(frozen=True, slots=True)
class Graph:
    """The elements, each after those that it reads; `extent` is the number of visits of a sweep."""

    nodes: tuple[Node, ...]
    extent: int


def union(masks: Iterable[int]) -> int:
    return reduce(int.__or__, masks, 0)


@dataclass(frozen=True)
class Family:
    """The ranks that walk one rank, and the coordinates of its leaves.

    Those are the leaves themselves, the rank that they part, and iterative ranks that are an alias
    of one of these. A plain alias is a rank of its own: the same axis, walked by itself.
    """

    cascade: Cascade
    sizes: Mapping[str, int]
    leaves: tuple[str, ...]

    @classmethod
    def of(cls, cascade: Cascade, sizes: Mapping[str, int], named: Sequence[str]) -> Family:
        parts = {p.rank: p.parts for p in cascade.partitions}
        roots = [_root(cascade, name) for name in named]
        leaves = [leaf for root in roots for leaf in parts.get(root, (root,))]
        return cls(cascade, sizes, tuple(dict.fromkeys(leaves)))

    def place(self, rank: str, coordinate: int) -> dict[str, int]:
        """The coordinates of the leaves that a coordinate of a rank says."""
        root = _root(self.cascade, rank)
        if root in self.leaves:
            return {root: coordinate}
        for partition in self.cascade.partitions:
            if partition.rank == root and set(partition.parts) & set(self.leaves):
                found: dict[str, int] = {}
                for part in reversed(partition.parts[1:]):
                    coordinate, found[part] = divmod(coordinate, self.sizes[part])
                found[partition.parts[0]] = coordinate
                return {leaf: at for leaf, at in found.items() if leaf in self.leaves}
        return {}


def _root(cascade: Cascade, rank: str) -> str:
    """What an iterative rank walks; any other rank itself."""
    iterative = {e.step[1].upper() for e in cascade.einsums if e.step is not None}
    while rank in iterative:
        shape = cascade.rank(rank).shape
        target = shape.rank if isinstance(shape, RankExpr) else None
        if target is None:
            break
        rank = target
    return rank


def all_sizes(cascade: Cascade, given: Mapping[str, int]) -> dict[str, int]:
    """The extent of every rank, from those of some; the others follow."""
    ranks = tuple(
        Rank(r.name, given[r.name]) if r.shape is None and r.name in given else r
        for r in cascade.ranks
    )
    cascade = replace(cascade, ranks=ranks)
    known = {r.name: r.shape for r in ranks if isinstance(r.shape, int)}
    for partition in cascade.partitions:
        if partition.rank in known and set(partition.parts[1:]) <= known.keys():
            known.setdefault(partition.parts[0], partition.outer_shape.value(known))
    for _ in ranks:
        for rank in ranks:
            if rank.shape is not None and not isinstance(rank.shape, int):
                made_of = set(rank.shape.sizes())
                if made_of <= known.keys():
                    known[rank.name] = rank.shape.value(known)
    shapes = {d.name: [extent.value(known) for extent in d.extents] for d in cascade.inputs}
    return infer_sizes(cascade, shapes)


def build(cascade: Cascade, sizes: Mapping[str, int], family: Family, outermost: str) -> Graph:
    """The graph where a visit is a coordinate of the leaf `outermost`."""
    builder = _Builder(cascade, sizes, family, outermost)
    needed = needed_for(cascade.einsums, cascade.outputs)
    for einsum in cascade.einsums:
        if einsum.name in needed:
            builder.define(einsum)
    return builder.graph()


@dataclass
class _Draft:
    home: int
    carried: bool
    stored: bool = False
    terms: set[Found] = field(default_factory=set[Found])


@dataclass
class _Reads:
    """What a point reads: inputs at their visits, elements at a place that moves, fixed ones."""

    inputs: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    moving: set[Key] = field(default_factory=set[Key])
    fixed: set[Key] = field(default_factory=set[Key])


class _Builder:
    def __init__(
        self, cascade: Cascade, sizes: Mapping[str, int], family: Family, outermost: str
    ) -> None:
        self.cascade, self.sizes, self.family = cascade, dict(sizes), family
        self.outermost = outermost
        self.inputs = {decl.name: decl for decl in cascade.inputs}
        self.drafts: dict[Key, _Draft] = {}
        self.names = Names(cascade)
        self.axes = cascade.extents()
        self.extents = {
            name: tuple(extent.value(sizes) for extent in axes) for name, axes in self.axes.items()
        }

    # ---- points

    def points(self, variables: Sequence[str], env: Env) -> Iterator[Env]:
        for at in itertools.product(*(range(self.sizes[v.upper()]) for v in variables)):
            here = {**env, **dict(zip(variables, at, strict=True))}
            if all(
                self.inside(p.parts, p.coordinate, p.rank, here) for p in self.cascade.partitions
            ):
                yield here

    def inside(self, parts: Sequence[str], whole: RankExpr, rank: str, env: Env) -> bool:
        """Whether a point is not past the end of a rank that is parted."""
        if not all(part.lower() in env for part in parts):
            return True
        return self.value(whole, env) < self.sizes[rank]

    def value(self, index: RankExpr, env: Env) -> int:
        factors, constant = index.coefficients(self.sizes)
        return constant + sum(factor * env[v] for v, factor in factors.items())

    def home(self, env: Env) -> int:
        """The visits that have the coordinates of a point; none if it lacks one of a leaf."""
        found: dict[str, int] = {}
        for variable, at in env.items():
            for leaf, coordinate in self.family.place(self.names.rank(variable), at).items():
                found[leaf] = found.get(leaf, 0) | 1 << coordinate
        return found[self.outermost] if len(found) == len(self.family.leaves) else 0

    # ---- definitions

    def define(self, einsum: Einsum) -> None:
        self.names.enter(einsum)
        step = einsum.step
        carried = step is not None and bool(self.family.place(step[1].upper(), 0))
        for env in self.points(einsum.free, {}):
            key = (einsum.name, tuple(self.value(index, env) for index in einsum.left))
            draft = _Draft(self.home(env), carried)
            self.drafts[key] = draft
            if isinstance(einsum.expr, Reduce):
                self.fold(draft, einsum.expr, env, einsum.where)
                continue
            kept = None if einsum.where is None else self.known(einsum.where, env)
            wanted: list[Expr] = [] if kept is not None and not kept else [einsum.expr]
            if einsum.where is not None and kept is None:
                wanted.append(einsum.where)
            self.add_term(draft, wanted, env)

    def fold(self, draft: _Draft, node: Reduce, env: Env, where: Expr | None) -> None:
        for here in self.points(node.variables, env):
            wanted: list[Expr] = [node.expr]
            if where is not None:
                kept = self.known(where, here)
                if kept is None:
                    wanted.append(where)
                elif not kept:
                    continue
            self.add_term(draft, wanted, here)

    def add_term(self, draft: _Draft, exprs: Sequence[Expr], env: Env) -> None:
        found = _Reads()
        for expr in exprs:
            self.collect(expr, env, found)
        home, inputs = self.home(env), found.inputs
        if home:
            at = home if home.bit_count() == 1 else 0
            inputs = {(tensor, at) for tensor, _ in inputs}
        # An element that is read at a variable too is not a fixed one.
        fixed = frozenset(found.fixed - found.moving)
        draft.terms.add((home, frozenset(inputs), frozenset(found.fixed | found.moving), fixed))

    def collect(self, expr: Expr, env: Env, found: _Reads) -> None:
        """What an expression reads at a point."""
        if isinstance(expr, Map):
            for arg in expr.args:
                self.collect(arg, env, found)
        elif isinstance(expr, Reduce):
            bound = {v: env[v] for v in free_variables(expr)}
            key = (f"reduction {id(expr)}", tuple(bound.values()))
            if key not in self.drafts:
                with self.names.inside(expr):
                    self.drafts[key] = draft = _Draft(self.home(bound), False)
                    self.fold(draft, expr, bound, None)
            found.moving.add(key)
        elif isinstance(expr, Access):
            for index in expr.indices:
                if isinstance(index, Access):
                    self.collect(index, env, found)
            walked = any(self.family.place(self.names.rank(v), 0) for v in expr.variables())
            renamed = self.is_renamed(expr)
            gathered = any(isinstance(index, Access) for index in expr.indices)
            for at in self.elements(expr, env):
                if expr.tensor not in self.inputs:
                    if (renamed or gathered) and (expr.tensor, at) in self.drafts:
                        self.drafts[expr.tensor, at].stored = True
                    (found.moving if walked and not renamed else found.fixed).add((expr.tensor, at))
                elif mask := self.visit(expr, at):
                    found.inputs.add((expr.tensor, mask))

    def elements(self, access: Access, env: Env) -> Iterator[tuple[int, ...]]:
        """The elements that an Access reads: one, none outside, all of an axis for a gather."""
        extents = self.extents[access.tensor]
        ranges: list[Sequence[int]] = []
        for index, extent in zip(access.indices, extents, strict=True):
            if isinstance(index, Access):
                ranges.append(range(extent))
            else:
                at = self.value(index, env)
                ranges.append([at] if 0 <= at < extent else [])
        return itertools.product(*ranges)

    def visit(self, access: Access, at: Sequence[int]) -> int:
        """The visit of an input's element, by the axis of the rank: of several, the one walked.

        An axis of another rank that is read at a variable of the family counts as one of it.
        """
        found: dict[str, tuple[bool, int]] = {}
        extents = self.inputs[access.tensor].extents
        for extent, index, coordinate in zip(extents, access.indices, at, strict=True):
            walker = self.walker(index)
            rank = self.names.walked(extent.rank, index) if extent.rank else None
            places = self.family.place(rank, coordinate) if rank else {}
            if not places and walker is not None and coordinate < self.sizes[walker]:
                places = self.family.place(walker, coordinate)
            for leaf, place in places.items():
                if leaf not in found or (walker is not None and not found[leaf][0]):
                    found[leaf] = walker is not None, place
        complete = len(found) == len(self.family.leaves)
        return 1 << found[self.outermost][1] if complete else 0

    def is_renamed(self, access: Access) -> bool:
        """Whether an axis of the family is read at an alias that is not of it."""
        axes = self.names.axes.get(access.tensor, ())
        return any(
            rank is not None
            and bool(self.family.place(rank, 0))
            and not self.family.place(self.names.walked(rank, index), 0)
            for index, rank in zip(access.indices, axes, strict=False)
        )

    def walker(self, index: RankExpr | Access) -> str | None:
        """The rank of the family at whose variable, and no other, an axis is read."""
        variables = tuple(index.variables())
        rank = self.names.rank(variables[0]) if len(variables) == 1 else None
        return rank if rank is not None and self.family.place(rank, 0) else None

    # ---- conditions

    def known(self, expr: Expr, env: Env) -> Any:
        """The value of an expression of coordinates and sizes; None if it reads a tensor."""
        if isinstance(expr, Literal):
            return expr.value
        if isinstance(expr, Coordinate):
            return np.int64(env[expr.name] if expr.name in env else self.sizes[expr.name])
        if not isinstance(expr, Map) or not isinstance(expr.op, str) or expr.dtype is not None:
            return None
        args = [self.known(arg, env) for arg in expr.args]
        if expr.op == "and" and any(arg is not None and not arg for arg in args):
            return False
        if any(arg is None for arg in args):
            return None
        reference = OPERATORS[expr.op].reference
        return reduce(reference, args) if is_chain(expr.op) else reference(*args)

    # ---- the whole

    def graph(self) -> Graph:
        number: dict[Key, int] = {}
        for key in self.drafts:
            self.order(key, number)

        def numbers(keys: Iterable[Key]) -> frozenset[int]:
            return frozenset(number[key] for key in keys if key in number)

        outputs = set(self.cascade.outputs)
        nodes: list[Node] = []
        for key in number:
            draft = self.drafts[key]
            terms = tuple(
                Term(home, inputs, numbers(reads), numbers(fixed))
                for home, inputs, reads, fixed in draft.terms
            )
            is_output = key[0] in outputs
            nodes.append(Node(key, draft.home, terms, draft.carried, is_output, draft.stored))
        return Graph(tuple(nodes), self.sizes[self.outermost])

    def order(self, key: Key, number: dict[Key, int]) -> None:
        """Numbers an element after those that it reads; what nothing defines is a constant."""
        stack = [(key, False)]
        while stack:
            current, ready = stack.pop()
            if current in number or current not in self.drafts:
                continue
            if ready:
                number[current] = len(number)
                continue
            stack.append((current, True))
            stack += [(k, False) for _, _, reads, _ in self.drafts[current].terms for k in reads]


def restricted(graph: Graph, tensor: str) -> Graph:
    """The graph in which only the elements of one tensor, and what is made of them, have visits.

    An element of the tensor is given at its visit, as an input's is; what is made of it, coordinate
    by coordinate, is its lineage. All else is at hand whenever what it reads is.
    """
    given = {n: node.home for n, node in enumerate(graph.nodes) if node.key[0] == tensor}
    lineage: set[int] = set()
    nodes: list[Node] = []
    for number, node in enumerate(graph.nodes):
        if number in given:
            nodes.append(Node(node.key, 0, (), False, False))
            continue
        terms: list[Term] = []
        descends = False
        for term in node.terms:
            inputs = {(name, mask) for name, mask in term.inputs if name == tensor}
            inputs |= {(tensor, given[r]) for r in term.reads - term.fixed if given.get(r)}
            belongs = bool(inputs) or not lineage.isdisjoint(term.reads - term.fixed)
            descends |= belongs
            home = term.home if belongs else 0
            terms.append(Term(home, frozenset(inputs), term.reads, term.fixed))
        if descends and node.home:
            lineage.add(number)
        home = node.home if number in lineage else 0
        carried = node.carried and bool(home)
        nodes.append(Node(node.key, home, tuple(terms), carried, node.output, node.stored))
    return Graph(tuple(nodes), graph.extent)
