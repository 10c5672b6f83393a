"""`python -m benchmarks [NAME ...]`: Markdown tables, and JSON if asked for."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from . import (
    calls,
    cascades,
    chains,
    ckks,
    contractions,
    dtypes,
    elementwise,
    first_call,
    matmul,
    packing,
    passes,
    permutes,
    threads,
    workloads,
)
from .limits import processor_limits
from .measure import Table, machine

BENCHMARKS = {
    "first_call": first_call,
    "calls": calls,
    "matmul": matmul,
    "contractions": contractions,
    "dtypes": dtypes,
    "elementwise": elementwise,
    "cascades": cascades,
    "permutes": permutes,
    "workloads": workloads,
    "chains": chains,
    "passes": passes,
    "ckks": ckks,
    "packing": packing,
    "threads": threads,
}


#: Those that say what part of the processor's limits is reached.
LIMITED = {"matmul", "contractions", "workloads"}


def main() -> None:
    """Runs the benchmarks that are named, pinned to one core, with one BLAS thread.

    That of threads takes all cores.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}: all")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios: .svg, .png, .pdf")
    parser.add_argument("--core", type=int, help="the core to run on; default: the last allowed")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        parser.exit(1, 'this needs the extra `bench`: pip install -e ".[bench]"\n')

    if hasattr(os, "sched_setaffinity"):
        core = max(os.sched_getaffinity(0)) if options.core is None else options.core
        os.sched_setaffinity(0, {core})
    print(machine())
    names: Sequence[str] = options.names or tuple(BENCHMARKS)
    limits = processor_limits() if LIMITED & set(names) else {}
    if limits:
        print("; ".join(f"{what}: {number:.4g}" for what, number in limits.items()))
    found: list[Table] = []
    with threadpool_limits(limits=1):  # type: ignore[no-untyped-call]
        for name in names:
            for table in BENCHMARKS[name].tables(options.quick):
                print(f"\n{table.markdown()}", flush=True)
                found.append(table)
    if options.json is not None:
        with open(options.json, "w", encoding="utf-8") as file:
            tables = [asdict(table) for table in found]
            json.dump({"machine": machine(), "limits": limits, "tables": tables}, file, indent=1)
    if options.plot is not None:
        from .plot import plot

        plot(found, machine(), options.plot)


if __name__ == "__main__":
    main()
