"""The examples run as they are, from anywhere, and find what they look for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .support import ROOT

FOLDER = ROOT / "examples"
SCRIPTS = [
    *([path.name] for path in sorted(FOLDER.glob("*.py"))),
    ["private_scoring/client.py", "simulated"],
    ["private_scoring/client.py", "seal"],
]


@pytest.mark.parametrize("command", SCRIPTS, ids=" ".join)
def test_an_example(command: list[str], tmp_path: Path) -> None:
    name, *arguments = command
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_the_first_one_shows_every_step(tmp_path: Path) -> None:
    """What a newcomer sees: the Cascade, each pass, the loops, the native code, the check."""
    path = FOLDER / "first_run.py"
    said = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    for part in ("cascade einsum(", "# order", "# lower", "define ", "(137, 4242, 19999)"):
        assert part in said
