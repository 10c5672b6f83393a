"""What starting costs: `import einloom`, and the first einsum of a fresh process.

Every figure is that of a fresh interpreter, started in turn with the one it is compared with;
all modules are there as bytecode, as an installer leaves them. Times are those of the process's
own CPU clock, so a busy machine disturbs them little. "Cold" is an object cache without a file in
it, "warm" one that the call before filled.
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


def fresh(
    bytecode: str, imports: str, setup: str = "", call: str = "", cache: str | None = None
) -> list[float]:
    """Runs the script in a fresh interpreter: seconds to import, seconds to call."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["XDG_CACHE_HOME"] = cache if cache is not None else bytecode
    code = SCRIPT.format(imports=imports, setup=setup, call=call)
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
    """The first einsum, a 64 x 64 matmul in f32."""
    found: dict[str, list[list[float]]] = {"cold cache": [], "warm cache": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for times in found.values():
                times.append(fresh(bytecode, "import einloom", OPERANDS, CALL, cache))
    rows: list[Row] = []
    for name, times in found.items():
        call = statistics.median(call for _, call in times)
        whole = statistics.median(imported + call for imported, call in times)
        rows.append(Row(name, {"the call": call, "with `import einloom`": whole}))
    return Table("first einsum", "ms", rows)


def tables(quick: bool) -> Sequence[Table]:
    """Two tables: importing, and the first call."""
    rounds = 3 if quick else 11
    with tempfile.TemporaryDirectory() as bytecode:
        fresh(bytecode, "import einloom", OPERANDS, CALL)  # writes the bytecode, times nothing
        return [imports(rounds, bytecode), first_calls(rounds, bytecode)]
