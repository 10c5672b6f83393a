"""Every test of a peer runs on every backend; those that deviate are written in docs/dialect.md."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import einloom as el
from einloom.backends.registry import backend_names

from ..support import ROOT
from .peers import SWITCH

_ROW = re.compile(r"^\| `(?P<test>(?:numpy|opt_einsum)/[^`]+)` \| (?P<reason>.+) \|$", re.MULTILINE)

HERE = Path(__file__).parent

#: Values of parameters that say again what another value says: see docs/dialect.md.
REPEATED = {
    "use_blas": (True,),
    "optimize": ("eager", "opportunistic", "dynamic-programming", "random-greedy-128"),
}
#: Path finders that meet every einsum in `test_compare`, and in no other test.
ONLY_COMPARED = ("auto-hq", "branch-all", "branch-1", "branch-2", "random-greedy")


def deviations() -> dict[str, str]:
    """The peers' tests that einloom fails and means to fail, each with its reason."""
    page = (ROOT / "docs" / "dialect.md").read_text("utf-8")
    return {row["test"]: row["reason"] for row in _ROW.finditer(page)}


def names_of(item: pytest.Item) -> set[str]:
    """The names that a peer's test may have in docs/dialect.md: without parameters and with."""
    name: str = getattr(item, "originalname", item.name)
    if isinstance(item.parent, pytest.Class):
        name = f"{item.parent.name}::{name}"
    name = f"{item.path.stem.removeprefix('test_')}/{name.replace('__', '::')}"
    _, _, parameters = item.name.removesuffix("]").partition("[")  # the first is the backend
    return {name, f"{name}[{parameters.partition('-')[2]}]"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out repetitions; expect deviations to fail: one that passes must leave the list."""
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    reasons = deviations()
    for item in items:
        if item.path.parent != HERE:
            kept.append(item)
            continue
        params: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
        again = any(params.get(name) in values for name, values in REPEATED.items())
        if params.get("optimize") in ONLY_COMPARED:
            again = getattr(item, "originalname", "") != "test_contract__test_compare"
        (dropped if again else kept).append(item)
        for name in names_of(item) & reasons.keys():
            item.add_marker(pytest.mark.xfail(reason=reasons[name], strict=True))
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)


@pytest.fixture(autouse=True, params=backend_names())
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend that einloom's calls run on; it serves every dtype that it has."""
    SWITCH.backend = request.param
    calls, fallbacks = SWITCH.calls, el.fallbacks()
    yield request.param
    assert SWITCH.calls > calls, "this test calls nothing of einloom's"
    new = {reason for reason, count in el.fallbacks().items() if count > fallbacks.get(reason, 0)}
    assert not [reason for reason in new if "runs on the NumPy backend only" not in reason]
