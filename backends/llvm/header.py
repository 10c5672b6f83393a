"""The C header that goes with a kernel's object: a typed function around the packed entry.

A tensor, a rank or a cascade may have any name, one that C, its library or this header uses too. So
each bears a mark here, and no two kinds the same one: `einloom_f` is the function of a cascade f,
`A_data` and `A_strides` are a tensor A, `size_I` a rank I; types begin with `Einloom`, macros with
`EINLOOM_`, and the packed entry (codegen.py) with neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...ir.dtypes import DType
from ...ir.loops import ArrayAxis, Buffer, LoopProgram
from ...ir.ranks import Quotient, RankExpr
from .codegen import entry_name

#: dtype -> (C type, the lines that define it)
_TYPES: dict[str, tuple[str, str]] = {
    "bool": ("bool", ""),
    **{f"i{bits}": (f"int{bits}_t", "") for bits in (8, 16, 32, 64)},
    **{f"u{bits}": (f"uint{bits}_t", "") for bits in (8, 16, 32, 64)},
    "f32": ("float", ""),
    "f64": ("double", ""),
    "f16": (
        "EinloomF16",
        """\
#if defined(__GNUC__) && defined(__FLT16_MAX__)
__extension__ typedef _Float16 EinloomF16;
#else
typedef uint16_t EinloomF16; /* the bits of an IEEE binary16 */
#endif""",
    ),
    "bf16": ("EinloomBF16", "typedef uint16_t EinloomBF16; /* the upper half of a float */"),
    **{
        name: (
            f"Einloom{name.upper()}",
            f"""\
#ifdef __cplusplus
#include <complex>
typedef std::complex<{part}> Einloom{name.upper()};
#else
typedef {part} _Complex Einloom{name.upper()};
#endif""",
        )
        for name, part in (("c64", "float"), ("c128", "double"))
    },
}

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def header(program: LoopProgram) -> str:
    """The header, for C99 or later and C++11 or later.

    Its function takes, for each tensor, a pointer and its strides in elements (none for a tensor
    without axes), and then the size of each rank.
    """
    name = f"einloom_{program.name}"
    guard = f"EINLOOM_{program.name}_H"
    buffers = (*program.inputs, *program.outputs)
    given = [size.name for size in program.sizes if isinstance(size.source, ArrayAxis)]
    tensors = identifiers([buffer.name for buffer in buffers], "T")
    ranks = identifiers([size.name for size in program.sizes], "R")
    sizes = {size.name: f"size_{r}" for size, r in zip(program.sizes, ranks, strict=True)}
    derived = [
        _derived(sizes[size.name], size.source, sizes)
        for size in program.sizes
        if not isinstance(size.source, ArrayAxis)
    ]
    arguments = [
        argument
        for tensor, buffer in zip(tensors, buffers, strict=True)
        for argument in _arguments(tensor, buffer, is_input=buffer in program.inputs)
    ]
    arguments += [f"int64_t {sizes[rank]}" for rank in given]
    parameters = list(sizes.values())
    for tensor, buffer in zip(tensors, buffers, strict=True):
        parameters += _strides(tensor, buffer, sizes)
    definitions = [_definition(dtype) for dtype in dict.fromkeys(b.dtype for b in buffers)]
    indent = ",\n    "
    return f"""\
/* {name}: made by einloom. Compile with the object file of the same kernel, and -lm.

{_description(program, tensors, sizes)}
   X_data: the elements of X.
   X_strides: the distance in elements from one coordinate to the next, for each axis of X; it may
   be 0 or negative. NULL means that X is dense and row-major (C order). An output overlaps no
   input. The function keeps no state: threads may call it at the same time.

   Returns EINLOOM_OK or what went wrong; unless that is EINLOOM_STRIDES, the outputs are then
   undefined. */
#ifndef {guard}
#define {guard}

#include <stdbool.h>
#include <stdint.h>

#ifndef EINLOOM_OK
#define EINLOOM_OK 0
#define EINLOOM_STRIDES 1      /* an axis that must have stride 1 has another; nothing is written */
#define EINLOOM_NO_MEMORY 2    /* malloc gave none for an intermediate */
#define EINLOOM_OUT_OF_RANGE 3 /* an index is outside of its tensor */
#define EINLOOM_NO_PROCESSOR 4 /* no variant of the code is for this processor */
#endif

{"".join(definitions)}#ifdef __cplusplus
extern "C"
#endif
int32_t {entry_name(program)}(const int64_t *params, const void *const *data);

static inline int {name}(
    {indent.join(arguments) or "void"}) {{
  {"".join(derived)}/* the sizes, then the stride in bytes of each axis */
  const int64_t params[] = {{
    {indent.join([*parameters, "0"])}}};
  const void *const data[] = {{{", ".join([*(f"{tensor}_data" for tensor in tensors), "0"])}}};
  return {entry_name(program)}(params, data);
}}

#endif
"""


