"""opt_einsum's own tests of contraction, from the installed package, on einloom's calls.

`contract` is `el.einsum`, `contract_expression` is `el.contract_expression`. A test runs here if
its code calls one of them; docs/dialect.md says which of those do not run, and why.
"""

from types import CodeType

import opt_einsum

from .peers import SWITCH, StandIn, collected, load

STAND_IN = StandIn(
    opt_einsum,
    {
        "contract": SWITCH.contract,
        "contract_expression": SWITCH.contract_expression,
    },
)
#: In the one module that gives `contract_path` the errors of `contract`, it is `el.einsum_path`.
WITH_PATH = StandIn(STAND_IN, {"contract_path": SWITCH.einsum_path})

REPLACED = {"contract", "contract_expression", "contract_fn"}


def calls_einloom(code: CodeType) -> bool:
    """Whether a test's code, or a function in it, names one of the calls that are replaced."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return not REPLACED.isdisjoint(code.co_names + code.co_varnames) or any(
        map(calls_einloom, inner)
    )


for module in ("contract", "edge_cases", "input", "paths", "blas", "backends"):
    names = load(f"opt_einsum.tests.test_{module}", WITH_PATH if module == "input" else STAND_IN)
    for name, candidate in collected(names).items():
        if module == "backends" and name != "test_object_arrays_backend":
            continue  # arrays of other libraries
        if name.startswith("test_compare_blas"):
            continue  # `test_compare` without its use_blas=False
        if calls_einloom(candidate.__code__):
            globals()[f"test_{module}__{name}"] = candidate
    del names


def test_that_the_right_tests_are_found() -> None:
    """A later opt_einsum may move or rename tests; this list is what ran when it was written."""
    SWITCH.einsum("i->", [1])
    found = {name for name in globals() if "__test_" in name}
    assert found >= {
        "test_contract__test_compare",
        "test_contract__test_drop_in_replacement",
        "test_contract__test_contract_expressions",
        "test_contract__test_contract_expression_with_constants",
        "test_edge_cases__test_contract_expression_checks",
        "test_input__test_value_errors",
        "test_paths__test_custom_path_optimizer",
        "test_blas__test_blas_out",
        "test_backends__test_object_arrays_backend",
    }
