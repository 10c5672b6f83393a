"""What can be said of a Cascade before it runs: cost, passes, traffic, time, packing in slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einloom.arguments import extents_of, names_of
from einloom.compiler import cascade_of, parse
from einloom.ir.cascade import Cascade
from einloom.specialisation import Shape
from einloom.templates import as_cascade

if TYPE_CHECKING:
    from einloom.encryption import Approximations, Inputs
    from einloom.frontend.trace import Traced
    from einloom.passes.analysis.accelerator.report import SpaceReport
    from einloom.passes.analysis.cost import CostReport
    from einloom.passes.analysis.pass_report import PassReport
    from einloom.passes.analysis.traffic import Schedule
    from einloom.passes.analysis.traffic_report import TrafficReport
    from einloom.passes.fhe.choice import LayoutName, Packed, PlanName
    from einloom.passes.fhe.rotation_keys import KeysName


def cost(cascade: str | Cascade, /, **shapes: Any) -> CostReport:
    """What a Cascade costs: flops, bytes moved, points, the largest intermediate.

    Args:
        cascade: a Cascade, its text, or subscripts.
        **shapes: the shapes of inputs by name; extents that are not given stay symbols.

    Returns:
        A CostReport, in all and Einsum by Einsum: `print` it, or take its `as_dict()`.

    Raises:
        EinloomError: a shape does not fit the Cascade.

    >>> print(cost("cascade f(A[I,J]: f32, B[J,K]: f32) -> Y { Y[i,k] = A[i,j] * B[j,k] }"))
    f         flops                  bytes  points  elements
    Y       2*I*J*K  4*I*J + 4*I*K + 4*J*K   I*J*K       I*K
    in all  2*I*J*K  4*I*J + 4*I*K + 4*J*K   I*J*K
    largest intermediate  none
    >>> cost("ij,jk->ik", A=(2, 3), B=(3, 4)).flops.number
    48
    """
    from einloom.passes.analysis.cost import cost as report

    cascade = as_cascade(cascade)
    return report(cascade, extents_of(cascade, shapes))


def count_passes(cascade: str | Cascade | Traced, /, **shapes: Any) -> PassReport:
    """How many passes over the data a Cascade takes along each rank, and why.

    Args:
        cascade: a Cascade, its text, subscripts, or a traced function.
        **shapes: the shapes of inputs by name; extents that are not given stay symbols.

    Returns:
        A PassReport: `passes["M"]` is FuseMax's count, `generations["M"]` the loops over M that
        must run one after another, `tensor_passes["QK", "M"]` the passes over one tensor,
        `footprint["M"]` the elements that must be held, `witnesses["M"]` a reason for each pass
        beyond the first. `print` it, or take its `to_json()` or `to_svg()`.

    Raises:
        EinloomError: a shape does not fit the Cascade.

    Source: FuseMax (arXiv 2406.10491), which defines a pass; docs/passes.md has the algorithm.

    >>> report = count_passes('''cascade f(A[K], B[K]) -> Z {
    ...   Y = A[k] * B[k]
    ...   Z = A[k] * Y
    ... }''')
    >>> report.passes["K"], report.tensor_passes["A", "K"], report.tensor_passes["B", "K"]
    (2, 2, 1)
    """
    from einloom.passes.analysis.pass_count import count_passes as count

    cascade = as_cascade(cascade)
    return count(cascade, extents_of(cascade, shapes))


def traffic(
    cascade: str | Cascade | Traced,
    /,
    *,
    buffer: int,
    schedule: Schedule = "unfused",
    **sizes: int,
) -> TrafficReport:
    """How many bytes a Cascade moves between memory and a buffer, tensor by tensor.

    Args:
        cascade: a Cascade with the dtypes of its inputs, its text, or a traced function.
        buffer: the bytes of an ideal buffer, which evicts what was used least recently.
        schedule: "unfused": each Einsum by itself, in the loops of its left side and then of what
            it reduces over; "fused", or "fused{rank=m, tile=64}": those of one pass over a rank
            together, in a loop over it; or a list of `Group`s, in the order in which they run.
        **sizes: the extents of ranks by name; others follow.

    Returns:
        A TrafficReport: `tensors["K"].read` and `.written` are the least and the most bytes, one
        number twice where the model is exact; `bytes` is their sum. `print` it, or take its
        `to_json()`.

    Raises:
        ArgumentError: an extent or a dtype is not known, or the schedule is not one of the Cascade.

    The model and its limits are in docs/traffic.md.

    >>> product = "cascade f(A[I,J]: f32, B[J,K]: f32) -> Y { Y[i,k] = A[i,j] * B[j,k] }"
    >>> print(traffic(product, buffer=4096, I=64, J=64, K=64))
    f            read  written      bytes
    A          16,384        0     16,384
    B       1,048,576        0  1,048,576
    Y               0   16,384     16,384
    in all                      1,081,344
    through a buffer of 4,096 bytes, group by group:
      Y: 1,081,344
    """
    from einloom.passes.analysis.traffic import traffic as report

    return report(as_cascade(cascade), sizes, schedule, buffer)


def accelerator(
    designs: str | Sequence[str] | None = None,
    workloads: str | Sequence[str] | None = None,
    lengths: int | str | Sequence[int | str] | None = None,
    *,
    file: str | Path | None = None,
) -> SpaceReport:
    """Time, traffic and utilisation of cascades bound to spatial arrays: FuseMax's design space.

    Args:
        designs: names of designs, the last one is compared with the others; None: all of FuseMax's
            ("Unfused", "FLAT", "+Cascade", "+Architecture", "+Binding"), or all of `file`.
        workloads: names of workloads; None: "BERT", "TrXL", "T5", "XLM", or all of `file`.
        lengths: sequence lengths, as numbers or "4K"; None: 1K to 1M, or those of `file`.
        file: a TOML file with architectures, workloads, cascades and bindings of your own;
            docs/accelerator.md describes it.

    Returns:
        A SpaceReport with the reports of all points: `print` it, or take its `as_dict()`.

    Raises:
        EinloomError: a name means nothing, or a design of the file does not make sense.

    >>> report = accelerator(["FLAT", "+Binding"], "BERT", "16K")
    >>> print(f"{report.reports[1].seconds:.6g} s, {report.speedup('FLAT'):.3g} times faster")
    0.465166 s, 7.37 times faster
    """
    from einloom.passes.analysis.accelerator.library import load

    return load(parse, file).survey(designs, workloads, lengths)


def pack(
    cascade: str | Cascade | Traced,
    /,
    slots: int | None = None,
    *,
    shapes: Sequence[Shape] | Mapping[str, Shape] | None = None,
    secret: Inputs | None = None,
    layout: LayoutName = "row-major",
    plan: PlanName = "best",
    keys: KeysName = "each",
    approximate: Approximations | None = None,
    levels: int | None = None,
    **options: Any,
) -> Packed:
    """How an einsum is packed into the slots of encrypted vectors, and what that costs.

    Args:
        cascade: a Cascade of one product, its text, subscripts, or a traced function.
        slots: the slots of a ciphertext, a power of two; None: as many as the points of the
            largest product, 16384 at most.
        shapes: of the inputs, in order or by name; not needed for extents that are declared.
        secret: the inputs that are encrypted, by name or position; None: all of them.
        layout: "row-major": encrypted inputs and outputs are row-major and compact; "free": they
            lie where they are needed.
        plan: "best"; "einhops": everything as EinHops does it.
        keys: "each" step has one; "few"; "powers-of-two": as `compile` takes it.
        approximate, levels: as `compile` takes them.
        **options: notation, semiring and name, as `compile` takes them.

    Returns:
        A Packed: `print` it, or take its `program`, a SlotProgram, and its `counts`.

    Raises:
        ArgumentError: an extent is not known, or there is no such input or layout.
        SlotError: the product does not fit the slots, or those are no power of two.
        UnsupportedError: it is more than one product, or has an index that is no variable.

    >>> pack("ij->ji", 64, shapes=[(8, 8)], layout="free").counts.rotations
    0
    """
    from einloom.encryption import Encryption, pack_cascade

    cascade = cascade_of(cascade, shapes=shapes, **options)
    names = [decl.name for decl in cascade.inputs]
    asked = Encryption(
        slots=slots, layout=layout, plan=plan, keys=keys, approximate=approximate, levels=levels
    )
    return pack_cascade(cascade, names_of(secret, names, "secret"), asked)
