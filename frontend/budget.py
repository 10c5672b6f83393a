"""What a text, with all that it uses, has taken of its limits so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..ir import limits
from ..ir.cascade import Cascade
from ..ir.einsum import Access, Map, Op, Reduce, UserOperator, levels, walk
from ..ir.errors import ResolveError
from ..ir.source import Span
from ..ir.verify import MAX_DEPTH

#: What the trial of a law takes besides its nodes, in nodes.
_TRIAL = 4


@dataclass(slots=True)
class Budget:
    """Counts what many small items of a text can make large together."""

    tokens: int = 0
    laws: int = 0
    inlined: int = 0
    _operators: dict[int, tuple[UserOperator, int, int]] = field(
        default_factory=dict[int, tuple[UserOperator, int, int]]
    )
    _cascades: dict[int, tuple[Cascade, int]] = field(
        default_factory=dict[int, tuple[Cascade, int]]
    )

    def claim(self, laws: int, ops: Iterable[Op], span: Span) -> None:
        """Laws of these operators are about to be tried."""
        self.laws += laws * (_TRIAL + sum(self._written_out(op)[0] for op in ops))
        limits.LAWS.check(self.laws, span, ResolveError, at_least=True)

    def inline(self, called: Cascade, span: Span | None) -> None:
        """A cascade is about to be written out."""
        if id(called) not in self._cascades:
            self._cascades[id(called)] = called, _nodes(called)  # it lives on, as does its id
        self.inlined += self._cascades[id(called)][1]
        limits.INLINED.check(self.inlined, span, ResolveError, at_least=True)

    def write_out(self, made: UserOperator, span: Span) -> None:
        """An operator is defined.

        Raises:
            ResolveError: with the operators that it is made of written out, it is too large or
                deep.
        """
        nodes, depth = self._written_out(made)
        limits.OPERATOR.check(nodes, span, ResolveError)
        if depth > MAX_DEPTH:
            raise ResolveError(
                f"{made}, written out, is nested more than {MAX_DEPTH} deep",
                span=span,
                hint=limits.OPERATOR.instead,
            )

    def _written_out(self, op: Op) -> tuple[int, int]:
        """The nodes of an operator and its depth, with those that it applies and its laws name."""
        if not isinstance(op, UserOperator):
            return 1, 0
        if id(op) not in self._operators:
            nodes = deepest = 0
            for node, depth in (*((named, 1) for named in op.named), *levels(op.body)):
                applied = node.op if isinstance(node, Map | Reduce) else node
                if isinstance(applied, UserOperator):
                    more, below = self._written_out(applied)
                    nodes += more
                    depth += below
                nodes += 1
                deepest = max(deepest, depth)
            self._operators[id(op)] = op, nodes, deepest
        return self._operators[id(op)][1:]


def _nodes(cascade: Cascade) -> int:
    """What has to be written for a call: declarations, and the nodes of every Einsum."""
    declared = len(cascade.inputs) + len(cascade.ranks) + len(cascade.partitions)
    roots = [root for e in cascade.einsums for root in (e.expr, e.where) if root is not None]
    return declared + sum(
        1 + (len(node.indices) if isinstance(node, Access) else 0)
        for root in (*roots, *cascade.assumptions)
        for node in walk(root)
    )
