"""The command line: each command, and that a mistake is a message, and status 2."""

import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import einloom as el
from einloom.__main__ import main
from einloom.ir.slot_counts import count
from einloom.ir.slot_executor import execute
from einloom.ir.slot_parser import parse_slots

from .command_line import MATMUL, SOFTMAX, refused, run
from .support import ROOT

# ---- compile


@pytest.mark.parametrize(
    ("emit", "part"),
    [
        ("ir", "Y[h,i,k] = A[h,i,j] * B[h,j,k]"),
        ("llvm", "define "),
        ("asm", ".text"),
        ("numpy", "def einsum("),
        ("header", "#"),
    ],
)
def test_compile_writes_text(emit: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = ["--shapes", "8x64x32,8x32x16", "--dtypes", "f32"]
    assert main(["compile", "hij,hjk->hik", *shapes, "--emit", emit]) == 0
    said = capsys.readouterr()
    assert part in said.out
    assert said.out.endswith("\n")
    assert said.err == ""


def test_compile_without_shapes_leaves_them_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", MATMUL]) == 0
    assert el.parse(capsys.readouterr().out).einsums[0].reduced == ("j",)


def test_shapes_leave_the_declared_dtypes(tmp_path: Path) -> None:
    file, target = tmp_path / "total.ein", tmp_path / "total.h"
    file.write_text("cascade total(A[K]: i32, B[K]) -> Y {\n  Y = A[k] * B[k]\n}")
    assert main(["compile", str(file), "--shapes", "3,3", "-o", str(target)]) == 0
    assert "const int32_t *A" in target.read_text()


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("x.ll", None),
        ("x.s", None),
        ("x.py", None),
        ("x.h", None),
        ("x.o", b"\x7fELF"),
        ("x.so", b"\x7fELF"),
        ("cascade.ein", b"cascade einsum("),
    ],
)
def test_compile_goes_by_the_suffix(name: str, beginning: bytes | None, tmp_path: Path) -> None:
    target = tmp_path / name
    assert main(["compile", MATMUL, "-o", str(target)]) == 0
    content = target.read_bytes()
    assert content
    if beginning is not None:
        assert content.startswith(beginning)
    assert os.listdir(tmp_path) == [name]
    assert not target.stat().st_mode & 0o022  # as the umask has it


def test_emit_goes_before_the_suffix(tmp_path: Path) -> None:
    target = tmp_path / "kernel.bin"
    assert main(["compile", MATMUL, "--emit", "obj", "-o", str(target)]) == 0
    assert target.read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--backend", "llvm"], "load_library"),
        (["--emit", "python"], "load_library"),
        (["--backend", "numpy"], "np.matmul"),
        ([], "np.matmul"),
    ],
)
def test_two_kinds_of_python(options: list[str], part: str, tmp_path: Path) -> None:
    target = tmp_path / "kernel.py"
    assert main(["compile", MATMUL, *options, "-o", str(target)]) == 0
    assert part in target.read_text()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels of x86-64")
def test_code_for_several_processors(tmp_path: Path) -> None:
    target = tmp_path / "x.s"
    levels = "x86-64-v3,x86-64"
    assert main(["compile", MATMUL, "--cpu", levels, "-o", str(target)]) == 0
    assert "packed_einloom_einsum.x86_64_v3:" in target.read_text()


def test_the_emitted_source_runs_on_its_own(
    capsys: pytest.CaptureFixture[str], arrays: tuple[Any, Any]
) -> None:
    assert main(["compile", MATMUL, "--emit", "numpy", "--dtypes", "f64"]) == 0
    names: dict[str, Any] = {}
    exec(capsys.readouterr().out, names)
    a, b = arrays
    np.testing.assert_allclose(names["einsum"](a, b), a @ b)


def test_compile_reads_a_cascade_from_a_file_from_text_and_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "softmax.ein").write_text(SOFTMAX)
    monkeypatch.setattr(sys, "stdin", io.StringIO(SOFTMAX))
    for what in (str(tmp_path / "softmax.ein"), SOFTMAX, "-"):
        assert main(["compile", what, "--shapes", "X=4x5"]) == 0
        assert "Y[i,j] = E[i,j] / D[i]" in capsys.readouterr().out


