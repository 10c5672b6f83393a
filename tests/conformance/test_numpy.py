"""NumPy's own tests of `einsum` and `einsum_path`, from the installed package, on einloom's."""

import numpy as np

from .peers import SWITCH, StandIn, collected, load

MODULE = "numpy._core.tests.test_einsum"

_names = load(MODULE, StandIn(np, {"einsum": SWITCH.einsum, "einsum_path": SWITCH.einsum_path}))
globals().update(collected(_names))
