"""`einloom run`: arrays from files, encrypted or not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import einloom as el
from einloom.__main__ import main
from einloom.ir.slot_parser import parse_slots

from .command_line import MATMUL, SOFTMAX, refused

# ---- encrypted


def test_run_encrypted(
    tmp_path: Path, arrays: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = arrays
    files = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    target = tmp_path / "c.npy"
    command = ["run", MATMUL, *files, "--backend", "ckks", "--secret", "B", "--seed", "3"]
    assert main([*command, "--report", "-o", str(target)]) == 0
    said = capsys.readouterr().out
    assert "simulated, not secure" in said
    assert "estimated time" in said
    assert "error of Y" in said
    np.testing.assert_allclose(np.load(target), a @ b, atol=1e-3)
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("Y[2, 4]: f64")
    assert said.endswith("<einloom.Encrypted einsum on ckks: simulated, not secure>\n")


def test_compile_encrypted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, shapes = tmp_path / "f.slots", ["--shapes", "2x3,3x4"]
    for options in (["--emit", "slots"], ["--backend", "ckks", "-o", str(target)]):
        assert main(["compile", MATMUL, *shapes, "--secret", "0", *options]) == 0
    program = parse_slots(target.read_text())
    assert parse_slots(capsys.readouterr().out) == program
    assert program == el.pack(MATMUL, shapes=[(2, 3), (3, 4)], secret=[0]).program
    assert main(["show", MATMUL, *shapes, "--backend", "ckks", "--plan", "einhops"]) == 0
    assert "# pack: by EinHops: " in capsys.readouterr().out


# ---- run


def test_run_prints_and_writes(
    tmp_path: Path, arrays: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = arrays
    target = tmp_path / "c.npy"
    files = [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]
    assert main(["run", MATMUL, *files, "-o", str(target)]) == 0
    np.testing.assert_array_equal(np.load(target), a @ b)
    said = capsys.readouterr().out
    assert said.startswith("Y[2, 4]: f64  min 20.0  max 92.0  mean 49.25\n")
    assert "92" in said.splitlines()[-1]


@pytest.mark.parametrize(
    "files", [("ab.npz:left", "ab.npz:right"), ("B=b.npy", "A=a.npy"), ("a.npy", "B=ab.npz:right")]
)
def test_run_takes_keys_and_names(
    files: Sequence[str],
    tmp_path: Path,
    arrays: tuple[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = arrays
    monkeypatch.chdir(tmp_path)
    assert main(["run", MATMUL, *files, "-o", "c.npz", "--backend", "numpy"]) == 0
    np.testing.assert_array_equal(np.load("c.npz")["Y"], a @ b)


def test_run_of_a_cascade(
    tmp_path: Path, arrays: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "softmax.ein").write_text(SOFTMAX)
    target = tmp_path / "y.npy"
    operands = [str(tmp_path / "softmax.ein"), f"X={tmp_path}/a.npy"]
    assert main(["run", *operands, "-o", str(target), "--backend", "numpy"]) == 0
    e = np.exp(arrays[0] - arrays[0].max(1, keepdims=True))
    np.testing.assert_allclose(np.load(target), e / e.sum(1, keepdims=True))
    assert capsys.readouterr().out.startswith("Y[2, 3]: f64")


def test_the_output_may_be_an_input_and_a_device_stays_one(
    tmp_path: Path, arrays: tuple[Any, Any]
) -> None:
    a = str(tmp_path / "a.npy")
    assert main(["run", "ij->ji", a, "-o", a]) == 0
    np.testing.assert_array_equal(np.load(a), arrays[0].T)
    link = tmp_path / "link.npy"
    link.symlink_to("a.npy")
    assert main(["run", "ij->ji", a, "-o", str(link)]) == 0
    assert link.is_symlink()
    np.testing.assert_array_equal(np.load(a), arrays[0])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main(["run", "ij->ji", a, "-o", str(pipe)]) == 0
    assert os.read(reader, 10).startswith(b"\x93NUMPY")
    os.close(reader)


def test_a_pickle_is_never_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "trapped"),))

    np.save(tmp_path / "evil.npy", np.array([Trap()], object), allow_pickle=True)
    np.savez(tmp_path / "evil.npz", x=np.array([Trap()], object))
    for name in ("evil.npy", "evil.npz", "evil.npz:x"):
        assert "evil" in refused(["run", "i->", str(tmp_path / name)], capsys)
    assert not (tmp_path / "trapped").exists()


def test_a_failed_run_leaves_the_old_output(
    tmp_path: Path, arrays: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    a = str(tmp_path / "a.npy")
    refused(["run", MATMUL, a, a, "-o", str(tmp_path / "b.npy")], capsys)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), arrays[1])
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "ab.npz", "b.npy"]
