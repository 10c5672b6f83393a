"""The accelerator model on designs of one's own, and on mistakes in them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import einloom as el
from einloom.passes.analysis.accelerator.design import Design, Phase, Placement
from einloom.passes.analysis.accelerator.library import Library, load
from einloom.passes.analysis.accelerator.report import SpaceReport

from ..support import ROOT, Golden

DATA = ROOT / "passes" / "analysis" / "accelerator"


@pytest.fixture(scope="module")
def library() -> Library:
    return load(el.parse)


OWN = """
lengths = [6]

[architecture.Small]
frequency = 1e6
bandwidth = 2e6
word = 4
buffer = 1000
[architecture.Small.arrays]
grid = { shape = [2, 3], cycles = { mac = 1 } }
line = { shape = [4], cycles = { max = 2, relu = 3, add = 1 } }

[workload.Tiny]
length = ["I"]
sizes = { J = 5, K = 4 }

[design.Fused]
architecture = "Small"
cascade = '''
cascade f(A[I,J], B[J,K]) -> Z {
  Y[i,k] = A[i,j] * B[j,k]
  R[i,k] = relu(Y[i,k])
  Z[i]   = max[k] R[i,k]
}'''
[[design.Fused.on]]
array = "grid"
space = [["I"], ["K"]]
einsums = ["Y"]
[[design.Fused.on]]
array = "line"
space = [["K"]]
einsums = ["R", "Z"]
[[design.Fused.phase]]
loops = ["I"]
tile = { I = 2 }
stages = [[["Y"], ["R"]], [["wait Z"]], [["Z"]]]
"""


def own(folder: Path, text: str = OWN) -> SpaceReport:
    path = folder / "own.toml"
    path.write_text(text, "utf-8")
    return el.accelerator(file=path)


def test_a_design_of_ones_own(tmp_path: Path) -> None:
    (report,) = own(tmp_path).reports
    Y, R, Z = report.einsums
    assert Y.cycles == 3 * 2 * 5  # rows of 6 on 2, columns of 4 on 3, J in time
    assert (R.cycles, R.operations) == (6 * 3, {"relu": 24})
    assert Z.cycles == 6 * 2
    assert report.cycles == max(30, 18) + 12 * 4 + 12  # the maximum moves along the line of 4
    assert report.traffic == 4 * (6 * 5 + 5 * 4 + 6)  # each once: what is between stays inside
    assert report.seconds == pytest.approx(max(90e-6, 224 / 2e6), rel=1e-12)
    assert report.utilisation["grid"] == pytest.approx(120 / (6 * 112), rel=1e-12)
    (phase,) = report.phases
    assert phase.tile == {"I": 6}
    assert phase.held == 4 * (6 * 5 + 5 * 4)
    # Less buffer: B does not vary with the loop and stays, so nothing is moved twice.
    smaller = own(tmp_path, OWN.replace("buffer = 1000", "buffer = 170")).reports[0]
    assert smaller.phases[0].tile == {"I": 2}
    assert smaller.traffic == report.traffic
    # In two phases R goes through memory.
    apart = OWN.replace(
        'stages = [[["Y"], ["R"]], [["wait Z"]], [["Z"]]]',
        'stages = [[["Y"], ["R"]]]\n[[design.Fused.phase]]\nstages = [[["Z"]]]',
    )
    assert own(tmp_path, apart).reports[0].traffic == report.traffic + 4 * 2 * 24


def test_an_inner_loop_moves_a_tensor_again(tmp_path: Path) -> None:
    text = OWN.replace('loops = ["I"]', 'loops = ["I", "K"]').replace(
        "buffer = 1000", "buffer = 70"
    )
    text = text.replace("Z[i]   = max[k] R[i,k]", "Z[i,k] = max(R[i,k], R[i,k])")
    text = text.replace('[["wait Z"]], ', "")
    report = own(tmp_path, text).reports[0]
    assert report.phases[0].tile == {"I": 2}
    assert report.traffic == 4 * (6 * 5 + 3 * 20 + 24)  # B for each of the three tiles of I


def test_shipped_things_beside_ones_own(tmp_path: Path) -> None:
    """A file names what is shipped, and takes the place of what has the same name."""
    text = """
    [architecture.FuseMax]
    frequency = 1880e6
    bandwidth = 429496729600
    word = 2
    buffer = 16777216
    [architecture.FuseMax.arrays]
    2d = { shape = [256, 256], cycles = { mac = 1, max = 1, add = 1, sub = 1, exp = 6 } }
    1d = { shape = [256], cycles = { mul = 1, max = 1, add = 1, sub = 1, exp = 6, div = 1 } }

    [design.Twice]
    architecture = "FuseMax"
    cascade = "attention_one_pass.ein"
    layers = "linear"
    sizes = { M0 = 256 }
    on = [
      { array = "2d", space = [["M0"], ["P"]], einsums = ["QK", "LM", "SLN", "SLD", "SLNV"] },
      { array = "1d", space = [["P"]], einsums = ["RM", "PRM", "SPD", "SPNV", "RD", "RNV", "AV"] },
    ]
    [[design.Twice.phase]]
    loops = ["B", "H", "P", "M1"]
    tile = { P = 256 }
    stages = [
      [["QK", "LM"], ["RD", "RNV", "AV"]], [["RM"]], [["SLN", "SLD"], ["PRM", "SPD"]],
      [["SLNV"], ["SPNV"]],
    ]
    """
    (tmp_path / "twice.toml").write_text(text, "utf-8")
    space = el.accelerator(["+Binding", "Twice"], "BERT", "4K", file=tmp_path / "twice.toml")
    shipped, faster = space.reports
    assert shipped.seconds == pytest.approx(2 * faster.seconds, rel=1e-12)
    assert faster.layers is not None
    assert el.accelerator(file=tmp_path / "twice.toml").designs == ("Twice",)


def test_the_file_in_the_documentation(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "accelerator.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (report,) = own(tmp_path, text).reports
    assert report.cycles == 4096 // 128 * (4096 // 128) * (64 + 4 + 1 + 1 + 64) + 32 * 64 * 4
    assert report.traffic == 2 * 4 * 4096 * 64
    space = el.accelerator(["+Binding", "Unsafe"], "BERT", "4K", file=tmp_path / "own.toml")
    assert space.designs == ("+Binding", "Unsafe")


# -- mistakes -------------------------------------------------------------------------------------

PHASE = 'stages = [[["Y"], ["R"]], [["wait Z"]], [["Z"]]]'
MISTAKES: dict[str, tuple[str, str]] = {
    "a length": ("lengths = [6]", 'lengths = ["6X"]'),
    "a key that is missing": ("word = 4\n", ""),
    "a key misspelt": ("word = 4", "word = 4\nwrod = 4"),
    "a number as text": ("word = 4", 'word = "4"'),
    "a frequency of none": ("frequency = 1e6", "frequency = 0"),
    "a shape of halves": ("shape = [2, 3]", "shape = [2, 1.5]"),
    "a cost below 0": ("mac = 1", "mac = -1"),
    "an extent of 0": ("J = 5", "J = 0"),
    "a rank without extent": ("J = 5, ", ""),
    "no such architecture": ('architecture = "Small"', 'architecture = "Big"'),
    "no such layers": ('architecture = "Small"', 'architecture = "Small"\nlayers = "dense"'),
    "a size of a rank that is none": (PHASE, PHASE + "\n[design.Fused.sizes]\nL = 2"),
    "a size below 1": (PHASE, PHASE + "\n[design.Fused.sizes]\nK = 0"),
    "cycles of nothing": (PHASE, PHASE + "\n[design.Fused.cycles]\nR = 0"),
    "cycles of no Einsum": (PHASE, PHASE + "\n[design.Fused.cycles]\nA = 1"),
    "a cascade that does not parse": ("A[i,j] * B", "A[i,j] ** B"),
    "no such array": ('array = "line"', 'array = "ring"'),
    "more axes than there are": ('space = [["K"]]', 'space = [["K"], ["I"]]'),
    "a rank that is none": ('space = [["K"]]', 'space = [["L"]]'),
    "a name in place of a list": ('space = [["K"]]', 'space = ["K"]'),
    "an Einsum that is none": ('einsums = ["Y"]', 'einsums = ["Y", "X"]'),
    "an Einsum placed twice": ('einsums = ["Y"]', 'einsums = ["Y", "R"]'),
    "an Einsum never staged": (PHASE, 'stages = [[["Y"], ["R"]]]'),
    "a wait for what reduces nothing": ("wait Z", "wait R"),
    "a wait for nothing": ("wait Z", "wait X"),
    "an operator that the array lacks": ("relu = 3, ", ""),
    "a loop over no rank": ('loops = ["I"]', 'loops = ["L"]'),
    "a tile of no loop": ("tile = { I = 2 }", "tile = { K = 2 }"),
    "a tile of nothing": ("tile = { I = 2 }", "tile = { I = 0 }"),
    "a buffer too small": ("buffer = 1000", "buffer = 100"),
    "in the buffer, but no Einsum": ("tile = { I = 2 }", 'tile = { I = 2 }\nbuffer = ["A"]'),
    "phases in the wrong order": (
        PHASE, 'stages = [[["Z"]]]\n[[design.Fused.phase]]\nstages = [[["Y"], ["R"]]]',
    ),
    "no traffic for the point": (PHASE, PHASE + '\ntraffic = "flat_traffic.csv"'),
    "a size that is declared otherwise": (
        "cascade f(A[I,J], B[J,K]) -> Z {",
        "cascade f(A[I,J], B[J,K]) -> Z {\n  ranks J = 7",
    ),
}  # fmt: skip


def test_mistakes(tmp_path: Path, golden: Golden) -> None:
    shown: list[str] = []
    for what, (old, new) in MISTAKES.items():
        assert OWN.count(old) == 1, old
        with pytest.raises(el.EinloomError) as caught:
            own(tmp_path, OWN.replace(old, new))
        shown.append(f"# {what}\n{caught.value}")
    golden("passes/accelerator_mistakes.txt", "\n\n".join(shown) + "\n")
    with pytest.raises(el.EinloomError, match=r"own\.toml is not TOML: "):
        own(tmp_path, "lengths = [")
    text = OWN.split("'''")
    with pytest.raises(el.EinloomError, match=r"no file 'f\.ein'"):
        own(tmp_path, f"{text[0]}'f.ein'{text[2]}")
    (tmp_path / "f.ein").write_text(text[1], "utf-8")
    assert own(tmp_path, f"{text[0]}'f.ein'{text[2]}").as_dict() == own(tmp_path).as_dict()


def test_names_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(el.EinloomError, match=r"no design 'x'[\s\S]*\+Binding"):
        el.accelerator("x")
    with pytest.raises(el.EinloomError, match=r"no workload 'GPT'[\s\S]*XLM"):
        el.accelerator("FLAT", "GPT")
    with pytest.raises(el.EinloomError, match="no design is named"):
        el.accelerator([])
    with pytest.raises(el.EinloomError, match="no length is named"):
        el.accelerator("FLAT", "BERT", [])
    for length in ("4G", 0, "-1", True, 2.5):
        with pytest.raises(el.EinloomError, match="no sequence length"):
            el.accelerator("FLAT", "BERT", [length])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    with pytest.raises(el.EinloomError, match="no file"):
        el.accelerator(file=tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(el.EinloomError, match="is not text"):
        el.accelerator(file=tmp_path / "bytes.toml")
    with pytest.raises(el.EinloomError, match="data, and there is none for BERT at length 2K"):
        el.accelerator("FLAT", "BERT", "2K")
    with pytest.raises(KeyError):
        el.accelerator("FLAT", "BERT", "1K").report("FLAT", "BERT", 7)


def test_a_list_of_traffic_is_checked(tmp_path: Path) -> None:
    for line in ("Tiny,6K", "Tiny,6X,3", "Tiny,6,many"):
        (tmp_path / "t.csv").write_text(f"model,seq_len,traffic_bytes\nTiny,7,1\n{line}\n", "utf-8")
        with pytest.raises(el.EinloomError, match=r"line 3 of t\.csv"):
            own(tmp_path, OWN.replace(PHASE, PHASE + '\ntraffic = "t.csv"'))
    (tmp_path / "t.csv").write_text("model,seq_len,traffic_bytes\nTiny,6,4e6\n", "utf-8")
    report = own(tmp_path, OWN.replace(PHASE, PHASE + '\ntraffic = "t.csv"')).reports[0]
    assert report.seconds == 2.0


def test_more_passes_than_one_loop_can_make(library: Library) -> None:
    """Attention in three passes cannot be fused on M; in one pass it can, and is."""
    flat = library.designs["FLAT"]
    rows = replace(flat.phases[0], loops=("B", "H", "P"), traffic=None)
    assert replace(flat, phases=(rows,)).phases[0].einsums == rows.einsums
    tiles = replace(rows, loops=("B", "H", "P", "M"))
    with pytest.raises(el.EinloomError, match=r"3 passes over it[\s\S]*pass 2: SN, SD"):
        replace(flat, phases=(tiles,))
    assert "M1" in library.designs["+Binding"].phases[0].loops
    divided = "AV[b,h,f,p] = sum[m1] (SLNV[b,h,f,m1,p] / RD[b,h,M1,p])"
    text = (DATA / "attention_one_pass.ein").read_text("utf-8")
    lines = [line for line in text.split("\n") if not line.strip().startswith("AV[")]
    cascade = el.parse("\n".join([*lines[:-2], divided, "}"]))
    with pytest.raises(el.EinloomError, match=r"one loop over M1 cannot run .* 2 passes"):
        replace(library.designs["+Binding"], cascade=cascade)
    chain = el.parse("cascade f(A[I]) -> Z {\n S = A[i]\n T = S * 2\n Z[i] = A[i] + T\n}")
    place = Placement("1d", (("I",),), ("S", "T", "Z"))
    phase = Phase(((("S", "T", "Z"),),), loops=("I",))
    with pytest.raises(el.EinloomError, match=r"pass 1: S\n +pass 2: Z"):
        Design("d", flat.architecture, chain, (place,), (phase,))


def test_a_file_is_a_path() -> None:
    for wrong in (3, "nowhere.toml"):
        with pytest.raises(el.EinloomError, match=r"file= is a path|there is no file"):
            el.accelerator(file=wrong)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