def test_passes_backend_and_the_rest_arrive(capsys: pytest.CaptureFixture[str]) -> None:
    many = "ij,jk,kl->il"
    shapes = ["--shapes", "9x8,8x7,7x6", "--dtypes", "f32"]
    assert main(["compile", many, *shapes, "--passes", ""]) == 0
    assert capsys.readouterr().out.count("=") == 1 + 4  # the Einsum, and four extents
    assert main(["compile", many, *shapes, "--optimize", "greedy"]) == 0
    assert "T[" in capsys.readouterr().out
    assert main(["compile", MATMUL, "--semiring", "max_plus"]) == 0
    assert "over max_plus" in capsys.readouterr().out
    assert main(["compile", "row in, in col -> row col", "--notation", "named"]) == 0
    assert "Y[row,col] = A[row,in] * B[in,col]" in capsys.readouterr().out


def test_the_function_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    for emit, part in (("ir", "cascade gemm("), ("numpy", "def gemm("), ("header", "gemm(")):
        assert main(["compile", MATMUL, "--emit", emit, "--name", "gemm"]) == 0
        assert part in capsys.readouterr().out


def test_binary_output_is_not_written_to_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "binary" in refused(["compile", MATMUL, "--emit", "obj"], capsys)


def test_binary_output_to_a_pipe(tmp_path: Path) -> None:
    done = run(["compile", MATMUL, "--emit", "so"], tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(b"\x7fELF")
    assert os.listdir(tmp_path) == []


# ---- show


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_show_prints_every_step(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ij,jk,kl->il", "--shapes", "9x8,8x7,7x6", "--dtypes", "f32", "--backend", backend]
    assert main(["show", *arguments]) == 0
    said = capsys.readouterr().out
    shapes = [(9, 8), (8, 7), (7, 6)]
    f = el.compile("ij,jk,kl->il", shapes=shapes, dtypes="f32", backend=backend)
    assert said == "\n\n".join(map(str, f.steps)) + "\n"
    assert "parse" in said
    assert "order" in said


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`einloom show ... | head -c 1`"""
    script = f"{sys.executable} -m einloom compile '{MATMUL}' --emit llvm | head -c 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=120, check=False)
    assert done.stderr == b""


# ---- passes, rewrite


ATTENTION = str(ROOT / "examples" / "attention.ein")


def test_passes_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["passes", ATTENTION]) == 0
    said = capsys.readouterr().out
    assert "M     3       3      M          1: QK, GM; 2: SN, SD; 3: A, AV" in said
    assert "buffer     4*M bytes for each fiber" in said
    assert main(["passes", ATTENTION, "--rank", "P", "--shapes", "Q=2x3,V=5x7"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "P     1       1      0          1: QK, GM, SN, SD, A, AV"
    ]


def test_shapes_and_dtypes_of_some_or_all_operands_arrive(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["passes", ATTENTION, "--rank", "M", "--shapes", "2x3,2x5,7x5"]) == 0
    said = capsys.readouterr().out
    assert "spill      moves 120 bytes" in said  # twice 3 * 5 elements of 4 bytes
    assert main(["passes", "i,i->", "--dtypes", "f64", "--shapes", "A=8"]) == 0
    assert "I     1" in capsys.readouterr().out


def test_an_alias_stays_one_when_its_extent_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    text = """cascade f(X[M,E]: f64) -> Y {
  ranks N = M
  QK[m,n] = X[m,e] * X[n,e]
  S[m]    = sum[n] exp(QK[m,n])
  Y[m,e]  = sum[n] (exp(QK[m,n]) / S[m] * X[n,e])
}"""
    for shapes in ((), ("--shapes", "X=5x2")):
        assert main(["passes", text, "--json", *shapes]) == 0
        found = json.loads(capsys.readouterr().out)["ranks"]
        assert {rank: found[rank]["passes"] for rank in found} == {"N": 2, "M": 1, "E": 2}


def test_passes_as_json_and_as_a_picture(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["passes", ATTENTION, "--rank", "M", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["ranks"]) == ["M"]
    assert found["ranks"]["M"]["passes"] == 3
    monkeypatch.setattr(sys, "stdin", io.StringIO(SOFTMAX))
    assert main(["passes", "-", "--svg"]) == 0
    picture = ElementTree.fromstring(capsys.readouterr().out)
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert "pass 3 over J" in list(picture.itertext())


def test_rewrite_prints_what_parses_back(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ij,jk,kl->il", "--dtypes", "f32", "--shapes", "9x8,8x7,7x6", "-p", "order"]
    assert main(["rewrite", *arguments]) == 0
    said = capsys.readouterr().out
    assert len(el.parse(said).einsums) == 2
    assert main(["rewrite", *arguments, "--report"]) == 0
    reported = capsys.readouterr().out
    assert reported.startswith(said)
    assert el.parse(reported) == el.parse(said)
    assert reported[len(said) :] == (
        "\n"
        "#                       before  after\n"
        "# Einsums                    1      2\n"
        "# traffic, bytes           896  1,280\n"
        "# fused traffic, bytes     896    896\n"
        "# operations             9,072  1,536\n"
    )


def test_rewrite_reports_passes_and_footprint(capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "cascade f(X[M]: f64) -> Z {\n  U[m] = X[m]\n  S = X[m]\n  T = X[m]\n  Z[m] = U[m] / S\n}"
    )
    assert main(["rewrite", text, "-p", "dead", "--report"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines() if line[0:1] == "#"]
    assert ["#", "Einsums", "4", "3"] in table
    assert ["#", "passes", "over", "M", "2", "2"] in table
    assert ["#", "footprint", "over", "M", "M", "M"] in table
    assert ["#", "operations", "3*M", "2*M"] in table


def test_rewrite_reports_traffic_through_a_buffer(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = "fewest-passes{rank=m, tile=64}"
    given = [ATTENTION, "-p", pipeline, "--report", "--shapes", "64x128,64x1024,64x1024"]
    found: list[str] = []
    for buffer in ((), ("--buffer", "65536")):
        assert main(["rewrite", *given, *buffer]) == 0
        lines = capsys.readouterr().out.splitlines()
        (line,) = (line for line in lines if line.startswith("# fused traffic, bytes"))
        found.append(" ".join(line.split()[-2:]))
    # Q, K, V, the output; and twice what outlives a pass: QK, SN, GM, SD, or last values of scans.
    exchanged = 2 * (4 * 64 * 1024 + 4 * 64 * 128)
    three = exchanged + 2 * 2 * 4 * 1024 * 128 + 2 * 2 * 4 * 128
    one = exchanged + 2 * 4 * 64 * 128 + 2 * 4 * 128
    assert found[0] == f"{three:,} {one:,}"
    # A tile of 64 does not fit the smaller one.
    assert found[1] != found[0]
    assert main(["rewrite", ATTENTION, "-p", pipeline, "--report"]) == 0
    assert "fused" not in capsys.readouterr().out  # sizes are symbols
    assert main(["rewrite", *given, "--buffer", "0"]) == 2
    assert "a buffer has a number of bytes from 1 on, not 0" in capsys.readouterr().err


def test_rewrite_checks_values(capsys: pytest.CaptureFixture[str]) -> None:
    text = """cascade f(X[M]: f64) -> Y {
      U = sum[m] X[m] / M
      Y = sum[m] ((X[m] - U) * (X[m] - U))
    }"""
    assert main(["rewrite", text, "-p", "share, dead", "--check"]) == 0
    assert capsys.readouterr().out.endswith("every input that was tried\n")
    # Several terms are for finite values: where X is -inf, X*U and U*X do not cancel.
    text = """cascade f(X[M]: f64) -> Y {
      U = max[m] X[m]
      Y = sum[m] ((X[m] - U) * (X[m] + U))
    }"""
    assert main(["rewrite", text, "-p", "defer{rank=m, terms=true}", "--check"]) == 2
    assert "infinite values: " in capsys.readouterr().err


# ---- pack


TRANSPOSE = ["pack", "ij->ji", "--shapes", "128x128", "--slots", "16384"]


def test_pack_prints_layouts_counts_and_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TRANSPOSE) == 0
    said = capsys.readouterr().out
    assert "input A: [128,128] in 16384: d0 128:128, d1 128:1\n" in said
    assert " 0,0  0,1  0,2 " in said
    assert "output Y: [128,128] in 16384: d0 128:128, d1 128:1" in said
    assert "rotations         16 " in said
    chosen, rejected = said.split("not chosen:\n")
    assert "j,i exact: 16 key switches, 46 pt, 0 ct, 2 levels" in chosen
    assert "  EinHops: 254 key switches, 256 pt, 0 ct, 2 levels" in rejected
    assert "  i,j exact: 30 key switches, 255 pt, 0 ct, 1 levels" in rejected


def test_pack_goes_by_layout_and_plan(capsys: pytest.CaptureFixture[str]) -> None:
    for option, name, rotations in (("--layout", "free", 0), ("--plan", "einhops", 254)):
        assert main([*TRANSPOSE, option, name]) == 0
        assert f"rotations         {rotations} " in capsys.readouterr().out


@pytest.mark.parametrize("secret", ["1", "B", " B "])
def test_pack_leaves_some_inputs_plain(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pack", MATMUL, "--shapes", "A=2x3,B=3x4", "--slots", "64", "--secret", secret]
    assert main([*arguments, "--program"]) == 0
    program = parse_slots(capsys.readouterr().out)
    assert [each.layout is None for each in program.inputs] == [True, False]
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    np.testing.assert_allclose(execute(program, {"A": a, "B": b})["Y"], a @ b)
    packed = el.pack(MATMUL, 64, shapes=[(2, 3), (3, 4)], secret=["B"])
    assert packed.program == program
    assert packed.counts == count(program)


def test_pack_draws_the_slots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "slots.svg"
    assert main(["pack", "ij->ji", "--shapes", "2x3", "--slots", "8", "--svg", str(target)]) == 0
    assert "not chosen:" in capsys.readouterr().out
    assert target.read_text() == el.pack("ij->ji", 8, shapes=[(2, 3)]).to_svg()
    assert [path.name for path in tmp_path.iterdir()] == ["slots.svg"]


def test_pack_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", MATMUL, "--shapes", "2x3,3x4", "--secret", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    packed = el.pack(MATMUL, shapes=[(2, 3), (3, 4)], secret=[0])
    assert parse_slots(said["program"]) == packed.program
    assert said["counts"]["key_switches"] == packed.counts.key_switches
    assert said["inputs"] == {"A": str(packed.program.inputs[0].layout), "B": None}
    assert said["slots"] == 32  # for 2 x 4 x 4 points, axes padded


def test_pack_reads_declared_extents() -> None:
    """Those that follow from others, too: then no shape of that input need be given."""
    text = "cascade f(A[I,J], B[K]) -> Y {\n ranks K = J\n Y[i] = A[i,j] * B[j]\n}"
    packed = el.pack(text, 64, shapes={"A": (2, 3)}, secret="A")
    assert [each.layout is None for each in packed.program.inputs] == [False, True]
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    np.testing.assert_allclose(execute(packed.program, {"A": a, "B": b})["Y"], a @ b)


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["compile", "ij,jk->il"], "^"),
        (["compile", "cascade f(X[I]) -> Y { Y[i] = }"], "^"),
        (["compile", "missing.ein"], "missing.ein"),
        (["compile", "./"], "./"),
        (["compile", MATMUL, "--shapes", "2x3"], "2 inputs"),
        (["compile", MATMUL, "--shapes", "2x3,4x5"], "j"),
        (["compile", MATMUL, "--shapes", "2y3,3x4"], "2y3"),
        (["compile", MATMUL, "--shapes", "2x-3,3x4"], "2x-3"),
        (["compile", MATMUL, "--shapes", "A=2x3,3x4"], "names some inputs"),
        (["compile", MATMUL, "--shapes", "A=2x3,Q=3x4"], "Q"),
        (["compile", MATMUL, "--dtypes", "f33"], "f33"),
        (["compile", MATMUL, "--dtypes", "f32,f32,f32"], "2"),
        (["compile", MATMUL, "--passes", "sort"], "sort"),
        (["compile", MATMUL, "--semiring", "max_over"], "max_over"),
        (["compile", MATMUL, "--optimize", "optimall"], "optimall"),
        (["compile", MATMUL, "--emit", "numpy", "--backend", "llvm"], "--backend numpy"),
        (["compile", MATMUL, "--name", "no name"], "no name"),
        (["compile", MATMUL, "--emit", "asm", "--cpu", "abacus"], "abacus"),
        (["compile", MATMUL, "--emit", "asm", "--cpu", "x86-64,"], "levels of x86-64"),
        (["compile", MATMUL, "-o", "/nonexistent/folder/x.o"], "/nonexistent/folder"),
        (["show", "ij,jk->il"], "^"),
        (["run", MATMUL, "missing.npy", "missing.npy"], "missing.npy"),
        (["run", MATMUL, __file__, __file__], "test_cli.py"),
        (["run", MATMUL, "missing.npy", "-o", "/nonexistent/folder/y.npy"], "there is no folder"),
        (["run", MATMUL, "missing.npy", "-o", "/"], "cannot write /: it is a folder"),
        (["pack", "no einsum", "--svg", "/nonexistent/folder/y.svg"], "there is no folder"),
        (["run", "i->", "/dev/null"], "/dev/null"),
        (["passes", "missing.ein"], "missing.ein"),
        (["passes", MATMUL, "--rank", "i"], "did you mean I?"),
        (["passes", MATMUL, "--rank", "Q"], "ranks: I, J, K"),
        (["passes", MATMUL, "--shapes", "2x3"], "2 inputs"),
        (["passes", MATMUL, "--shapes", "A=2x3,Q=3x4"], "Q"),
        (["passes", "cascade f(X[I]) -> Y { Y[i] = }"], "^"),
        (["pack", MATMUL, "--slots", "64"], "I, J, K"),
        (["pack", MATMUL, "--slots", "63", "--shapes", "2x3,3x4"], "63"),
        (["pack", MATMUL, "--slots", "0", "--shapes", "2x3,3x4"], "power of two"),
        (["pack", MATMUL, "--slots", "64", "--shapes", "2x3"], "2 inputs"),
        (["pack", MATMUL, "--slots", "64", "--shapes", "2x3,3x4", "--secret", "2"], "no input 2"),
        (["pack", MATMUL, "--slots", "64", "--shapes", "2x3,3x4", "--secret", "Q"], "Q"),
        (["pack", MATMUL, "--slots", "64", "--shapes", "2x3,3x4", "--layout", "x"], "row-major"),
        (["pack", MATMUL, "--slots", "64", "--shapes", "2x3,3x4", "--plan", "x"], "einhops"),
        (["pack", SOFTMAX, "--slots", "64", "--shapes", "2x3"], "no reduction by max"),
        (["compile", MATMUL, "--emit", "slots", "--shapes", "2x3,3x4", "--engine", "x"], "x"),
        (["compile", MATMUL, "--emit", "slots"], "shapes"),
        (["compile", MATMUL, "--emit", "slots", "--backend", "llvm"], "--backend ckks"),
        (["compile", MATMUL, "--emit", "llvm", "--secret", "0"], "--secret can be"),
        (["compile", MATMUL, "--emit", "llvm", "--insecure"], "--backend ckks alone"),
        (["compile", MATMUL, "--secret", "0", "--slots", "8"], "--slots, --secret can be given"),
        (["run", "i->", "missing.npy", "--backend", "ckks"], "missing.npy"),
        (["rewrite", MATMUL, "-p", "sort"], "sort"),
        (["rewrite", "missing.ein", "-p", "order"], "missing.ein"),
        (["rewrite", "ij,jk,kl->il", "-p", "order"], "give --dtypes"),
        # hints are in the command line's own words
        (["pack", MATMUL], "hint: give --shapes of the inputs"),
        (
            ["pack", "cascade f(X[I]) -> Y { Y[i] = tanh(X[i]) }", "--shapes", "2"],
            'hint: ask for a polynomial in its place: --approximate "tanh on',
        ),
    ],
    ids=str,
)
def test_mistakes(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in refused(arguments, capsys)


@pytest.mark.parametrize(
    ("files", "part"),
    [
        (["a.npy"], "operand"),
        (["a.npy", "b.npy", "b.npy"], "operand"),
        (["a.npy", "Q=b.npy"], "Q"),
        (["ab.npz", "b.npy"], "ab.npz:left"),
        (["ab.npz:middle", "b.npy"], "left, right"),
        (["a.npy:x", "b.npy"], "a.npy"),
        (["short.npy", "b.npy"], "short.npy"),
        (["short.npz", "b.npy"], "short.npz"),
        (["text.npy", "b.npy"], "dtype"),
        (
            ["a.npy", "b.npy", "--backend", "ckks", "--magnitude", "1e-9"],
            "hint: compile with --magnitude the largest",
        ),
    ],
    ids=str,
)
def test_mistakes_with_files(
    files: list[str],
    part: str,
    tmp_path: Path,
    arrays: tuple[Any, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.npy").write_bytes(Path("a.npy").read_bytes()[:-8])
    Path("short.npz").write_bytes(Path("ab.npz").read_bytes()[:-30])
    np.save("text.npy", np.array([["a", "b"]]))
    assert part in refused(["run", MATMUL, *files], capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run"],
        ["run", MATMUL],
        ["compile", MATMUL, "--emit", "pdf"],
        ["passes", MATMUL, "--json", "--svg"],
        ["passes", MATMUL, "--passes", "order"],
        ["rewrite"],
    ],
)
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: einloom" in capsys.readouterr().err


# ---- the rest


def test_it_runs_as_a_module_and_as_a_script(tmp_path: Path) -> None:
    wanted = f"einloom {el.__version__}\n"
    assert run(["--version"], tmp_path, text=True).stdout == wanted
    script = Path(sys.executable).with_name("einloom")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == wanted


def test_mistakes_leave_by_status_2_and_no_traceback(tmp_path: Path) -> None:
    done = run(["run", MATMUL, "no.npy", "no.npy"], tmp_path, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("einloom: cannot read no.npy: ")
    assert "Traceback" not in done.stderr


def test_help_loads_little(tmp_path: Path) -> None:
    """`einloom --help` answers at once: it loads neither NumPy nor llvmlite."""
    script = (
        "import sys\nfrom einloom.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([n for n in ('numpy', 'llvmlite', 'lark', 'networkx') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\n[]\n")


def test_two_kernels_in_one_program(tmp_path: Path) -> None:
    for name, subscripts in (("product", "ij,jk->ik"), ("total", "ij->")):
        assert main(["compile", subscripts, "--name", name, "-o", str(tmp_path / f"{name}.o")]) == 0
        assert main(["compile", subscripts, "--name", name, "-o", str(tmp_path / f"{name}.h")]) == 0
    (tmp_path / "main.c").write_text(
        '#include "product.h"\n#include "total.h"\n'
        "int main(void) {\n"
        "  float a[4] = {1, 2, 3, 4}, b[4] = {1, 0, 0, 1}, c[4], sum;\n"
        "  if (einloom_product(a, 0, b, 0, c, 0, 2, 2, 2)) return 2;\n"
        "  if (einloom_total(c, 0, &sum, 2, 2)) return 3;\n"
        "  return sum == 10 ? 0 : 1;\n}\n"
    )
    built = ["gcc", "main.c", "product.o", "total.o", "-lm", "-o", "main"]
    subprocess.run(built, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "main"], check=True)
