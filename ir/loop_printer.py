"""Loops, statements and values as text, which `loop_parser` reads back."""

from __future__ import annotations

from .loop_nodes import (
    Apply,
    Assign,
    Begin,
    Collapse,
    Contract,
    Convert,
    Fetch,
    Finish,
    Fold,
    If,
    Index,
    Load,
    Loop,
    LoopNest,
    Number,
    Pack,
    Packed,
    Past,
    Permute,
    Register,
    Special,
    Statement,
    Store,
    Value,
    When,
)
from .printer import print_number
from .ranks import RankExpr


def print_block(body: tuple[Statement, ...], depth: int) -> list[str]:
    """The lines of a statement list, indented by `depth`."""
    margin = "  " * depth
    lines: list[str] = []
    for statement in body:
        if isinstance(statement, LoopNest):
            head = ", ".join(map(print_loop, statement.loops))
            lines += [f"{margin}for {head} {{", *print_block(statement.body, depth + 1)]
            lines.append(margin + "}")
        elif isinstance(statement, Special):
            sizes = ", ".join(f"{rank} {size}" for rank, size in statement.sizes)
            lines += [f"{margin}special {sizes} {{", *print_block(statement.body, depth + 1)]
            lines.append(margin + "}")
        elif isinstance(statement, Past):
            by = " by lines" if statement.by_lines else ""
            head = f"{margin}past {statement.buffer} {statement.bytes}{by} {{"
            lines += [head, *print_block(statement.body, depth + 1), margin + "}"]
        elif isinstance(statement, When):
            head = f"{margin}when {print_value(statement.value)} {{"
            lines += [head, *print_block(statement.body, depth + 1), margin + "}"]
        elif isinstance(statement, If):
            lines += [f"{margin}if {statement.test} {{", *print_block(statement.then, depth + 1)]
            if statement.otherwise:
                lines += [margin + "} else {", *print_block(statement.otherwise, depth + 1)]
            lines.append(margin + "}")
        elif isinstance(statement, Contract):
            lines += [margin + line for line in _contract(statement)]
        elif isinstance(statement, Pack):
            lines.append(margin + _pack(statement))
        elif isinstance(statement, Permute):
            lines += [margin + line for line in _permute(statement)]
        else:
            lines.append(margin + _simple(statement))
    return lines


def print_loop(loop: Loop) -> str:
    """`i in i'..i'+8 below I unroll`."""
    text = f"{loop.variable} in {loop.start}..{loop.stop}"
    if loop.bounds:
        text += f" below {' & '.join(map(str, loop.bounds))}"
    if loop.step.constant != 1:
        text += f" step {loop.step}"
    if loop.kind != "serial":
        text += f" {loop.kind}"
    return text + " once" * loop.once


def _simple(statement: Collapse | Begin | Fold | Assign | Store | Fetch) -> str:
    if isinstance(statement, Collapse):
        steps = ", ".join(f"{name} {outer} {inner}" for name, outer, inner in statement.steps)
        return f"collapse {statement.outer} into {statement.inner} where {steps}"
    if isinstance(statement, Begin):
        over = f" over {', '.join(statement.over)}" if statement.over else ""
        head = f"%{statement.register}: {statement.dtype} begins {statement.op}"
        return f"{head}{over} else {print_value(statement.empty)}"
    if isinstance(statement, Fold):
        where = f" where {print_value(statement.where)}" if statement.where is not None else ""
        return f"%{statement.register} {statement.op}= {print_value(statement.value)}{where}"
    if isinstance(statement, Assign):
        return f"%{statement.register} = {print_value(statement.value)}"
    place = f"{statement.buffer}[{','.join(map(str, statement.indices))}]"
    if isinstance(statement, Fetch):
        return f"fetch {place}"
    return f"{place} = {print_value(statement.value)}"


def _contract(found: Contract) -> list[str]:
    indices = ",".join(map(str, found.indices))
    head = f"contract {found.buffer}[{indices}] {found.op}= {print_value(found.value)}"
    batch = f" batch {', '.join(found.batch)}" if found.batch else ""
    return [
        f"{head} else {print_value(found.empty)}{' near' if found.near else ''}",
        f"  depth {', '.join(found.depth)}{batch}",
        f"  rows {_packed(found.rows)}",
        f"  columns {_packed(found.columns)}",
        *([] if found.finish is None else [f"  finish {_finish(found.finish)}"]),
        f"  tile {found.height} by {found.vectors} block {found.tall} by {found.deep} by "
        f"{found.wide} tables {found.offsets}, {found.runs}",
    ]


def _pack(found: Pack) -> str:
    batch = f" batch {', '.join(found.batch)}" if found.batch else ""
    return (
        f"pack {_packed(found.packed)} depth {', '.join(found.depth)}{batch} "
        f"tile {found.vectors} tables {found.offsets}, {found.runs}"
    )


def _finish(found: Finish) -> str:
    indices = ",".join(map(str, found.indices))
    return f"{found.buffer}[{indices}] {found.op or ''}= {print_value(found.value)}"


def _permute(found: Permute) -> list[str]:
    indices = ",".join(map(str, found.indices))
    wraps = f" wraps {found.wraps}" if found.wraps is not None else ""
    return [
        f"permute {found.buffer}[{indices}] = {print_value(found.value)}",
        f"  loops {', '.join(found.loops)} rows {found.rows} columns {found.columns}{wraps}",
        f"  streamed {found.streamed} block {found.tall} by {found.wide} in {found.staged}",
    ]


def _packed(found: Packed) -> str:
    at = "" if found.at is None else f"[{','.join(map(str, found.at))}]"
    lying = " or" if found.lying else ""
    head = f"{', '.join(found.variables)} of {print_value(found.value)}{lying}"
    return f"{head} in {found.buffer}{at}"


def print_value(value: Value) -> str:
    """`mul(f32(A[i,k]), %s, f32(2.0))`: a dtype's name converts, or says what a number is."""
    if isinstance(value, Number):
        return f"{value.dtype}({print_number(value.value)})"
    if isinstance(value, Index):
        return f"index({value.index})"
    if isinstance(value, Register):
        return f"%{value.name}"
    if isinstance(value, Apply):
        return f"{value.op}({', '.join(map(print_value, value.args))})"
    if isinstance(value, Convert):
        if value.bitcast:
            return f"bitcast({value.dtype}, {print_value(value.arg)})"
        return f"{value.dtype}({print_value(value.arg)})"
    return _load(value)


def _load(load: Load) -> str:
    indices = [
        str(index) if isinstance(index, RankExpr) else "@" + print_value(index)
        for index in load.indices
    ]
    if load.extents:
        indices = [f"{i} of {extent}" for i, extent in zip(indices, load.extents, strict=True)]
    fill = f" else {print_value(load.fill)}" if load.fill is not None else ""
    return f"{load.buffer}[{','.join(indices)}{fill}]"
