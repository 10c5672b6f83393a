"""The text of a pipeline: there and back, and every mistake with its carets."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import pytest

from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.errors import EinloomError, OperandError, PathError, PipelineError, VerifyError
from einloom.passes import registry
from einloom.passes.analysis.pass_report import PassReport
from einloom.passes.base import Pass, Pipeline, Step
from einloom.passes.registry import available_passes, default_pipeline, pass_class, pass_names
from einloom.passes.rewrites.canonical import diagonal, presum, squeeze
from einloom.passes.rewrites.order import Order
from einloom.passes.spec import parse_pipeline

from ..cascades import classic
from ..support import Golden


@dataclass(frozen=True, slots=True)
class Probe(Pass):
    """Does nothing, with an option of every type."""

    name: ClassVar[str] = "probe"
    rank: str = "m"
    tile: int = 64
    ratio: float = 0.5
    flag: bool = False
    pair: tuple[int, str] = (1, "a")
    list: tuple[int, ...] = ()
    maybe: int | None = None

    def __call__(self, cascade: Cascade) -> Cascade:
        return cascade


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers it."""
    monkeypatch.setitem(registry._PASSES, "probe", ("nowhere", "Probe"))
    real = pass_class

    def found(name: str) -> type[Pass]:
        return Probe if name == "probe" else real(name)

    for module in ("registry", "spec"):
        monkeypatch.setattr(f"einloom.passes.{module}.pass_class", found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "squeeze",
        "squeeze, diagonal, presum, order",
        "order{optimize=greedy, memory_limit=1000}",
        "order{optimize=[[0, 1], [0, 1]]}",
        "order{optimize=branch-2}",
        "order{optimize=false}",
        "order{memory_limit=max_input}",
        "probe{rank=n, tile=-2, ratio=1.5, flag=true, pair=[2, b], list=[1, 2, 3], maybe=7}",
        "probe{list=[]}, probe",
    ],
)
@pytest.mark.usefixtures("probe")
def test_text_comes_back(text: str) -> None:
    pipeline = parse_pipeline(text)
    assert parse_pipeline(str(pipeline)) == pipeline
    if text != "probe{list=[]}, probe":  # defaults are left out
        assert str(pipeline) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("probe{tile=3}", Probe(tile=3)),
        (" probe { tile = 3 , } ", Probe(tile=3)),
        ("probe{ratio=2}", Probe(ratio=2)),
        ("probe{ratio=1e-3}", Probe(ratio=1e-3)),
        ("probe{maybe=none}", Probe(maybe=None)),
        ("probe{list=(1, 2,)}", Probe(list=(1, 2))),
        ("order{optimize=true}", Order("auto")),
        ("order{optimize=[(0, 1), (0, 1)]}", Order([(0, 1), (0, 1)])),
    ],
)
@pytest.mark.usefixtures("probe")
def test_values(text: str, value: Pass) -> None:
    assert parse_pipeline(text).passes == (value,)


MISTAKES = [
    "squeeze, sort",
    "squeze",
    "slice{rank=k}",
    "nest{tensor=Y, operands=[0, k]}",
    "squeeze diagonal",
    "squeeze,",
    "{}",
    "squeeze{rank=m}",
    "order{optimize}",
    "order{optimize=}",
    "order{optimize=greedy",
    "order{optimize=greedy, optimize=dp}",
    "order{optimise=greedy}",
    "order{optimize=fastest}",
    "order{optimize=3}",
    "order{optimize=[(0, 1), (0, 1)}",
    "order{optimize=[(0, a)]}",
    "order{optimize=none}",
    "order{memory_limit=12ab}",
    "order{memory_limit=-7}",
    "order{memory_limit=most}",
    "order{optimize=<RandomGreedy>}",
    "order; squeeze",
]


def test_mistakes(golden: Golden) -> None:
    said: list[str] = []
    for text in MISTAKES:
        with pytest.raises(EinloomError) as caught:
            parse_pipeline(text)
        assert isinstance(caught.value, ValueError | OperandError)
        said.append(f"{text}\n    {type(caught.value).__name__}: {caught.value}\n")
    golden("passes/pipeline_mistakes.txt", "\n".join(said))


@pytest.mark.usefixtures("probe")
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("probe{tile=2.5}", "it takes an integer"),
        ("probe{tile=true}", "it takes an integer"),
        ("probe{flag=1}", "it takes true or false"),
        ("probe{ratio=no}", "it takes a number"),
        ("probe{pair=[1, 2]}", "it takes \\[an integer, a word\\]"),
        ("probe{list=[1, [2]]}", "it takes \\[an integer, ...\\]"),
        ("probe{maybe=word}", "it takes an integer, none"),
    ],
)
def test_wrong_types(text: str, hint: str) -> None:
    with pytest.raises(PipelineError, match=hint):
        parse_pipeline(text)


