"""Random products, packed in every way, against the interpreter."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from einloom.compiler import parse
from einloom.ir.errors import SlotError, UnsupportedError
from einloom.ir.interpreter import evaluate
from einloom.ir.slot_executor import execute
from einloom.ir.slot_parser import parse_slots
from einloom.ir.slots import SlotProgram
from einloom.passes.fhe.einhops import einhops
from einloom.passes.fhe.pack import plans
from einloom.passes.fhe.problem import problem_of

from ...generated import examples

SLOTS = 256
#: A copy of B along j must not take along what follows the part that is read.
PARTLY = """cascade f(A[I,I,J], B[I+1]) -> Y {
  ranks I = 1, J = 2
  Y[] = A[i,i,j] * B[i]
}"""
#: Three operands are encrypted: the fourth takes no level of its own.
ODD = """cascade f(A[], B[I], C[], D[J]) -> Y {
  ranks I = 1, J = 2
  Y[i] = A[] * B[i] * C[] * D[j]
}"""


@st.composite
def products(draw: st.DrawFn) -> tuple[str, list[str], int]:
    """The text of a cascade, the inputs that are encrypted, and a seed.

    An axis may be longer than what is read of it, and an index may be repeated.
    """
    labels = draw(st.lists(st.sampled_from("ijkl"), min_size=1, max_size=4, unique=True))
    sizes = {label: draw(st.integers(1, 4)) for label in labels}
    terms = draw(st.lists(st.lists(st.sampled_from(labels), max_size=3), min_size=1, max_size=4))
    read = sorted({label for term in terms for label in term})
    output = draw(st.permutations(read))[: draw(st.integers(0, len(read)))]
    if draw(st.booleans()):
        output += output[:1]
    longer = draw(st.lists(st.booleans(), min_size=12, max_size=12))
    axes = iter(longer if draw(st.booleans()) else [False] * 12)
    inputs = [
        f"{name}[{','.join(v.upper() + '+1' * next(axes) for v in term)}]"
        for name, term in zip("ABCD", terms, strict=False)
    ]
    factors = [f"{name}[{','.join(term)}]" for name, term in zip("ABCD", terms, strict=False)]
    ranks = ", ".join(f"{label.upper()} = {sizes[label]}" for label in read)
    text = (
        f"cascade f({', '.join(inputs)}) -> Y {{\n"
        + (f"  ranks {ranks}\n" if ranks else "")
        + f"  Y[{','.join(output)}] = {' * '.join(factors)}\n}}"
    )
    secret = draw(st.lists(st.sampled_from("ABCD"[: len(terms)]), min_size=1, unique=True))
    return text, secret, draw(st.integers(0, 99))


@examples(40)
@given(products())
@example((PARTLY, ["A", "B"], 0))
@example((ODD, ["A", "B", "C"], 0))
def test_every_packing_computes_the_product(sample: tuple[str, list[str], int]) -> None:
    text, secret, seed = sample
    cascade = parse(text)
    rng = np.random.default_rng(seed)
    sizes = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    arrays = {
        decl.name: rng.integers(-4, 5, [extent.value(sizes) for extent in decl.extents]) * 1.0
        for decl in cascade.inputs
    }
    wanted = evaluate(cascade, arrays)["Y"]
    problem = problem_of(cascade, {name: each.shape for name, each in arrays.items()}, secret)
    found: list[SlotProgram] = []
    with suppress(SlotError, UnsupportedError):  # what it does not take has tests of its own
        found.append(einhops(problem, SLOTS))
    for layout in ("row-major", "free"):
        for slots in (SLOTS, 8):
            found += [plan.program for plan in plans(problem, slots, layout=layout, most=5)]
    for program in dict.fromkeys(found):
        assert parse_slots(str(program)) == program
        assert np.array_equal(execute(program, arrays, rng)["Y"], wanted), program
