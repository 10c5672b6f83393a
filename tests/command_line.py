"""The command line as tests use it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from einloom.__main__ import main

MATMUL = "ij,jk->ik"
SOFTMAX = """\
cascade softmax(X[I,J]: f64) -> Y {
  G[i]   = max[j] X[i,j]
  E[i,j] = exp(X[i,j] - G[i])
  D[i]   = E[i,j]
  Y[i,j] = E[i,j] / D[i]
}
"""


def run(arguments: Sequence[str], folder: Path, **options: Any) -> subprocess.CompletedProcess[Any]:
    start: Any = subprocess.run
    done: subprocess.CompletedProcess[Any] = start(
        [sys.executable, "-m", "einloom", *arguments],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
        **options,
    )
    return done


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that fails by its user's mistake; it says nothing else."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("einloom: ")
    assert "Traceback" not in said.err
    return said.err