def test_a_finder_without_a_text_is_shown_but_does_not_parse() -> None:
    def finder(*_: Any) -> list[tuple[int, ...]]:
        return [(0, 1)]

    assert str(Order(finder)) == "order{optimize=<finder>}"
    with pytest.raises(PipelineError):
        parse_pipeline(str(Order(finder)))


def test_registry() -> None:
    passes = available_passes()
    assert list(passes) == list(pass_names())
    for name, made in passes.items():
        assert made.name == name
        assert (made.__doc__ or "").strip()
        described: Any = made
        if any(field.default is MISSING for field in fields(described)):
            with pytest.raises(PipelineError, match=f"{name} needs "):
                parse_pipeline(name)
        else:
            assert parse_pipeline(name) == Pipeline((made(),))
    with pytest.raises(PipelineError, match=r"available_passes\(\) says"):
        pass_class("bogus")
    with pytest.raises(PipelineError, match=r"did you mean squeeze\?"):
        pass_class("squeze")


def test_default_pipeline() -> None:
    pipeline = default_pipeline(optimize=("greedy", 1000))
    assert str(pipeline) == "squeeze, diagonal, presum, order{optimize=greedy, memory_limit=1000}"
    assert parse_pipeline(str(pipeline)) == pipeline
    with pytest.raises(PathError, match="fastest"):
        default_pipeline(optimize="fastest")


def test_a_step_for_each_pass(golden: Golden) -> None:
    cascade = classic("iij,jk,kl,m->il", sizes={"i": 1, "j": 20, "k": 30, "l": 40, "m": 50})
    after, steps = default_pipeline().run(cascade)
    assert [step.text for step in steps] == ["squeeze", "diagonal", "presum", "order"]
    assert steps[-1].cascade_text == str(after)
    golden("passes/steps.txt", "\n".join(map(str, steps)) + "\n")


def test_what_changes_nothing_gives_the_same_object() -> None:
    cascade = classic("ij,jk->ik", sizes={"i": 2, "j": 3, "k": 4})
    for made in (squeeze(), diagonal(), presum(), Order(), default_pipeline()):
        if isinstance(made, Pipeline):
            after, steps = made.run(cascade)
            assert [step.comment for step in steps] == ["nothing changed"] * 4
        else:
            after = made(cascade)
        assert after is cascade


def test_a_pass_that_breaks_a_rule_is_found_out() -> None:
    @dataclass(frozen=True, slots=True)
    class Broken(Pass):
        name: ClassVar[str] = "broken"

        def __call__(self, cascade: Cascade) -> Cascade:
            return Cascade(cascade.name, (), cascade.inputs, cascade.einsums, cascade.outputs)

    with pytest.raises(VerifyError):
        Pipeline((Broken(),)).run(classic("i->i"))


def test_passes_are_values() -> None:
    assert squeeze() == squeeze()
    assert hash(Order("dp")) == hash(Order("dp")) != hash(Order("greedy"))
    assert squeeze() != diagonal()
    assert str(Step("a", "b", "c")) == "# a: c\nb"


def test_a_step_says_the_change_in_passes() -> None:
    text = """cascade f(X[M]: f64) -> Z {
  G    = max[m] X[m]
  E[m] = exp(X[m] - G)
  Y    = E[m]
  Z    = Y * 2.0
}"""

    @dataclass(frozen=True, slots=True)
    class Unstable(Pass):
        name: ClassVar[str] = "unstable"

        def __call__(self, cascade: Cascade) -> Cascade:
            return parse_cascade("cascade f(X[M]: f64) -> Z {\n  Z = sum[m] exp(X[m]) * 2.0\n}")

    _, steps = Pipeline((Unstable(),)).run(parse_cascade(text))
    assert steps[0].comment == "Einsums 4 -> 1, passes over M 2 -> 1"
    assert str(steps[0]).startswith("# unstable: Einsums 4 -> 1, passes over M 2 -> 1\ncascade f(")


def test_passes_are_counted_for_who_reads_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(cascade: Cascade) -> PassReport:
        raise AssertionError("counted")

    monkeypatch.setattr("einloom.passes.analysis.pass_count.count_passes", count)
    cascade = classic("ij,jk,kl->il", sizes={"i": 2, "j": 30, "k": 4, "l": 5})
    _, steps = default_pipeline().run(cascade)
    assert steps[0].comment == "nothing changed"
    with pytest.raises(AssertionError, match="counted"):
        str(steps[-1])
