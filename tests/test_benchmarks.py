"""The benchmarks' own arithmetic; what they measure is not tested."""

import subprocess
import sys

from .support import ROOT


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python where the benchmarks are found."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def printed(script: str) -> str:
    """What a script prints, and nothing to standard error."""
    done = python("-c", script)
    assert done.stderr == ""
    return done.stdout


def test_the_table_that_is_printed() -> None:
    script = (
        "from benchmarks.measure import Row, Table, compare\n"
        "rows = [Row('small', {'a': 1.5e-6, 'b': 3e-6}, {'b / a': 2.0}), Row('big', {'a': 0.25})]\n"
        "print(Table('size', 'us', rows).markdown())\n"
        "row = compare('x', {'a': int, 'own': int, 'b': lambda: sum(range(1000))}, 0.01, ours=2)\n"
        "print(sorted(row.seconds), sorted(row.ratios), row.ratios['b / a'] > 2)\n"
    )
    assert printed(script) == (
        "| size | a, us | b, us | b / a |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| small | 1.5 | 3 | 2 |\n"
        "| big | 250000 |  |  |\n"
        "['a', 'b', 'own'] ['b / a'] True\n"
    )


def test_a_benchmark_that_is_not_there() -> None:
    done = python("-m", "benchmarks", "fly")
    assert done.returncode == 2
    assert "there is no benchmark fly" in done.stderr


def test_the_cascades_whose_passes_are_counted() -> None:
    script = (
        "from benchmarks.passes import KINDS\n"
        "from einloom.compiler import parse\n"
        "from einloom.reports import count_passes\n"
        "for name, kind in KINDS.items():\n"
        "    cascade = parse(kind(42))\n"
        "    passes = count_passes(cascade).passes\n"
        "    print(name, len({e.name for e in cascade.einsums}), passes)\n"
    )
    assert printed(script) == (
        "chain 42 {'I': 1, 'J': 1, 'K': 18}\n"
        "attention 42 {'N': 13, 'M': 6, 'E': 7}\n"
        "weights 42 {'N': 1, 'M': 21}\n"
        "there and back 43 {'M': 2}\n"
        "scans 28 {'M': 1}\n"
    )


def test_what_packings_are_compared_by() -> None:
    script = (
        "from benchmarks.packing import KNOWN, LARGE, figures, named, ways\n"
        "text, shapes, known = KNOWN[2]\n"
        "for way, packed in ways(text, shapes).items():\n"
        "    print(named(text, shapes), way, figures(packed), known)\n"
        "for each in LARGE:\n"
        "    points = {*each.subscripts.partition('->')[0]} - {','}\n"
        "    print(each.times * each.slots * each.side >= 64 ** len(points))\n"
    )
    found = "{'rotations': 7, 'key switches': 7, 'pt': %s, 'ct': 0, 'levels': %s} (7, 7, 7)\n"
    assert printed(script) == (
        "`ij->j` 128x128 EinHops "
        + found % (1, 1)
        + "`ij->j` 128x128 row-major "
        + found % (0, 0)
        + "`ij->j` 128x128 free "
        + found % (0, 0)
        + "True\n" * 4
    )


def test_the_limit_of_an_einsum() -> None:
    script = (
        "import numpy as np\n"
        "from benchmarks import limits\n"
        "limits.peak = {'f4': 4e9, 'f8': 2e9}.__getitem__\n"
        "limits.reading = limits.writing = lambda size: 1e9\n"
        "from benchmarks.peers import limit\n"
        "a, b, c = (np.ones(s, 'f4') for s in ((100, 200), (200, 50), 50))\n"
        "print(limit('ij,jk->ik', a, b) == 2 * 100 * 200 * 50 / 4e9)\n"
        "print(limit('ij,jk->ik', a + 0j, b) == 8 * 100 * 200 * 50 / 4e9)\n"
        "print(round(limit('ij,jk,k->i', a, b, c) * 1e9) == 4 * (100 * 200 + 200 * 50 + 150))\n"
        "print(round(limit('ii->i', np.ones((100, 100), 'f4')) * 1e9) == 4 * (100 + 100))\n"
        "print(limit('ij,jk->ik', a.astype('i4'), b.astype('i4')))\n"
    )
    assert printed(script) == "True\n" * 4 + "None\n"


def test_operands_of_the_workloads() -> None:
    script = (
        "import numpy as np\n"
        "from benchmarks.workloads import WORKLOADS, operands_of\n"
        "for each in WORKLOADS:\n"
        "    given = operands_of(each, 40)\n"
        "    assert all(str(array.dtype.str[1:]) == each.dtype for array in given)\n"
        "    np.einsum(each.subscripts, *given)\n"
        "print(len(WORKLOADS))\n"
    )
    assert printed(script) == "16\n"
