"""A Cascade as the source of a Python module that computes it with NumPy alone.

Each Einsum becomes a statement or a few: a product of two factors a call of matmul or tensordot,
anything else ufuncs on arrays that broadcast, then `ufunc.reduce`. Where that would hold more
points than an operand or the result has, a loop over blocks of the reduced variables bounds them.
Sizes are read off the inputs' shapes, so one text serves all shapes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ...ir.cascade import Cascade
from ...ir.dtypes import DType
from ...ir.einsum import Einsum
from ...ir.infer import infer_dtypes
from ...ir.printer import print_einsum
from ...ir.scans import Scan, Stage, at, stages
from ...ir.windows import narrowed, shifts
from .formulas import dtype_text
from .frame import Frame, tuple_text
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
    *earlier, last = stages(cascade)
    stepping = {einsum.name for einsum in cascade.einsums if einsum.step is not None}
    for stage in earlier:
        _stage(frame, stage, stepping)
    alone = isinstance(last, Einsum) and cascade.outputs == (last.name,)
    if not isinstance(last, Einsum) or last.name in stepping or not alone:
        _stage(frame, last, stepping)
        frame.line(f"return {', '.join(map(frame.tensor, cascade.outputs))}")
        return _module(frame, with_out=False)
    value = _value(frame, narrowed(last, frame.windows, {}), last)
    in_place = value.call is not None
    frame.line(f"return {value.call}, out=out)" if in_place else f"return {value.text}")
    return _module(frame, with_out=in_place)


def _stage(frame: Frame, stage: Stage, stepping: Collection[str]) -> None:
    """The statements of an Einsum, or of a scan: a loop in which its coordinate is a number."""
    if isinstance(stage, Einsum):
        if stage.name in stepping:
            _write(frame, narrowed(stage, frame.windows, {}), stage)
        else:
            value = _value(frame, narrowed(stage, frame.windows, {}), stage)
            frame.line(f"{frame.tensor(stage.name)} = {value.text}")
        return
    for einsum in stage.einsums:
        _room(frame, einsum.name)
    _scan(frame, stage, {})


def _scan(frame: Frame, scan: Scan, around: Mapping[str, str]) -> None:
    """The loop of a scan; `around` has the coordinates of those around it, by their variables."""
    coordinate = scan.rank + "'"
    places = {**around, scan.variable: coordinate}
    name = frame.coordinate(coordinate, scan.variable)
    with frame.block(f"for {name} in range({frame.rank_size(scan.rank)}):"):
        for member in scan.members:
            if isinstance(member, Scan):
                _scan(frame, member, places)
            else:
                here = narrowed(at(member, places), frame.windows, places)
                _write(frame, here, member)
        for shift in shifts(scan, frame.windows):
            _write(frame, at(shift, around), shift)


def _room(frame: Frame, tensor: str) -> None:
    """An array for what is written part by part, unless there is one."""
    if tensor not in frame.roomed:
        frame.roomed.add(tensor)
        shape = tuple_text([frame.expression(extent) for extent in frame.extents[tensor]])
        dtype = dtype_text(frame.dtypes[tensor])
        frame.line(f"{frame.tensor(tensor)} = np.empty({shape}, {dtype})")


def _write(frame: Frame, einsum: Einsum, shown: Einsum) -> None:
    """What a start, or a member of a scan at a coordinate, defines, written where it belongs."""
    _room(frame, einsum.name)
    frame.line(f"# {print_einsum(shown)}")
    value = EinsumEmitter(frame, einsum).over_free()
    place = ", ".join(
        (f"{index.offset}:" if index.offset else ":")
        if any(index.variables())
        else frame.expression(index)
        for index in einsum.left
    )
    frame.line(f"{frame.tensor(einsum.name)}[{place}] = {value}")


def _value(frame: Frame, einsum: Einsum, shown: Einsum) -> Value:
    frame.line(f"# {print_einsum(shown)}")
    return EinsumEmitter(frame, einsum).emit()


def _module(frame: Frame, *, with_out: bool) -> str:
    cascade = frame.cascade
    inputs = ", ".join(map(str, cascade.inputs))
    shown = [
        f"{name}[{','.join(map(str, frame.extents[name]))}]: {frame.dtypes[name]}"
        for name in cascade.outputs
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
