"""The benchmarks' own arithmetic; what they measure is not tested."""

import subprocess
import sys

from .support import ROOT


def test_the_table_that_is_printed() -> None:
    script = (
        "from benchmarks.measure import Row, Table, compare\n"
        "rows = [Row('small', {'a': 1.5e-6, 'b': 3e-6}, {'b / a': 2.0}), Row('big', {'a': 0.25})]\n"
        "print(Table('size', 'us', rows).markdown())\n"
        "row = compare('x', {'a': int, 'own': int, 'b': lambda: sum(range(1000))}, 0.01, ours=2)\n"
        "print(sorted(row.seconds), sorted(row.ratios), row.ratios['b / a'] > 2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == (
        "| size | a, us | b, us | b / a |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| small | 1.5 | 3 | 2 |\n"
        "| big | 250000 |  |  |\n"
        "['a', 'b', 'own'] ['b / a'] True\n"
    )


def test_a_benchmark_that_is_not_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "fly"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no benchmark fly" in done.stderr
