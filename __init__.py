"""einloom: an einsum-centred tensor compiler.

Names are loaded when they are first used, so that `import einloom` costs little more than NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from einloom.api import einsum_path
    from einloom.backends.llvm.buffers import get_buffer_pool_limit, set_buffer_pool_limit
    from einloom.backends.llvm.threads import get_num_threads, set_num_threads
    from einloom.compiler import (
        compile,
        counterexample,
        evaluate,
        grad,
        parse,
        rewrite,
    )
    from einloom.encrypted import Encrypted
    from einloom.entry import einsum
    from einloom.executable import Executable
    from einloom.expression import ContractExpression, contract_expression
    from einloom.frontend.handles import Tensor, sizes, tensors, variables
    from einloom.frontend.operations import ops
    from einloom.frontend.trace import operator, partition, ranks, semiring, trace
    from einloom.ir.cascade import Cascade
    from einloom.ir.errors import EinloomError
    from einloom.passes.analysis.fusion import Group
    from einloom.passes.base import Pipeline
    from einloom.passes.fhe.approximate import Approximation
    from einloom.passes.registry import available_passes
    from einloom.reports import accelerator, cost, count_passes, pack, traffic
    from einloom.specialisation import fallbacks

__version__ = "0.1.0"

_HOMES = {
    "ContractExpression": "einloom.expression",
    "contract_expression": "einloom.expression",
    "einsum": "einloom.entry",
    "einsum_path": "einloom.api",
    "accelerator": "einloom.reports",
    "compile": "einloom.compiler",
    "cost": "einloom.reports",
    "count_passes": "einloom.reports",
    "counterexample": "einloom.compiler",
    "evaluate": "einloom.compiler",
    "grad": "einloom.compiler",
    "pack": "einloom.reports",
    "parse": "einloom.compiler",
    "rewrite": "einloom.compiler",
    "traffic": "einloom.reports",
    "Encrypted": "einloom.encrypted",
    "Executable": "einloom.executable",
    "fallbacks": "einloom.specialisation",
    "get_buffer_pool_limit": "einloom.backends.llvm.buffers",
    "set_buffer_pool_limit": "einloom.backends.llvm.buffers",
    "get_num_threads": "einloom.backends.llvm.threads",
    "set_num_threads": "einloom.backends.llvm.threads",
    "Tensor": "einloom.frontend.handles",
    "ops": "einloom.frontend.operations",
    "sizes": "einloom.frontend.handles",
    "tensors": "einloom.frontend.handles",
    "variables": "einloom.frontend.handles",
    "operator": "einloom.frontend.trace",
    "partition": "einloom.frontend.trace",
    "ranks": "einloom.frontend.trace",
    "semiring": "einloom.frontend.trace",
    "trace": "einloom.frontend.trace",
    "Cascade": "einloom.ir.cascade",
    "EinloomError": "einloom.ir.errors",
    "Pipeline": "einloom.passes.base",
    "Approximation": "einloom.passes.fhe.approximate",
    "Group": "einloom.passes.analysis.fusion",
    "available_passes": "einloom.passes.registry",
}

__all__ = [
    "Approximation",
    "Cascade",
    "ContractExpression",
    "EinloomError",
    "Encrypted",
    "Executable",
    "Group",
    "Pipeline",
    "Tensor",
    "accelerator",
    "available_passes",
    "compile",
    "contract_expression",
    "cost",
    "count_passes",
    "counterexample",
    "einsum",
    "einsum_path",
    "evaluate",
    "fallbacks",
    "get_buffer_pool_limit",
    "get_num_threads",
    "grad",
    "operator",
    "ops",
    "pack",
    "parse",
    "partition",
    "ranks",
    "rewrite",
    "semiring",
    "set_buffer_pool_limit",
    "set_num_threads",
    "sizes",
    "tensors",
    "trace",
    "traffic",
    "variables",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'einloom' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
