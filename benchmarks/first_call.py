"""What starting costs: `import einloom`, first calls of a fresh process, and new code.

Every figure is that of a fresh interpreter, started in turn with the one it is compared with;
all modules are there as bytecode, as an installer leaves them. Times are those of the process's
own CPU clock, so a busy machine disturbs them little. "Cold" is an object cache without a file in
it, "warm" one that the process before filled.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from .measure import Row, Table

#: Prints the CPU seconds that `import` took, and then the call.
SCRIPT = """
import json, time
start = time.process_time()
{imports}
imported = time.process_time()
{setup}
ready = time.process_time()
{call}
done = time.process_time()
print(json.dumps([imported - start, done - ready]))
"""

OPERANDS = "import numpy; a = b = numpy.ones((64, 64), 'f4')"
CALL = "einloom.einsum('ij,jk->ik', a, b)"
SOFTMAX = """einloom.compile('''
cascade softmax(X[M,P]) -> Y {
  G[p] = max[m] X[m,p]
  S[m,p] = exp(X[m,p] - G[p])
  T[p] = S[m,p]
  Y[m,p] = S[m,p] / T[p]
}''')(a)"""

#: What a process compiles that has compiled before: einsums of f32, with the shapes of operands.
FAMILIES = {
    "matmul 512": ("ij,jk->ik", (512, 512), (512, 512)),
    "matmul 512, transposed": ("ij,kj->ik", (512, 512), (512, 512)),
    "contraction of rank 4": ("dbea,ec->abcd", (24, 24, 24, 24), (24, 24)),
    "matmul 4": ("ij,jk->ik", (4, 4), (4, 4)),
    "matmul 32": ("ij,jk->ik", (32, 32), (32, 32)),
    "batch of matmuls 4": ("bij,bjk->bik", (100, 4, 4), (100, 4, 4)),
    "Hadamard 16": ("ij,ij->ij", (16, 16), (16, 16)),
    "dot 16": ("i,i->", (16,), (16,)),
    "matrix by vector 16": ("ij,j->i", (16, 16), (16,)),
    "sums of rows 16": ("ij->i", (16, 16)),
}

#: Prints the CPU seconds of the first call of each family.
FAMILIES_SCRIPT = f"""
import json, time, numpy, einloom
einloom.einsum("ij->i", numpy.ones((3, 5)))
found = []
for text, *shapes in {list(FAMILIES.values())}:
    operands = [numpy.ones(shape, "f4") for shape in shapes]
    start = time.process_time()
    einloom.einsum(text, *operands, threads=1)
    found.append(time.process_time() - start)
print(json.dumps(found))
"""


def fresh(
    bytecode: str, imports: str, setup: str = "", call: str = "", cache: str | None = None
) -> list[float]:
    """Runs the script in a fresh interpreter: seconds to import, seconds to call."""
    code = SCRIPT.format(imports=imports, setup=setup, call=call)
    return run(code, bytecode, cache)


def run(code: str, bytecode: str, cache: str | None = None) -> list[float]:
    """Runs code in a fresh interpreter: the numbers that it prints."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["XDG_CACHE_HOME"] = cache if cache is not None else bytecode
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    found: list[float] = json.loads(done.stdout)
    return found


def imports(rounds: int, bytecode: str) -> Table:
    """`import einloom` beside `import numpy`, which is part of it, and a first use of a name."""
    scripts = {
        "numpy": "import numpy",
        "einloom": "import einloom",
        "einloom.einsum": "import einloom; einloom.einsum",
    }
    found = [
        {name: fresh(bytecode, text)[0] for name, text in scripts.items()} for _ in range(rounds)
    ]
    seconds = {name: statistics.median(times[name] for times in found) for name in scripts}
    ratios = {
        "einloom / numpy": [times["einloom"] / times["numpy"] for times in found],
        # The bound that importing is held to, with all that einsum needs: at most 1.
        "einloom.einsum / (1.3 numpy + 60 ms)": [
            times["einloom.einsum"] / (1.3 * times["numpy"] + 0.06) for times in found
        ],
    }
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    return Table("import", "ms", [Row("fresh interpreter", seconds, medians)])


def first_calls(rounds: int, bytecode: str) -> Table:
    """The first einsum, a 64 x 64 matmul in f32, and the first call of a compiled cascade."""
    rows: list[Row] = []
    for what, script in {"einsum": CALL, "compiled softmax": SOFTMAX}.items():
        found: dict[str, list[list[float]]] = {"cold cache": [], "warm cache": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                for times in found.values():
                    times.append(fresh(bytecode, "import einloom", OPERANDS, script, cache))
        for name, times in found.items():
            call = statistics.median(call for _, call in times)
            whole = statistics.median(imported + call for imported, call in times)
            rows.append(Row(f"{what}, {name}", {"the call": call, "with `import einloom`": whole}))
    return Table("first call", "ms", rows)


def families(rounds: int, bytecode: str) -> Table:
    """What compiling costs a process that has compiled before; and the same from a full cache."""
    cold: list[list[float]] = []
    warm: list[list[float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for times in (cold, warm):
                times.append(run(FAMILIES_SCRIPT, bytecode, cache))
    rows = [
        Row(
            name,
            {
                "cold cache": statistics.median(times[number] for times in cold),
                "warm cache": statistics.median(times[number] for times in warm),
            },
        )
        for number, name in enumerate(FAMILIES)
    ]
    return Table("new code, f32", "ms", rows)


def tables(quick: bool) -> Sequence[Table]:
    """Three tables: importing, the first call, and code that is new to a process."""
    rounds = 3 if quick else 11
    with tempfile.TemporaryDirectory() as bytecode:
        for script in (CALL, SOFTMAX):  # writes the bytecode, times nothing
            fresh(bytecode, "import einloom", OPERANDS, script)
        found = [imports, first_calls, families]
        return [table(rounds, bytecode) for table in found]
