"""Random cascades, lowered to slots, against the interpreter."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from einloom.compiler import parse
from einloom.ir.errors import UnsupportedError
from einloom.ir.interpreter import evaluate
from einloom.ir.slot_executor import execute
from einloom.ir.slot_parser import parse_slots
from einloom.passes.fhe.lower import Lowered, lower

from ...generated import examples
from .random_cascades import INPUTS, SIZES, Sample, samples

SHAPES = {name: tuple(SIZES[v] for v in axes) for name, axes in INPUTS.items()}


@examples(60)
@given(samples(), st.sampled_from([4, 8, 32]))
def test_the_program_computes_the_cascade(sample: Sample, slots: int) -> None:
    """In few slots a tensor takes several ciphertexts."""
    cascade = parse(sample.text)
    rng = np.random.default_rng(sample.seed)
    arrays = {name: rng.uniform(-1.5, 1.5, shape) for name, shape in SHAPES.items()}
    wanted = evaluate(cascade, arrays)
    for layout in ("row-major", "free"):
        made: Lowered | None = None
        with suppress(UnsupportedError):  # what is encrypted may cancel
            made = lower(cascade, SHAPES, sample.secret, slots=slots, layout=layout)
        if made is None:
            return
        inputs = made.inputs(arrays)
        found = execute(made.program, inputs, rng) | {name: inputs[name] for name in made.clear}
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            scale = max(np.abs(value).max(initial=1.0), 1.0)
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-9 * scale)
        assert parse_slots(str(made.program)) == made.program
