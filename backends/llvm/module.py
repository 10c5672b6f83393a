"""A kernel as a Python module that needs NumPy alone: a function of arrays, and its code."""

from __future__ import annotations

import base64
import builtins
import json
import keyword
import zlib
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

from ...ir.dtypes import DType
from ...ir.loops import ArrayAxis, Buffer, LoopProgram
from ...ir.ranks import Quotient, RankExpr
from . import standalone
from .codegen import entry_name
from .header import identifiers, in_sizes

#: Names that the module or Python itself has other uses for.
_TAKEN = {*vars(standalone), *dir(builtins), *keyword.kwlist, "out", "ml_dtypes"}


def module(program: LoopProgram, library: bytes, system: str, machine: str, built_for: str) -> str:
    """The module's text.

    Args:
        program: what `library`, a shared object, does.
        system, machine: what the library is for, by `sys.platform` and `platform.machine()`.
        built_for: the processors, in words.
    """
    name = _free(program.name)
    buffers = (*program.inputs, *program.outputs)
    needs = ["ml_dtypes"] if any(buffer.dtype.name == "bf16" for buffer in buffers) else []
    _, _, runtime = Path(standalone.__file__).read_text("utf-8").partition('"""\n\n')
    code = base64.b85encode(zlib.compress(library, 9)).decode()
    code = "\n".join(code[at : at + 100] for at in range(0, len(code), 100))
    return f'''\
"""{name}: made by einloom for {built_for} on {system}. It needs {" and ".join(["NumPy", *needs])}.

{indent(_summary(program), "    ")}
"""

{runtime.rstrip()}


{"".join(f"import {package}{chr(10)}" for package in needs)}{_function(program, name)}

_CODE = """\\
{code}
"""

_kernel = Kernel(
    load_library(_CODE, {_quoted(system)}, {_quoted(machine)}),
    {_quoted(entry_name(program))},
    {_quoted(built_for)},
)
'''


def _function(program: LoopProgram, name: str) -> str:
    """The function: it looks at the arrays, finds the sizes, and calls the kernel."""
    buffers, count = (*program.inputs, *program.outputs), len(program.inputs)
    tensors = [_free(tensor) for tensor in identifiers([buffer.name for buffer in buffers], "T")]
    ranks = identifiers([size.name for size in program.sizes], "R")
    sizes = {size.name: f"size_{rank}" for size, rank in zip(program.sizes, ranks, strict=True)}
    sizes = {rank: _apart(size, tensors) for rank, size in sizes.items()}
    place = {buffer.name: tensor for buffer, tensor in zip(buffers, tensors, strict=True)}
    lines = [
        f"{place[b.name]} = as_input({place[b.name]}, {_quoted(b.name)}, {_dtype(b.dtype)}, "
        f"{len(b.extents)})"
        for b in program.inputs
    ]
    for size in program.sizes:
        if isinstance(size.source, ArrayAxis):
            value = f"{place[size.source.buffer]}.shape[{size.source.axis}]"
        else:
            value = f"max({_derived(size.source, sizes)}, 0)"
        lines.append(f"{sizes[size.name]} = {value}")
    lines += [
        f"check_shape({place[b.name]}, {_quoted(b.name)}, {_quoted(_axes(b))}, {_shape(b, sizes)})"
        for b in program.inputs
        if b.extents
    ]
    given = ", ".join(
        place[b.name] if b.unit is None else f"with_unit_stride({place[b.name]})"
        for b in program.inputs
    )
    results = "".join(
        f"        ({_quoted(b.name)}, {_shape(b, sizes)}, {_dtype(b.dtype)}),\n"
        for b in program.outputs
    )
    body = "\n    ".join(lines)
    return f'''\
def {name}({", ".join([*tensors[:count], "*", "out=None"])}):
    """{_summary(program)}

    Arrays of any strides. `out`: an array for the result, or a tuple of them for several.
    A TypeError or ValueError says which array does not fit, and how.
    """
    {body}
    outputs = [
{results}    ]
    return _kernel([{", ".join(sizes.values())}], [{given}], outputs, out)'''


def _summary(program: LoopProgram) -> str:
    """What goes in, what comes out."""
    before, after = (
        ", ".join(f"{b.name}[{_axes(b)}]: {b.dtype}" for b in buffers)
        for buffers in (program.inputs, program.outputs)
    )
    return f"{before} -> {after}"


def _axes(buffer: Buffer) -> str:
    return ",".join(map(str, buffer.extents))


def _shape(buffer: Buffer, sizes: Mapping[str, str]) -> str:
    extents = [in_sizes(extent, sizes) for extent in buffer.extents]
    return f"({', '.join(extents)}{',' * (len(extents) == 1)})"


def _derived(source: RankExpr | Quotient, sizes: Mapping[str, str]) -> str:
    if not isinstance(source, Quotient):
        return in_sizes(source, sizes)
    dividend, divisor = (in_sizes(part, sizes) for part in (source.dividend, source.divisor))
    return f"({dividend}) // ({divisor}) + {source.offset}"


def _dtype(dtype: DType) -> str:
    return "ml_dtypes.bfloat16" if dtype.name == "bf16" else _quoted(dtype.numpy.name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _free(name: str) -> str:
    """The name, or, where it has another use, a like one."""
    return _apart(name, _TAKEN)


def _apart(name: str, taken: set[str] | list[str]) -> str:
    while name in taken:
        name += "_"
    return name
