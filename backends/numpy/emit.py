"""A Cascade as the source of a Python module that computes it with NumPy alone.

Each Einsum becomes a statement or a few: a product of two factors a call of matmul or tensordot,
anything else ufuncs on arrays that broadcast, then `ufunc.reduce`. Where that would hold more
points than an operand or the result has, a loop over blocks of the reduced variables bounds them.
Sizes are read off the inputs' shapes, so one text serves all shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import Access, Einsum
from ...ir.infer import infer_dtypes
from ...ir.printer import print_einsum
from ...ir.ranks import RankExpr
from .frame import Frame
from .helpers import HELPERS
from .pairs import in_pairs
from .reads import MAX_AXES
from .statements import EinsumEmitter
from .values import Value


def emit(cascade: Cascade, dtypes: Mapping[str, DType] | None = None) -> str:
    """The source of a module with one function, named after the Cascade.

    The function takes the inputs in order, and returns the output, or a tuple of them; a result
    may be a view of an input. Where its last step can write in place it takes `out` as well.

    Args:
        cascade: verified; every input's dtype declared, or given in `dtypes`.
        dtypes: dtypes of inputs by name, for those that declare none.

    Raises:
        OperandError: a dtype is not known, or does not go with an operator.
        RankError: the extent of a rank follows from no input.
        UnsupportedError: an array of more than 64 axes would be needed.
    """
    known = infer_dtypes(cascade, dtypes or {})
    cascade = replace(
        cascade,
        inputs=tuple(replace(decl, dtype=known[decl.name]) for decl in cascade.inputs),
    )
    cascade = in_pairs(cascade, MAX_AXES)
    frame = Frame(cascade, infer_dtypes(cascade, {}))
    *earlier, last = cascade.einsums
    for einsum in earlier:
        _assign(frame, einsum, _value(frame, einsum))
    value = _value(frame, last)
    if len(cascade.outputs) == 1 and cascade.outputs[0] == last.name:
        in_place = value.call is not None
        frame.line(f"return {value.call}, out=out)" if in_place else f"return {value.text}")
        return _module(frame, with_out=in_place)
    _assign(frame, last, value)
    frame.line(f"return {', '.join(map(frame.tensor, cascade.outputs))}")
    return _module(frame, with_out=False)


def _value(frame: Frame, einsum: Einsum) -> Value:
    frame.line(f"# {print_einsum(einsum)}")
    return EinsumEmitter(frame, einsum).emit()


def _assign(frame: Frame, einsum: Einsum, value: Value) -> None:
    frame.line(f"{frame.tensor(einsum.name)} = {value.text}")


def _module(frame: Frame, *, with_out: bool) -> str:
    cascade = frame.cascade
    inputs = ", ".join(map(str, cascade.inputs))
    shown = [
        f"{access.tensor}[{','.join(_left(index) for index in access.indices)}]: "
        f"{frame.dtypes[access.tensor]}"
        for access in cascade.output_accesses()
    ]
    helpers = [HELPERS[name].strip("\n") for name in HELPERS if name in frame.uses]
    parameters = ", ".join([*frame.parameters, *(["out=None"] if with_out else [])])
    body = [
        '@np.errstate(all="ignore")  # NumPy\'s einsum does not warn of overflow or NaN either',
        f"def {frame.function}({parameters}):",
        f'    """{inputs} -> {", ".join(shown)}"""',
        *frame.size_lines(),
        *frame.lines,
    ]
    text = "\n".join(body)
    imports = ["import math"] if "math" in frame.uses or "math." in text else []
    imports += ["", "import numpy as np"] if imports else ["import numpy as np"]
    if "ml_dtypes." in text:
        imports.insert(-1, "import ml_dtypes")
    return "\n\n\n".join(["\n".join(imports), *helpers, text]) + "\n"


def _left(index: RankExpr | Access) -> str:
    variable = index.variable if isinstance(index, RankExpr) else None
    return variable.upper() if variable else "1"
