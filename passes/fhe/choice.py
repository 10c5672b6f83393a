"""The packing that was chosen for a Cascade, what it costs, and those that were not chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args
from typing import Literal as OneOf

from ...ir.cascade import Cascade
from ...ir.einsum import Access
from ...ir.errors import ArgumentError, LevelError, SlotError, UnsupportedError
from ...ir.slot_counts import SlotCounts, count
from ...ir.slots import SlotProgram
from .approximate import Approximation
from .einhops import einhops
from .lower import Lowered, lower
from .normal import normal_form
from .pack import plans
from .problem import Problem, problem_of
from .program import Levels
from .rotation_keys import KeysName, with_keys
from .steps import Combination, Elementwise, Normal, Product

LayoutName: TypeAlias = OneOf["row-major", "free"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
PlanName: TypeAlias = OneOf["best", "einhops"]
PLANS: tuple[PlanName, ...] = get_args(PlanName)
#: Half of the largest ring degree that security estimates speak of.
MOST_SLOTS = 65536
#: How many of the plans that were not chosen are printed, and how many lines of slots.
_LISTED, _ROWS = 5, 4


@dataclass(frozen=True, slots=True)
class Packed:
    """A program on encrypted slots and its counts; `rejected` has a line on each other plan.

    `lowered` has the program and what is computed in the clear before. `print` it: the layouts,
    which element is in which slot, the counts, the plans not taken.
    """

    chosen: str
    lowered: Lowered
    counts: SlotCounts
    rejected: tuple[str, ...] = ()

    @property
    def program(self) -> SlotProgram:
        """The SlotProgram."""
        return self.lowered.program

    def with_keys(self, keys: KeysName) -> Packed:
        """The same with fewer rotation keys: "few", or "powers-of-two"; "each" is as it is.

        Raises:
            ArgumentError: there is no such choice.
        """
        program = with_keys(self.program, keys)
        if program is self.program:
            return self
        counts = count(program)
        made = f"{len(counts.rotation_keys)} rotation keys, {counts.key_switches} key switches"
        lowered = replace(self.lowered, program=program)
        return Packed(f"{self.chosen}; keys {keys}: {made}", lowered, counts, self.rejected)

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
        if len(self.lowered.levels) > 1:
            lines += ["", *map(str, self.lowered.levels)]
        lines += [str(each) for each in self.lowered.approximated]
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
    approximate: Mapping[str, Approximation] | None = None,
    levels: int | None = None,
    most: int | None = None,
) -> Packed:
    """The packing of a Cascade.

    Args:
        shapes: of the inputs, by name.
        secret: the inputs that are encrypted; None: all of them.
        slots: of a ciphertext, a power of two.
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": they
            lie where they are needed.
        plan: "best": the cheapest of einloom's; "einhops": one product as EinHops packs it.
        approximate: functions that CKKS has not, by their name or that of the tensor.
        levels: the most that there are; None: as many as it takes.
        most: what a ring has at all: a Cascade that takes more is refused.

    Raises:
        ArgumentError: there is no such layout, plan or input.
        SlotError: the number of slots is not a power of two; nothing fits them.
        LevelError: there are not so many levels; it says which Einsum ran out.
        UnsupportedError: CKKS has not what it takes, or no packing takes it.
    """
    for what, given, names in (("layout", layout, LAYOUTS), ("plan", plan, PLANS)):
        if given not in names:
            raise ArgumentError(f"there is no {what} {given!r}", hint=f"one of {', '.join(names)}")
    if plan == "einhops" and layout != "row-major":
        raise ArgumentError('EinHops packs row-major: plan="einhops" takes no other layout')
    if slots < 1 or slots & (slots - 1):
        raise SlotError(f"the number of slots is a power of two, not {slots}")
    if slots > MOST_SLOTS:
        raise SlotError(
            f"no ring has {slots} slots: the largest has {MOST_SLOTS}",
            hint="a tensor may take several ciphertexts",
        )
    if plan == "einhops":
        problem = problem_of(cascade, shapes, secret)
        program = einhops(problem, slots)
        counts = count(program)
        if levels is not None and counts.levels > levels:
            (einsum,) = cascade.einsums
            raise LevelError(
                f"{einsum.name} runs out of levels: EinHops takes {counts.levels}, "
                f"and there are {levels}",
                span=einsum.span,
            )
        return Packed(f"by EinHops: {counts.summary}", _alone(cascade, program), counts)
    normal = normal_form(cascade, shapes, secret, approximate)
    only = _product(normal)
    if only is None:
        lowered = lower(
            cascade,
            shapes,
            secret,
            slots=slots,
            layout=layout,
            approximate=approximate,
            levels=levels,
            most=most,
        )
        counts = count(lowered.program)
        return Packed(f"{layout}: {counts.summary}", lowered, counts)
    best, *others = plans(only, slots, layout, levels)
    unlike = {plan.counts.summary: str(plan) for plan in reversed(others)}
    unlike.pop(best.counts.summary, None)  # another order of the same
    rejected = (*_measure(only, slots), *reversed(unlike.values()))
    chosen = f"{layout}, {best}"
    return Packed(chosen, _alone(cascade, best.program), best.counts, rejected)


def _product(normal: Normal) -> Problem | None:
    """The product that the normal form is, if it is one and no more."""
    if len(normal.steps) != 1 or normal.clear or normal.plain.einsums:
        return None
    (step,) = normal.steps
    factors: tuple[Access, ...] = ()
    if isinstance(step, Product) and step.coefficient == 1:
        factors = step.factors
    elif isinstance(step, Combination) and step.one is not None:
        factors = (step.one,)
    if not factors or isinstance(step, Elementwise):
        return None
    return Problem(
        normal.name,
        factors,
        step.output,
        normal.sizes,
        normal.shapes,
        frozenset(normal.secret),
    )


def _alone(cascade: Cascade, program: SlotProgram) -> Lowered:
    """A program that is the whole Cascade, of one output: nothing is left in the clear."""
    plain = replace(cascade, inputs=(), einsums=(), outputs=())
    levels = Levels(cascade.outputs[0], 0, program.levels)
    return Lowered(program, plain, (), (levels,), ())


def _measure(problem: Problem, slots: int) -> tuple[str, ...]:
    """What EinHops' packing would cost, if it has one."""
    try:
        return (f"EinHops: {count(einhops(problem, slots)).summary}",)
    except (SlotError, UnsupportedError):
        return ()


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.split("\n")]
