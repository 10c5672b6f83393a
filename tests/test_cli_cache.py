"""`einloom cache` and `einloom prebuild`: the objects that are kept on disk."""

import errno
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom import prebuilt, records
from einloom.__main__ import main
from einloom.backends.llvm import cache

from .command_line import MATMUL, SOFTMAX, refused, run


def test_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    options: dict[str, Any] = {"env": environment, "text": True}
    np.save(tmp_path / "a.npy", np.ones(3))
    assert run(["run", "i,i->", "a.npy", "a.npy"], tmp_path, **options).returncode == 0
    info = run(["cache", "info"], tmp_path, **options)
    assert info.returncode == 0
    assert str(tmp_path / "cache") in info.stdout
    assert "0 files" not in info.stdout
    kept = tmp_path / "cache" / "einloom" / "objects" / "mine.txt"
    kept.write_text("not einloom's")
    cleared = run(["cache", "clear"], tmp_path, **options)
    assert "removed" in cleared.stdout
    assert not cleared.stdout.startswith("0")
    assert "0 files" in run(["cache"], tmp_path, **options).stdout
    assert kept.exists()


NO_COMPILER = """
import sys
import numpy as np
import einloom as el
a, b = np.ones((30, 40), "f4"), np.ones((40, 50), "f4")
assert (el.einsum("ij,jk->ik", a, b) == 40).all() and (el.compile("ij,jk->ik")(a, b) == 40).all()
print("einloom.templates" in sys.modules)
"""


def test_what_is_prebuilt_needs_no_compiler(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    options: dict[str, Any] = {"env": environment, "text": True}
    shapes = ["--shapes", "30x40,40x50", "--dtypes", "f32"]
    done = run(["prebuild", MATMUL, *shapes], tmp_path, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path / "cache") in done.stdout
    call: Any = subprocess.run
    for fresh, compiled in (
        (environment, "False\n"),
        ({**environment, "HOME": "/", "XDG_CACHE_HOME": str(tmp_path / "other")}, "True\n"),
    ):
        said = call([sys.executable, "-c", NO_COMPILER], env=fresh, capture_output=True, text=True)
        assert (said.stdout, said.stderr) == (compiled, "")


def test_what_cannot_be_kept_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A disk that is full after the first object: the command has not done all of its work.

    (Subscripts that no other test has: what this process has loaded is not made again.)
    """
    replace, stored = os.replace, list[str]()

    def full(source: str, target: str) -> None:
        if stored:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        stored.append(target)
        replace(source, target)

    monkeypatch.setattr(cache, "_current", cache.ObjectCache(tmp_path))
    monkeypatch.setattr(os, "replace", full)
    assert main(["prebuild", "qrst,tvr->vsq", "--shapes", "2x3x4x5,5x6x3"]) == 2
    said = capsys.readouterr()
    assert "1 files" in said.out
    assert "not all of it" in said.err


def test_a_cascade_is_prebuilt_in_its_own_dtypes(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    options: dict[str, Any] = {"env": environment, "text": True}
    (tmp_path / "softmax.ein").write_text(SOFTMAX.replace("f64", "f32"))
    done = run(["prebuild", "softmax.ein", "--shapes", "X=3x4"], tmp_path, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert " 0 stored" not in done.stdout


def test_the_commonest_are_prebuilt(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    filled: list[tuple[str, list[tuple[int, ...]], str]] = []

    def fill(what: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
        filled.append((what, shapes, dtype))

    monkeypatch.setattr(prebuilt, "fill", fill)
    assert main(["prebuild"]) == 0
    assert "object cache" in capsys.readouterr().out
    for subscripts, shapes, dtype in filled:
        assert len(el.compile(subscripts).cascade.inputs) == len(shapes)
        assert max(map(math.prod, shapes)) <= 1 << 20
        assert dtype in ("f32", "f64")
    # Two records each, and a process writes so many.
    assert 2 * len(filled) <= records._MOST_WRITTEN


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([MATMUL], "--shapes"),
        ([MATMUL, "--shapes", "2x3"], "2 inputs, but 1 shapes"),
        ([MATMUL, "--shapes", "2x3,4x5"], "symbol 'j' has extent 3"),
        (["--dtypes", "f32"], "of an EINSUM"),
        ([MATMUL, "--shapes", "2x3,3x4", "--dtypes", "f31"], "f31"),
    ],
)
def test_what_cannot_be_prebuilt(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(["prebuild", *arguments], capsys)
