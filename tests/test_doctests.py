"""Every example in a docstring, in the README and in docs/ runs and prints what it says."""

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import einloom

from .support import ROOT

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def with_examples(name: str) -> bool:
    """Whether the module's file holds an example: read, not imported, for what that would load."""
    spec = importlib.util.find_spec(name)
    return bool(spec and spec.origin and ">>> " in Path(spec.origin).read_text("utf-8"))


NAMES = ["einloom", *(info.name for info in pkgutil.walk_packages(einloom.__path__, "einloom."))]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", [name for name in NAMES if with_examples(name)])
def test_docstrings(name: str) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(name), optionflags=FLAGS)
    assert attempted
    assert not failed


@pytest.mark.parametrize(
    "name", [name for name in PAGES if ">>> " in (ROOT / name).read_text("utf-8")]
)
def test_pages(name: str) -> None:
    failed, _ = doctest.testfile(str(ROOT / name), module_relative=False, optionflags=FLAGS)
    assert not failed
