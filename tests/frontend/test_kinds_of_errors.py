"""One golden file for each kind of mistake that a cascade can hold: carets at the fault, a hint."""

from __future__ import annotations

import re

import pytest

from einloom.frontend.parser import parse_cascade
from einloom.ir.errors import EinloomError

from ..support import Golden

#: Kind of mistake -> a text with it, in which `«` and `»` stand around the fault.
KINDS = {
    "unknown_tensor": """
cascade f(A[I,J], B[J]) -> Y {
  Y[i] = A[i,j] * «C»[j]
}""",
    "rank_mismatch": """
cascade f(A[I,J], B[J]) -> Y {
  Y[i] = «A[i]» * B[j]
}""",
    "variable_bound_nowhere": """
cascade f(A[I,J], B[J]) -> Y {
  Y[i] = A[i,0] where i < «j» else 0
}""",
    "use_before_definition": """
cascade f(A[I,J], B[J]) -> Y {
  Z[i] = 2 * «Y»[i]
  Y[i] = A[i,j] * B[j]
}""",
    "redefinition": """
cascade f(A[I,J], B[J]) -> Y {
  Y[i] = A[i,j] * B[j]
  «Y[i]» = A[i,0]
}""",
    "scan_that_reads_ahead": """
cascade f(A[I]) -> S {
  S[0] = 0
  S[i+1] = «S[i+1]» + A[i]
}""",
    "reduction_without_identity": """
op mean(a, b) = (a + b) / 2
cascade f(A[I,J]) -> Y {
  Y[i] = «mean»[j] A[i,j]
}""",
    "law_refuted": """
op less(a, b) [«commutative»] = a - b
cascade f(A[I]) -> Y {
  Y[i] = less(A[i], 1)
}""",
    "filter_never_true": """
cascade f(A[I,J]) -> Y {
  Y[i] = A[i,j] where «j >= J»
}""",
    "filters_that_contradict": """
cascade f(A[I,J]) -> Y {
  Y[i] = A[i,j] where («i < j») & («j <= i»)
}""",
    "ambiguous_size": """
cascade f(X[H], F[R]) -> Y {
  Y[«p»] = X[p+1] * F[p+1]
}""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said(kind: str, golden: Golden) -> None:
    text = KINDS[kind].strip()
    with pytest.raises(EinloomError) as caught:
        parse_cascade(re.sub("[«»]", "", text))
    said = str(caught.value)
    assert caught.value.hint
    assert _marked(said) == re.findall("«(.*?)»", text)
    golden(f"frontend/kinds/{kind}.txt", f"{type(caught.value).__name__}: {said}\n")


def _marked(said: str) -> list[str]:
    """What stands above the carets."""
    lines = said.split("\n")
    at = next(n for n, line in enumerate(lines) if set(line) == {" ", "^"})
    return [lines[at - 1][found.start() : found.end()] for found in re.finditer(r"\^+", lines[at])]
