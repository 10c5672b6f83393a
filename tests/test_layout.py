"""The shape of the house: one import name, every package shipped, imports that only fall."""

import ast
import graphlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import einloom

from .support import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
DATA: dict[str, list[str]] = PROJECT["tool"]["setuptools"]["package-data"]

# A room stands on a floor and imports only from floors below it: rooms on one floor are strangers.
# tool.importlinter holds them to it too, but does not see what is imported by its name.
_LAYERS: list[str] = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
FLOORS = {
    room.strip(" ()"): floor
    for floor, rooms in enumerate(reversed(_LAYERS))
    for room in rooms.split("|")
}

# Where a library may be named at all, so that changing it changes one room.
CONFINED = {
    "lark": "einloom.frontend.parser",
    "llvmlite": "einloom.backends.llvm",
    "opt_einsum": "einloom.passes",
    "tenseal": "einloom.backends.ckks",
}


def folder_of(package: str) -> Path:
    """Where a declared package lies in the checkout."""
    return ROOT.joinpath(*package.split(".")[1:])


def modules() -> dict[str, Path]:
    """Every module of the declared packages: its dotted name and its file."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for path in sorted(folder_of(package).glob("*.py")):
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


MODULES = modules()


# -- what is shipped ------------------------------------------------------------------------------


def test_this_checkout_is_what_is_tested() -> None:
    """Installed in editable mode: another copy of einloom would be tested in this one's name."""
    assert Path(einloom.__file__).resolve().parent == ROOT


def test_every_package_is_listed() -> None:
    """A folder with Python in it, under a room, is a package and is listed; and no other is."""
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= set(FLOORS)
    rooms = [name for name in FLOORS if (ROOT / name).is_dir()]
    found = {
        ".".join(("einloom", *path.parent.relative_to(ROOT).parts))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
    }
    assert sorted(PACKAGES) == sorted(found | {"einloom"})
    assert not [name for name in PACKAGES if not (folder_of(name) / "__init__.py").is_file()]


def test_the_root_holds_only_what_is_shipped() -> None:
    """Every .py file in the root becomes a module of the package: no conftest.py, no setup.py."""
    assert {path.stem for path in ROOT.glob("*.py")} <= {"__init__", *FLOORS}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and, built from it and from nothing else, the wheel."""
    source = tmp_path_factory.mktemp("source")
    output = tmp_path_factory.mktemp("dist")
    # A copy of what is kept in the repository: building leaves build/ and *.egg-info behind, and
    # a stale build/ would find its way into the wheel.
    tops = {folder_of(name).relative_to(ROOT).parts[0] for name in PACKAGES if name != "einloom"}
    for name in tops | {"tests", "examples", "benchmarks", "docs"}:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output)]
    # Not from the root: its own build/ folder would stand in the place of the `build` tool.
    run([*command, str(source)], cwd=output)
    return output


def run(command: list[str], cwd: Path, **environment: str) -> str:
    """What the command prints; its whole output is the message where it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder the wheel, and nothing else, was installed into."""
    target = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run([*pip, "--target", str(target), str(wheel)], cwd=target)
    return target


@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_one_import_name_and_all_of_it(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    shipped = [*MODULES.values()]
    for package, patterns in DATA.items():
        for pattern in patterns:
            shipped += (found := sorted(folder_of(package).glob(pattern)))
            assert found, f"{package} has no {pattern}"
    assert names == {f"einloom/{path.relative_to(ROOT).as_posix()}" for path in shipped}


@pytest.mark.xdist_group("wheel")
def test_the_sdist_holds_what_a_reader_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in MODULES.values()} <= names
    assert "tests/test_layout.py" in names


@pytest.mark.xdist_group("wheel")
def test_the_installed_wheel_imports(installed: Path, tmp_path: Path) -> None:
    """Every module, from the wheel and not from the checkout, and no second import name."""
    script = (
        "import importlib, json, sys\n"
        f"for name in {sorted(MODULES)!r}:\n"
        "    importlib.import_module(name)\n"
        "files = {n: m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'einloom'}\n"
        "print(json.dumps(files))"
    )
    output = run([sys.executable, "-c", script], cwd=tmp_path, PYTHONPATH=str(installed))
    files: dict[str, str] = json.loads(output.splitlines()[-1])
    assert set(files) == set(MODULES)
    assert not [file for file in files.values() if not Path(file).is_relative_to(installed)]
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names - {"bin", "__pycache__"} == {"einloom"}


# -- what an import costs -------------------------------------------------------------------------


def test_import_loads_numpy_alone(tmp_path: Path) -> None:
    """`import einloom` brings in numpy and the standard library: the rest waits to be asked for."""
    script = (
        "import json, sys\n"
        "before = set(sys.modules)\n"
        "import einloom\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    loaded = json.loads(run([sys.executable, "-c", script], cwd=tmp_path))
    roots = {name.partition(".")[0] for name in loaded}
    assert "einloom" in roots
    assert roots - set(sys.stdlib_module_names) <= {"einloom", "numpy"}


# -- which way imports run ------------------------------------------------------------------------


def imports(package: str, source: str) -> Iterator[tuple[str, str | None, bool, int]]:
    """Each import in a file of the package: (from where, which name, written relatively?, line).

    Imports in functions and under TYPE_CHECKING count, and so does import_module("a literal").
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield alias.name, None, False, node.lineno
            case ast.ImportFrom():
                base = package.split(".")
                base = base[: len(base) - node.level + 1] if node.level else []
                origin = ".".join(filter(None, [*base, node.module]))
                for alias in node.names:
                    yield origin, alias.name, bool(node.level), node.lineno
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                dots = len(target) - len(target.lstrip("."))
                base = package.split(".")
                base = base[: len(base) - dots + 1] if dots else []
                yield ".".join([*base, target[dots:]]), None, True, node.lineno
            case _:
                pass


