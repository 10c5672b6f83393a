"""Contraction order: a product of many factors becomes a cascade of small products."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias, cast

from ...ir.cascade import Cascade
from ...ir.einsum import Access, Einsum
from ...ir.errors import ArgumentError, OperandError, PassError, PathError
from ..base import Pass
from ..rewrite import named, product
from ..scope import Scope

#: Positions to contract at each step; they leave the list of operands and the result joins its end.
Path: TypeAlias = tuple[tuple[int, ...], ...]
#: False: one Einsum; the name of a path finder; a path in any of its forms; a path finder itself.
Optimize: TypeAlias = bool | str | Path | Sequence[Any] | Callable[..., Any]

#: opt_einsum's path finders; it is asked for another name only if it is not one of these.
PATH_FINDERS = (
    *("auto", "auto-hq", "optimal", "branch-all", "branch-2", "branch-1", "greedy", "eager"),
    *("opportunistic", "dp", "dynamic-programming", "random-greedy", "random-greedy-128"),
)

#: Those of them that do not give the first of paths that cost the same.
_NOT_THE_FIRST = ("dp", "dynamic-programming", "random-greedy", "random-greedy-128")

#: Stands for an extent that is not known, so that a path can be found for symbolic ranks.
NOMINAL = 64


@dataclass(frozen=True, slots=True)
class Order(Pass):
    """Contracts a product of three or more factors a few at a time.

        Y[i,l] = A[i,j] * B[j,k] * C[k,l]
     -> T[i,k] = A[i,j] * B[j,k]
        Y[i,l] = T[i,k] * C[k,l]

    Condition: the semiring's laws hold in the types computed in, and no sum is over nothing;
    otherwise the product is left as it is. Intermediates have the type that the whole product is
    computed in. Source: rule 5 (NEST) of arXiv 2509.20020; Smith and Gray, opt_einsum, JOSS 3(26),
    2018. Called "contraction path" there and in NumPy.

    An intermediate's last index is the last output index of the step that reads it, where it has
    that index: the loop over it then runs at unit stride in the operand and in the result, and is
    the vector axis. Without it, the indices that the reading step sums come last, so that the
    intermediate is a row-major matrix of a matrix product.

    Options:
        optimize: "auto" (default; also True), or another of opt_einsum's path finders by name;
            False (one loop nest); a path `((0, 1), (0, 1))`, NumPy's `["einsum_path", ...]` and
            `(name, limit)` too; or a function of opt_einsum's signature
            `(inputs, output, sizes, memory_limit) -> path`.
        memory_limit: the most elements that an intermediate may have; "max_input": as many as the
            largest input or the output; None or -1: any.

    Raises:
        PathError: there is no such finder, or the path does not fit the product.
        OperandError, ArgumentError: the option is of no such form.
    """

    name: ClassVar[str] = "order"
    optimize: Optimize = "auto"
    memory_limit: int | float | str | None = None

    def __post_init__(self) -> None:
        optimize, limit = _normal_optimize(self.optimize, self.memory_limit)
        object.__setattr__(self, "optimize", optimize)
        object.__setattr__(self, "memory_limit", _normal_limit(limit))

    def __call__(self, cascade: Cascade) -> Cascade:
        if self.optimize is False:
            return cascade
        scope = Scope(cascade)
        einsums: list[Einsum] = []
        for einsum in cascade.einsums:
            made = self._ordered(einsum, scope) if scope.alone(einsum) else (einsum,)
            scope.define(*made)
            einsums += made
        self._check_use(cascade)
        same = len(einsums) == len(cascade.einsums)
        return cascade if same else replace(cascade, einsums=tuple(einsums))

    def path(self, cascade: Cascade) -> Path:
        """The path for a Cascade that is one product, whatever its dtypes.

        Raises:
            PathError: the path that is given does not fit the product, or none was found.
        """
        (einsum,) = cascade.einsums
        factors = einsum.product() or ()
        given = self._given()
        if given is not None:
            check_path(given, len(factors), einsum.name)
            return given
        if self.optimize is False or len(factors) < 3:
            return (tuple(range(len(factors))),)
        return self.found(einsum, factors, Scope.of(cascade))

    def _ordered(self, einsum: Einsum, scope: Scope) -> Sequence[Einsum]:
        factors = einsum.product()
        given = self._given()
        if factors is None or len(factors) < (3 if given is None else 2):
            return (einsum,)
        if given is not None:
            check_path(given, len(factors), einsum.name)
        if not scope.typed(einsum):
            unknown = dict.fromkeys(f.tensor for f in factors if f.tensor not in scope.dtypes)
            raise PassError(
                f"the order of {einsum.name} needs the dtypes of {', '.join(unknown)}: "
                "an intermediate of mixed types must not wrap or round before the whole would",
                span=einsum.span,
                hint="declare them, as in `A[I,J]: f32`, or give dtypes=",
            )
        if not scope.regroups(einsum):
            return (einsum,)
        path = given or self.found(einsum, factors, scope)
        return contracted(einsum, factors, path, scope)

    def _given(self) -> Path | None:
        """The path, if the option is one."""
        given: object = self.optimize
        return cast(Path, given) if isinstance(given, tuple) else None

    def found(self, einsum: Einsum, factors: Sequence[Access], scope: Scope) -> Path:
        """The path that a path finder gives."""
        import opt_einsum

        terms = [dict.fromkeys(factor.variables()) for factor in factors]
        variables = dict.fromkeys(v for term in (*terms, einsum.free) for v in term)
        # One character each, as opt_einsum's own calls give a path finder.
        symbols = {v: opt_einsum.get_symbol(number) for number, v in enumerate(variables)}
        extents = {v: scope.extent(v) for v in variables}
        sizes = {s: max(NOMINAL if (n := extents[v]) is None else n, 1) for v, s in symbols.items()}
        order: Sequence[int] = range(len(terms))
        if isinstance(self.optimize, str) and self.optimize not in _NOT_THE_FIRST:
            order = _inner_first(factors, {v: sizes[s] for v, s in symbols.items()})
        inputs = [frozenset(symbols[v] for v in terms[n]) for n in order]
        output = frozenset(symbols[v] for v in einsum.free)
        limit: int | None = None
        if isinstance(self.memory_limit, int):
            limit = self.memory_limit
        elif self.memory_limit is not None:  # "max_input"
            limit = max(math.prod(sizes[s] for s in term) for term in (*inputs, output))
        finder: Any = self.optimize
        if isinstance(finder, str):
            finder = opt_einsum.paths.get_path_fn(finder)
        try:
            found = finder(inputs, output, sizes, limit)
        except RuntimeError as error:  # dynamic programming under a limit that nothing meets
            raise PathError(
                f"no contraction order of {einsum.name} was found: {error}",
                hint="raise memory_limit= or give optimize='greedy'",
            ) from None
        try:
            path = tuple(tuple(map(operator.index, step)) for step in found)
        except TypeError:
            raise PathError(
                f"the path finder gave {found!r}, which is no path",
                hint="it must give a list of tuples of positions",
            ) from None
        check_path(path, len(factors), einsum.name)
        return _reordered(path, order)

    def _check_use(self, cascade: Cascade) -> None:
        """A path that contracts several operands must have met a product of so many."""
        given = self._given()
        if given is None:
            return
        products = [factors for e in cascade.einsums if (factors := e.product()) is not None]
        if products and max(map(len, products)) == 1:
            check_path(given, 1, cascade.name)


def _inner_first(factors: Sequence[Access], sizes: Mapping[str, int]) -> list[int]:
    """The factors as a path finder had better come to them, the first of paths that cost the same
    being what most give: the largest, then what meets it at the last of its indices, first.

    Along those a step reads it as it lies in memory.
    """

    def elements(number: int) -> int:
        return math.prod(sizes[v] for v in set(factors[number].variables()))

    largest = max(range(len(factors)), key=elements)
    along = [*factors[largest].variables()]

    def place(number: int) -> tuple[bool, int]:
        met = [along.index(v) for v in factors[number].variables() if v in along]
        return number != largest, -max(met, default=-1)

    return sorted(range(len(factors)), key=place)


def _reordered(path: Path, order: Sequence[int]) -> Path:
    """The path for operands of which the given path has those of `order`."""
    theirs, ours = list(order), sorted(order)
    found: list[tuple[int, ...]] = []
    for step in path:
        taken = {theirs[position] for position in step}
        found.append(tuple(n for n, operand in enumerate(ours) if operand in taken))
        made = len(order) + len(found)
        theirs, ours = (
            [*(operand for operand in operands if operand not in taken), made]
            for operands in (theirs, ours)
        )
    return tuple(found)


def check_path(path: Any, operands: int, name: str) -> None:
    """Checks that a path contracts that many operands to one.

    Raises:
        PathError: it does not; NumPy raises RuntimeError or IndexError.
    """
    left = operands
    for number, step in enumerate(path):
        wrong = [p for p in step if not 0 <= p < left]
        if wrong or not step or len(set(step)) < len(step):
            raise PathError(
                f"step {number} of the path, {step}, does not name some of {left} operands",
                passed=(f"path: {_shown(path)}", f"operands of {name}: {operands}"),
            )
        left += 1 - len(step)
    if left != 1:
        raise PathError(
            f"the path leaves {left} operands of {name} uncontracted",
            passed=(f"path: {_shown(path)}", f"operands of {name}: {operands}"),
            hint="each step takes operands away and puts their product last",
        )


def _shown(path: Iterable[Any]) -> str:
    return ", ".join(map(str, path))


@dataclass(frozen=True, slots=True)
class Node:
    """An operand: a factor of the product, or the product of some operands."""

    operands: tuple[Node, ...]
    variables: frozenset[str]
    number: int  # of the first factor in it
    factor: Access | None = None  # of a leaf


def contracted(
    einsum: Einsum, factors: Sequence[Access], path: Path, scope: Scope
) -> Sequence[Einsum]:
    """The Einsums of the steps of a path, in its order; the intermediates are then defined."""
    steps = path_steps(einsum, factors, path)
    if len(steps) == 1:
        return (einsum,)
    left: dict[int, Access] = {}  # what each intermediate writes, by the identity of its node
    written = {id(steps[-1]): einsum.free}
    for step in reversed(steps):
        for node in step.operands:
            if node.factor is None:
                written[id(node)] = _index_order(einsum, written[id(step)], node, step)
    made: list[Einsum] = []
    remaining = einsum.reduced
    for step in steps:
        read = tuple(node.factor or left[id(node)] for node in step.operands)
        # In the order of reading, as the text of a sum leaves it out.
        inside = dict.fromkeys(v for access in read for v in access.variables())
        summed = tuple(v for v in inside if v in remaining and v not in step.variables)
        remaining = tuple(v for v in remaining if v not in summed)
        if step is steps[-1]:
            last = product(einsum, einsum.output, read, summed + remaining)
            made.append(scope.stored(last, scope.dtype(einsum)))
            break
        left[id(step)] = named(scope.fresh("T"), written[id(step)])
        made.append(scope.intermediate(einsum, product(einsum, left[id(step)], read, summed)))
        scope.define(made[-1])
    return made


def path_steps(einsum: Einsum, factors: Sequence[Access], path: Path) -> list[Node]:
    """The nodes that the path makes, the whole product last; what only passes on is left out."""
    current = [Node((), frozenset(f.variables()), n, f) for n, f in enumerate(factors)]
    steps: list[Node] = []
    for positions in path:
        # In the order of the factors, which the sum of the products does not depend on.
        operands = tuple(sorted((current[p] for p in positions), key=lambda node: node.number))
        current = [node for p, node in enumerate(current) if p not in positions]
        needed = set(einsum.free).union(*(node.variables for node in current))
        inside = frozenset[str]().union(*(node.variables for node in operands))
        if len(operands) == 1 and (inside <= needed or not current):
            current.append(operands[0])
            continue
        steps.append(Node(operands, inside & needed, operands[0].number))
        current.append(steps[-1])
    return steps or [Node(tuple(current), frozenset(einsum.free), 0)]


def _index_order(
    einsum: Einsum, output: Sequence[str], node: Node, reader: Node
) -> tuple[str, ...]:
    """The order of an intermediate's indices, for the step that reads it and writes `output`."""
    others = [other for other in reader.operands if other is not node]
    shared = {v for other in others for v in other.variables}
    kept = [v for v in output if v in node.variables]
    batch = [v for v in kept if v in shared]
    free = [v for v in kept if v not in shared]
    # Summed indices stand as in the operand they meet, where that is given.
    met = [v for other in others if other.factor is not None for v in other.factor.variables()]
    everywhere = dict.fromkeys([*met, *einsum.reduced])
    summed = [v for v in everywhere if v in node.variables and v not in kept]
    if free and free[-1] == output[-1]:
        return (*batch, *summed, *free)
    if batch and batch[-1] == output[-1]:
        return (*batch[:-1], *free, *summed, batch[-1])
    return (*batch, *free, *summed)


