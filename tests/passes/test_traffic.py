"""The traffic report against a simulated cache, on random loop nests; closed forms; mistakes."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass

import pytest

import einloom as el
from einloom.passes.analysis.fusion import Group
from einloom.passes.analysis.traffic import Schedule, traffic
from einloom.passes.analysis.traffic_report import TrafficReport

from ..support import Golden
from .cache import simulate
from .elements import all_sizes
from .random_passes import make
from .test_sweeps import ATTENTION, COUNTS, DEFERRED, ONE_PASS, TWO_PASS

SIZES = {"I": 4, "J": 3, "K": 5, "H": 7, "R": 3}
INPUTS = {"A": "ij", "B": "jk", "C": "ik", "D": "i", "E": "kk", "X": "h", "F": "r"}
DTYPES = {"f16": 2, "f32": 4, "f64": 8}


@dataclass(frozen=True)
class Case:
    text: str
    sizes: dict[str, int]
    bytes: dict[str, int]
    schedule: Schedule
    buffer: int

    def report(self) -> TrafficReport:
        cascade = el.parse(self.text)
        return traffic(cascade, all_sizes(cascade, self.sizes), self.schedule, self.buffer)

    def simulated(self, report: TrafficReport) -> dict[str, tuple[int, int]]:
        cascade = el.parse(self.text)
        sizes = all_sizes(cascade, self.sizes)
        read, written = simulate(cascade, sizes, self.bytes, report)
        names = {**read, **written}
        return {name: (read.get(name, 0), written.get(name, 0)) for name in names}


def single(seed: int, *, plain: bool) -> Case:
    """One Einsum in tiles: matrices and vectors; unless `plain`, what leaves the bounds apart."""
    rng = random.Random(seed)
    sizes = {name: rng.choice((1, 2, 4, 4, 6, 8)) for name in SIZES}
    sizes |= {"R": rng.choice((1, 2, 3)), "H": rng.choice((5, 8, 10))}
    dtypes = {name: rng.choice(list(DTYPES)) for name in INPUTS}
    if plain:
        dtypes = dict.fromkeys(INPUTS, "f32")
    names = rng.sample(["A", "B", "C", "D"], rng.choice((1, 2, 2, 3)))
    factors = [f"{name}[{','.join(INPUTS[name])}]" for name in names]
    variables = dict.fromkeys(v for name in names for v in INPUTS[name])
    where = ""
    if not plain:
        kind = rng.randrange(6)
        extra = {
            0: "X[p+r] * F[r]",
            1: "E[k,k]",
            2: "E[k,k] * E[0,k]",
            3: "X[2*r]",
            4: "A[i-1,j else 0]",
            5: "D[G[j]]",
        }[kind]
        factors.append(extra)
        variables |= dict.fromkeys({0: "pr", 1: "k", 2: "k", 3: "r", 4: "ij", 5: "j"}[kind])
        if kind == 3:
            sizes["H"] = 2 * sizes["R"]
        if rng.random() < 0.2:
            where = f" where {rng.choice(list(variables))} <= 2"
    every = list(variables)
    rng.shuffle(every)
    left = every[: rng.randrange(len(every) + 1)]
    if where and len(left) == len(every):
        where += " else 0"
    over = [v for v in every if v not in left]
    fold = f"sum[{','.join(over)}] " if over else ""
    head = ", ".join(f"{n}[{','.join(v.upper() for v in axes)}]: {dtypes[n]}"
                     for n, axes in INPUTS.items())  # fmt: skip
    text = f"cascade f({head}, G[J]: i32) -> Y {{\n"
    text += f"  Y[{','.join(left)}]: f64 = {fold}({' * '.join(factors)}){where}\n}}"
    loops: list[str] = []
    for variable in rng.sample(every, rng.randrange(len(every) + 1)):
        size = sizes.get(variable.upper(), 0)
        tiles = [t for t in (1, 2, 3, 4) if not plain or (size and size % t == 0)]
        loops.append(rng.choice((variable, *(f"{variable}/{t}" for t in tiles))))
    loops.sort(key=lambda loop: "/" not in loop)
    used = {**{n: DTYPES[d] for n, d in dtypes.items()}, "Y": 8, "G": 4}
    return Case(
        text, sizes, used, [Group(("Y",), tuple(loops))], rng.choice((16, 64, 160, 400, 999, 4000))
    )


def check(case: Case) -> bool:
    """Holds the bounds against the simulation; whether they were exact."""
    report = case.report()
    found = case.simulated(report)
    tensors = report.tensors
    for name, (read, written) in found.items():
        low, high = tensors[name].read
        assert low <= read <= high, (case, name, read, str(report))
        low, high = tensors[name].written
        assert low <= written <= high, (case, name, written, str(report))
    for name in tensors.keys() - found.keys():
        assert tensors[name].bytes[0] == 0, (case, name)
    return report.exact


def test_plain_einsums_are_within_the_bounds_and_mostly_exact() -> None:
    exact = sum(check(single(seed, plain=True)) for seed in range(250))
    assert exact >= 190


def test_other_einsums_are_within_the_bounds() -> None:
    for seed in range(250):
        check(single(seed, plain=False))


#: Attention on one tensor, and without a maximum: each line reads what is there by then.
STABLE = (
    "S[k,p] = sum[e] (Q[e,p] * X[e,k])",
    "G[p] = max[k] S[k,p]",
    "E[k,p] = exp(S[k,p] - G[p])",
    "D[p] = sum[k] E[k,p]",
    "N[k,p] = E[k,p] / D[p]",
    "O[e,p] = sum[k] (N[k,p] * X[e,k])",
)
UNSTABLE = (
    "S[k,p] = sum[e] (Q[e,p] * X[e,k])",
    "E[k,p] = exp(S[k,p])",
    "D[p] = sum[k] E[k,p]",
    "N[e,p] = sum[k] (E[k,p] * X[e,k])",
    "O[e,p] = N[e,p] / D[p]",
)


def chain(seed: int) -> Case:
    """A chain cut into groups at random places, each in loops over p, over k, or over both."""
    rng = random.Random(seed)
    lines = rng.choice((STABLE, UNSTABLE))
    sizes = {name: rng.choice((2, 3, 4, 6)) for name in "EKP"}
    groups: list[Group] = []
    start = 0
    while start < len(lines):
        stop = rng.randint(start + 1, len(lines))
        tensors = tuple(line[0] for line in lines[start:stop])
        loops = ["p"]  # along k only where no sum over k is read inside the loop
        if lines is UNSTABLE:
            loops = rng.choice((["p"], ["p", "k"])) if tensors != ("O",) else ["p"]
        elif not any(name in tensors[:-1] for name in "GD"):
            loops = rng.sample("kp", rng.randint(1, 2))
        size = {v: rng.choice([t for t in (1, 2, 3) if sizes[v.upper()] % t == 0]) for v in loops}
        texts = tuple(f"{v}/{size[v]}" if size[v] > 1 else v for v in loops)
        groups.append(Group(tensors, texts))
        start = stop
    body = "\n".join(f"  {line}" for line in lines)
    text = f"cascade f(Q[E,P]: f32, X[E,K]: f32) -> O {{\n{body}\n}}"
    buffer = rng.choice((64, 128, 256, 600, 4000))
    return Case(text, sizes, dict.fromkeys("QXSGEDNO", 4), groups, buffer)


def test_fused_einsums_are_within_the_bounds() -> None:
    exact = sum(check(chain(seed)) for seed in range(200))
    assert exact >= 80


MATMUL = "cascade f(A[I,J]: f32, B[J,K]: f32) -> Y { Y[i,k] = A[i,j] * B[j,k] }"
CUBE = {"I": 64, "J": 64, "K": 64}


def halves(text: str) -> str:
    """With inputs of two bytes, the words of FuseMax."""
    return typed(text, "f16")


def typed(text: str, dtype: str) -> str:
    head, brace, body = text.partition("{")
    return head.replace("],", f"]: {dtype},").replace("])", f"]: {dtype})") + brace + body


SCORES = [{"E": 2, "F": 3, "M": 8, "P": 4}, {"E": 4, "F": 4, "M": 12, "P": 3}]
TILED = [{**SCORES[0], "M0": 4}, {**SCORES[1], "M0": 3}, {"E": 3, "F": 2, "M": 9, "P": 5, "M0": 4}]
ROWS = [{"M": 8}, {"M": 13}]
NAMED: dict[str, tuple[str, list[dict[str, int]]]] = {
    "C4": (ATTENTION, SCORES),
    "C4 with the division deferred": (DEFERRED, SCORES),
    "two-pass attention": (TWO_PASS, TILED),
    "C5": (ONE_PASS, TILED),
    "softmax, stable": (COUNTS["softmax, stable"][0], ROWS),
    "layernorm, two-pass": (COUNTS["layernorm, two-pass"][0], ROWS),
    "RMSNorm, into a linear layer": (
        COUNTS["RMSNorm, into a linear layer"][0],
        [{"M": 6, "N": 4}, {"M": 9, "N": 2}],
    ),
}
BUFFERS = (128, 400, 800, 2000, 8000, 200_000)


@pytest.mark.parametrize("name", NAMED)
def test_known_cascades_are_within_the_bounds(name: str) -> None:
    text, shapes = NAMED[name]
    text = typed(text, "f64")
    sizes_of = dict.fromkeys(el.parse(text).extents(), 8)
    schedules = ["unfused", "fused"]
    if "P]" in text.partition("{")[0]:
        schedules += ["fused{rank=p, tile=1}", "fused{rank=p, tile=2}"]
    exact = 0
    for sizes in shapes:
        for schedule in schedules:
            for buffer in BUFFERS:
                exact += check(Case(text, sizes, sizes_of, schedule, buffer))
    assert exact > 0


def test_random_cascades_are_within_the_bounds() -> None:
    exact, checked = 0, 0
    for seed in range(100):
        made = make(seed)
        if "where k" in made.text or "where m" in made.text:
            continue  # the simulation knows `<=` alone
        # What nothing needs is in no schedule.
        text = str(
            el.rewrite(re.sub(r"\b([ABCW]\[[MKP1,]+\])(?=[,)])", r"\1: i64", made.text), "dead")
        )
        sizes = {"M": 8, "M0": 2, "P": 2} if made.parted else {"K": 5, "P": 2}
        sizes_of = dict.fromkeys(el.parse(text).extents(), 8)
        # In a common loop the simulation knows a rank by one name.
        schedules = ("unfused",) if made.aliases() else ("unfused", "fused")
        for schedule in schedules:
            for buffer in (64, 160, 100_000):
                exact += check(Case(text, sizes, sizes_of, schedule, buffer))
                checked += 1
    assert checked > 250
    assert exact > 100


def moved(report: TrafficReport) -> dict[str, int]:
    """The bytes of each tensor, where they are exact."""
    assert report.exact, str(report)
    return {name: each.bytes[0] for name, each in report.tensors.items()}


def test_matrix_products() -> None:
    whole = 4 * 64 * 64
    # A row of A and a column of B fit, B as a whole does not: it is read again for each row.
    assert moved(el.traffic(MATMUL, schedule="unfused", buffer=4096, **CUBE)) == {
        "A": whole,
        "B": 64 * whole,
        "Y": whole,
    }
    assert moved(el.traffic(MATMUL, schedule="unfused", buffer=1 << 20, **CUBE)) == dict.fromkeys(
        "ABY", whole
    )
    # In tiles of Y, with slices of A and B: each of these is read once for every tile of the other.
    tiles = [el.Group(("Y",), ("i/16", "k/16", "j"))]
    found = moved(el.traffic(MATMUL, schedule=tiles, buffer=4096, **CUBE))
    assert found == {"A": 4 * whole, "B": 4 * whole, "Y": whole}
    # With a reduction outside of what fits, the output leaves and comes back.
    outside = [el.Group(("Y",), ("j", "i", "k"))]
    output = el.traffic(MATMUL, schedule=outside, buffer=4096, **CUBE).tensors["Y"]
    assert (output.read, output.written) == ((63 * whole,) * 2, (64 * whole,) * 2)


def test_one_pass_attention_moves_what_the_closed_form_says() -> None:
    """Q once, K and V once for each tile of P, the output once (FuseMax, the 1-pass designs)."""
    text = halves(ONE_PASS)
    e, f, m, p, tile = 8, 8, 64, 32, 8
    members = ("QK", "LM", "RM", "SLN", "SLD", "SLNV", "PRM", "RD", "RNV", "AV")
    plan = [el.Group(members, (f"p/{tile}", "m1"))]
    sizes = {"E": e, "F": f, "M": m, "P": p, "M0": 8}
    report = el.traffic(text, schedule=plan, buffer=2048, **sizes)
    assert report.groups[0].held == members[:-1]
    assert report.bytes == (2 * (p * (e + f) + p // tile * m * (e + f)),) * 2


def test_the_plan_of_the_passes() -> None:
    text = halves(ATTENTION)
    sizes = {"E": 8, "F": 8, "M": 64, "P": 16}
    report = el.traffic(text, schedule="fused", buffer=1 << 16, **sizes)
    assert [str(each.group) for each in report.groups] == [
        "QK, GM in m",
        "SN, SD in m",
        "A, AV in m",
    ]
    assert report.groups[2].held == ("A",)
    assert "A" not in report.tensors
    unfused = el.traffic(text, schedule="unfused", buffer=1 << 16, **sizes)
    assert unfused.bytes[0] - report.bytes[1] == 2 * 2 * 64 * 16 + 2 * 64 * 16 + 2 * 64 * 16
    tiled = el.traffic(text, schedule="fused{rank=p, tile=4}", buffer=1 << 16, **sizes)
    assert [each.group.loops for each in tiled.groups] == [("p/4",)]
    assert tiled.tensors.keys() == {"Q", "K", "V", "AV"}


def test_a_scan_that_is_read_at_its_end() -> None:
    text = """cascade f(X[K]: f32, W[K]: f32) -> Z {
      ranks I = K
      Y[k] = X[k] * W[k]
      S[0] = 0
      S[i+1] = S[i] + Y[i]
      Z = S[K] }"""
    report = el.traffic(text, schedule="fused", buffer=64, K=100)
    assert [str(each.group) for each in report.groups] == ["Y, S in k", "Z"]
    assert moved(report) == {"X": 400, "W": 400, "S": 4 + 4, "Z": 4}


def test_scans_that_need_one_another_run_in_one_loop() -> None:
    text = """cascade f(X[K]: f32) -> Z {
      ranks I = K
      S[0] = 0
      T[0] = 1
      S[i+1] = T[i] * X[i]
      T[i+1] = S[i+1] + T[i]
      Z = T[K] }"""
    report = el.traffic(text, buffer=4000, K=10)
    assert [str(each.group) for each in report.groups] == ["S, T in i", "Z"]
    # One that only starts above what it reads is by itself.
    text = """cascade f(X[K]: f32) -> S {
      ranks I = K
      S[0] = 0
      Y[k] = X[k] * 2
      S[i+1] = S[i] + Y[i] }"""
    report = el.traffic(text, buffer=4000, K=10)
    assert [str(each.group) for each in report.groups] == ["Y", "S"]


def test_the_report(golden: Golden) -> None:
    text = halves(ATTENTION)
    sizes = {"E": 64, "F": 64, "M": 1024, "P": 128}
    shown = [str(el.traffic(text, schedule="unfused", buffer=1 << 16, **sizes))]
    shown.append(str(el.traffic(text, schedule="fused", buffer=1 << 16, **sizes)))
    golden("passes/traffic.txt", "\n\n".join(shown) + "\n")
    data = json.loads(el.traffic(MATMUL, schedule="unfused", buffer=4096, **CUBE).to_json())
    assert data["exact"] is True
    assert data["tensors"]["Y"] == {"read": [0, 0], "written": [16384, 16384]}
    assert data["groups"][0]["tensors"] == ["Y"]


MISTAKES: dict[str, tuple[str, str]] = {
    "a rank without an extent": ("buffer=64, I=2, J=2", "the extent of rank K is not known"),
    "no such rank": ("buffer=64, Q=2", "has no rank Q"),
    "a negative extent": ("buffer=64, I=-1", "the extent of rank I is a number from 0 on"),
    "no buffer": ("buffer=0, **CUBE", "a buffer has a number of bytes"),
    "no such schedule": ("buffer=64, schedule='best', **CUBE", "no schedule is called 'best'"),
    "no such rank to fuse": ("buffer=64, schedule='fused{rank=q}', **CUBE", "walks a rank Q"),
    "no such tensor": ("buffer=64, schedule=[el.Group(('X', 'Y'))], **CUBE", "computes X, which"),
    "twice": ("buffer=64, schedule=[el.Group(('Y',)), el.Group(('Y',))], **CUBE", "Y twice"),
    "left out": ("buffer=64, schedule=[], **CUBE", "does not compute Y"),
    "no such loop": ("buffer=64, schedule=[el.Group(('Y',), ('z',))], **CUBE", "over no rank"),
    "no tile": ("buffer=64, schedule=[el.Group(('Y',), ('i/x',))], **CUBE", "is not a number"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes(what: str) -> None:
    arguments, message = MISTAKES[what]
    with pytest.raises(el.EinloomError, match=message):
        eval(f"el.traffic(MATMUL, {arguments})", {"el": el, "MATMUL": MATMUL, "CUBE": CUBE})


def test_schedules_that_no_loops_run() -> None:
    text = "cascade f(A[K]: f32) -> Z { S = A[k]\n Z[k] = A[k] * S }"
    for groups, message in (
        ([el.Group(("Z",)), el.Group(("S",))], "computes Z before S"),
        ([el.Group(("S", "Z"), ("k",))], "Z reads S inside the loop over k"),
    ):
        with pytest.raises(el.EinloomError, match=message):
            el.traffic(text, schedule=groups, buffer=64, K=4)
    with pytest.raises(el.EinloomError, match="the dtype of A is not declared"):
        el.traffic(text.replace(": f32", ""), buffer=64, K=4)
    product = """cascade f(A[I,J]: f32, B[J]: f32) -> Z {
      S[i] = A[i,j]
      T[j] = B[j]
      Z = S[i] * T[j] }"""
    with pytest.raises(el.EinloomError, match="T has the variable j, but not i"):
        el.traffic(product, schedule=[el.Group(("S", "T", "Z"), ("i", "j"))], buffer=64, I=2, J=2)
