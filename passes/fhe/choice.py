"""The packing that was chosen for a product, what it costs, and those that were not chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args
from typing import Literal as OneOf

from ...ir.cascade import Cascade
from ...ir.errors import ArgumentError, SlotError, UnsupportedError
from ...ir.slot_counts import SlotCounts, count
from ...ir.slots import SlotProgram
from .einhops import einhops
from .pack import plans
from .problem import Problem, problem_of

LayoutName: TypeAlias = OneOf["row-major", "free"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
PlanName: TypeAlias = OneOf["best", "einhops"]
PLANS: tuple[PlanName, ...] = get_args(PlanName)
#: How many of the plans that were not chosen are printed, and how many lines of slots.
_LISTED, _ROWS = 5, 4


@dataclass(frozen=True, slots=True)
class Packed:
    """A program on encrypted slots and its counts; `rejected` has a line on each other plan.

    `print` it: the layouts, which element is in which slot, the counts, the plans not taken.
    """

    chosen: str
    program: SlotProgram
    counts: SlotCounts
    rejected: tuple[str, ...]

    def to_svg(self) -> str:
        """A picture of which element lies in which slot, as SVG."""
        from .slot_picture import draw

        return draw(self.program)

    def as_dict(self) -> dict[str, Any]:
        """The plan, its counts, layouts and the program's text: what JSON takes."""
        program = self.program
        return {
            "name": program.name,
            "slots": program.slots,
            "chosen": self.chosen,
            "counts": self.counts.as_dict(),
            "inputs": {each.name: each.layout and str(each.layout) for each in program.inputs},
            "outputs": {each.name: str(each.layout) for each in program.outputs},
            "rejected": list(self.rejected),
            "program": str(program),
        }

    def __str__(self) -> str:
        program = self.program
        lines = [f"{program.name} in {program.slots} slots, {self.chosen}", ""]
        for each in program.inputs:
            lines.append(f"input {each}")
            if each.layout is not None:
                lines += _indented(each.layout.picture(rows=_ROWS))
        for output in program.outputs:
            lines.append(f"output {output.name}: {output.layout}")
            lines += _indented(output.layout.picture(rows=_ROWS))
        lines += ["", str(self.counts)]
        keys = ", ".join(map(str, self.counts.rotation_keys)) or "none"
        lines += [f"steps with a key: {keys}"]
        if self.rejected:
            lines += ["", "not chosen:", *(f"  {line}" for line in self.rejected[:_LISTED])]
            more = len(self.rejected) - _LISTED
            if more > 0:
                lines.append(f"  and {more} more")
        return "\n".join(lines)


def choose(
    cascade: Cascade,
    shapes: Mapping[str, Sequence[int]],
    secret: Collection[str] | None,
    slots: int,
    layout: LayoutName = "row-major",
    plan: PlanName = "best",
) -> Packed:
    """The packing of a Cascade of one product.

    Args:
        shapes: of the inputs, by name.
        secret: the inputs that are encrypted; None: all of them.
        slots: of a ciphertext, a power of two.
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": they
            lie where they are needed.
        plan: "best": the cheapest of einloom's; "einhops": everything as EinHops does it.

    Raises:
        ArgumentError: there is no such layout, plan or input.
        SlotError: the number of slots is not a power of two; nothing fits them.
        UnsupportedError: the product has what no packing takes.
    """
    for what, given, names in (("layout", layout, LAYOUTS), ("plan", plan, PLANS)):
        if given not in names:
            raise ArgumentError(f"there is no {what} {given!r}", hint=f"one of {', '.join(names)}")
    if plan == "einhops" and layout != "row-major":
        raise ArgumentError('EinHops packs row-major: plan="einhops" takes no other layout')
    if slots < 1 or slots & (slots - 1):
        raise SlotError(f"the number of slots is a power of two, not {slots}")
    problem = problem_of(cascade, shapes, secret)
    if plan == "einhops":
        program = einhops(problem, slots)
        counts = count(program)
        return Packed(f"by EinHops: {counts.summary}", program, counts, ())
    best, *others = plans(problem, slots, layout)
    rejected = (*_measure(problem, slots), *map(str, others))
    return Packed(f"{layout}, order {best}", best.program, best.counts, rejected)


def _measure(problem: Problem, slots: int) -> tuple[str, ...]:
    """What EinHops' packing would cost, if it has one."""
    try:
        return (f"EinHops: {count(einhops(problem, slots)).summary}",)
    except (SlotError, UnsupportedError):
        return ()


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.split("\n")]