def _description(program: LoopProgram, tensors: list[str], sizes: dict[str, str]) -> str:
    """What each argument is."""
    lines: list[str] = []
    for tensor, buffer in zip(tensors, (*program.inputs, *program.outputs), strict=True):
        role = "input" if buffer in program.inputs else "output"
        axes = ", ".join(in_sizes(extent, sizes) for extent in buffer.extents)
        unit = "" if buffer.unit is None else f"; stride 1 on axis {buffer.unit}"
        shape = f"[{axes}]" if buffer.extents else "one element"
        lines.append(f"   {role} {tensor}: {shape}, {buffer.dtype}{unit}\n")
    return "".join(lines)


def _arguments(tensor: str, buffer: Buffer, *, is_input: bool) -> list[str]:
    pointer = f"{'const ' * is_input}{_TYPES[buffer.dtype.name][0]} *{tensor}_data"
    if not buffer.extents:
        return [pointer]
    return [pointer, f"const int64_t *{tensor}_strides /* [{len(buffer.extents)}] or NULL */"]


def _strides(tensor: str, buffer: Buffer, sizes: dict[str, str]) -> list[str]:
    """The stride in bytes of each axis: as given, or that of a dense array."""
    found: list[str] = []
    for axis in range(len(buffer.extents)):
        later = [_in_parentheses(in_sizes(e, sizes)) for e in buffer.extents[axis + 1 :]]
        dense = " * ".join(later) or "1"
        stride = f"({tensor}_strides ? {tensor}_strides[{axis}] : {dense})"
        found.append(f"{stride} * {buffer.dtype.itemsize}")
    return found


def _derived(name: str, source: RankExpr | Quotient, sizes: dict[str, str]) -> str:
    """The definition of a size that follows from others: rounded down, and never below 0."""
    if isinstance(source, Quotient):
        dividend, divisor = (
            _in_parentheses(in_sizes(part, sizes)) for part in (source.dividend, source.divisor)
        )
        below = f"-((-{dividend} + {divisor} - 1) / {divisor})"
        whole = f"({divisor} < 1 ? 0 : {dividend} < 0 ? {below} : {dividend} / {divisor})"
        text = f"{whole} + {source.offset}".replace("+ -", "- ")
    else:
        text = in_sizes(source, sizes)
    signed = "-" in text
    return f"const int64_t {name} = {f'({text}) < 0 ? 0 : {text}' if signed else text};\n  "


def in_sizes(expression: RankExpr, sizes: Mapping[str, str]) -> str:
    """An expression in sizes, which have these names, in C and in Python."""
    terms = [
        " * ".join(
            [str(term.coefficient)] * (term.coefficient != 1) + [sizes[s] for s in term.sizes]
        )
        or "1"
        for term in expression.terms
    ]
    if expression.offset or not terms:
        terms.append(str(expression.offset))
    return " + ".join(terms).replace("+ -", "- ")


def _in_parentheses(expression: str) -> str:
    return f"({expression})" if " " in expression else expression


def _definition(dtype: DType) -> str:
    name, lines = _TYPES[dtype.name]
    mark = f"{name.upper()}_DEFINED"
    return f"#ifndef {mark}\n#define {mark}\n{lines}\n#endif\n\n" if lines else ""


def identifiers(names: Sequence[str], otherwise: str) -> list[str]:
    """The names as C can have them: `otherwise` for one of other letters, numbered if not new."""
    stems = [name if _IDENTIFIER.fullmatch(name) else otherwise for name in names]
    found: list[str] = []
    for name in stems:
        number, distinct = 0, name
        while distinct in found or (number and distinct in stems):
            number += 1
            distinct = f"{name}{number}"
        found.append(distinct)
    return found