def _normal_optimize(optimize: Any, limit: Any) -> tuple[Optimize, Any]:
    """`optimize=` in any of its forms, and the limit that may be part of it."""
    if optimize is None or optimize is False:
        return False, limit
    if optimize is True:
        return "auto", limit
    if isinstance(optimize, str):
        return _finder_name(optimize), limit
    if callable(optimize):
        return optimize, limit
    if isinstance(optimize, list | tuple):
        items = list(cast("Sequence[Any]", optimize))
        if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], int | float):
            return _finder_name(items[0]), items[1]
        if items and isinstance(items[0], str) and items[0] == "einsum_path":
            items = items[1:]
        try:
            return tuple(tuple(map(operator.index, step)) for step in items), limit
        except TypeError:
            pass
    raise OperandError(
        f"did not understand the path {optimize!r}",
        hint="give True, False, a name such as 'greedy', or a path such as [(0, 1), (0, 1)]",
    )


def _finder_name(name: str) -> str:
    lowered = name.lower()
    if lowered not in PATH_FINDERS:
        import opt_einsum

        try:
            opt_einsum.paths.get_path_fn(lowered)  # one that its user registered
        except KeyError:
            raise PathError(
                f"there is no path finder {name!r}", hint=f"one of {', '.join(PATH_FINDERS)}"
            ) from None
    return lowered


def _normal_limit(limit: Any) -> int | str | None:
    if limit is None or limit == "max_input":
        return limit  # type: ignore[no-any-return]
    if isinstance(limit, str | bool) or not isinstance(limit, int | float):
        raise ArgumentError(f"memory_limit must be a number or 'max_input', not {limit!r}")
    if limit == -1 or limit == math.inf:
        return None
    if not limit >= 0:
        raise ArgumentError(f"memory_limit must not be negative, except -1 for none, not {limit}")
    return int(limit)