def resolved(origin: str, name: str | None) -> str:
    """The module that an import reaches: `from . import x` is x where x is a module."""
    whole = f"{origin}.{name}"
    return whole if name is not None and whole in MODULES else origin


def faults(name: str, source: str, *, is_package: bool) -> list[str]:
    """What is wrong with the imports of one module."""
    found: list[str] = []
    package = name if is_package else name.rpartition(".")[0]
    room = name.split(".")[1] if "." in name else None
    in_the_root = package == "einloom"
    for origin, symbol, relative, line in imports(package, source):
        target = resolved(origin, symbol)
        top, *rest = target.split(".")
        where = f"{name}:{line}: {target}"
        if top in FLOORS:
            found.append(f"{where}: a room by its bare name")
        home = CONFINED.get(top)
        if home is not None and not f"{name}.".startswith(f"{home}."):
            found.append(f"{where}: only {home} may import it")
        if top != "einloom":
            continue
        if in_the_root and relative:
            found.append(f"{where}: the root's own files import absolutely")
        if not in_the_root and not relative:
            found.append(f"{where}: a room imports relatively")
        if room is None:
            continue  # the front door opens on every room
        if not rest:
            if room != "__main__":
                found.append(f"{where}: a room imports the front door")
        elif not {room, rest[0]} <= set(FLOORS):
            found.append(f"{where}: a room without a floor")
        elif rest[0] != room and FLOORS[rest[0]] >= FLOORS[room]:
            found.append(f"{where}: imports fall, and this one does not")
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_fall(name: str) -> None:
    path = MODULES[name]
    is_package = path.name == "__init__.py"
    assert not faults(name, path.read_text("utf-8"), is_package=is_package)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("einloom.ir.einsum", "from ..passes import base"),
        ("einloom.ir.einsum", "from .. import passes"),
        ("einloom.ir.einsum", "if TYPE_CHECKING:\n    from ..frontend import parser"),
        ("einloom.ir.einsum", "def f():\n    from ..compiler import compile"),
        ("einloom.ir.einsum", "import einloom"),
        ("einloom.ir.einsum", "from .. import evaluate"),
        ("einloom.ir.einsum", "from ir import ranks"),
        ("einloom.ir.einsum", "from einloom.ir import ranks"),
        ("einloom.passes.base", "from ..backends import base"),
        ("einloom.passes.base", "import_module('..backends.base', __package__)"),
        ("einloom.passes.base", "importlib.import_module('einloom.backends.base')"),
        ("einloom.backends.numpy.emit", "from ...frontend.parser import parse"),
        ("einloom.backends.base", "from einloom.__main__ import main"),
        ("einloom.executable", "from einloom.compiler import compile"),
        ("einloom.compiler", "from einloom.api import einsum"),
        ("einloom.compiler", "from einloom.tests import support"),
        ("einloom.compiler", "from .ir import ranks"),
        ("einloom.compiler", "from einloom.__main__ import main"),
        ("einloom.compiler", "from einloom.commands import run"),
        ("einloom.frontend.resolve", "import lark"),
        ("einloom.frontend.resolve", "from lark.exceptions import LarkError"),
        ("einloom.backends.numpy.emit", "import llvmlite.binding as llvm"),
        ("einloom.ir.ranks", "import opt_einsum"),
    ],
)
def test_a_wrong_import_is_seen(name: str, line: str) -> None:
    assert faults(name, line, is_package=False)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("einloom.ir.einsum", "from .ranks import Rank"),
        ("einloom.passes.base", "from ..ir import einsum"),
        ("einloom.passes.base", "from .. import ir"),
        ("einloom.passes.order", "import opt_einsum"),
        ("einloom.frontend.parser", "from lark import Lark"),
        ("einloom.backends.llvm.codegen", "import llvmlite.binding as llvm"),
        ("einloom.backends.registry", "import_module('.numpy', __package__)"),
        ("einloom.executable", "from einloom.backends.base import Kernel"),
        ("einloom.compiler", "from einloom.passes.base import Pass"),
        ("einloom.__main__", "import einloom"),
    ],
)
def test_a_right_import_is_not(name: str, line: str) -> None:
    assert not faults(name, line, is_package=False)


def test_no_module_imports_itself_through_others() -> None:
    """No circles, type-only imports and imports in functions included."""
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found = imports(package, path.read_text("utf-8"))
        graph[name] = {resolved(origin, symbol) for origin, symbol, _, _ in found} & set(MODULES)
        graph[name].discard(name)  # `from . import x` in an __init__.py, x not a module
    graphlib.TopologicalSorter(graph).prepare()
