"""Architectures, workloads and designs from TOML: FuseMax's, and a user's own beside them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar, cast

from ....ir.cascade import Cascade
from ....ir.errors import ArgumentError, ParseError
from .architecture import Architecture, Array, Workload, sequence_length
from .design import Design, Phase, Placement
from .model import evaluate
from .report import SpaceReport
from .table import Table

T = TypeVar("T")

#: What makes a Cascade of its text; the language belongs to another room.
Parse = Callable[[str], Cascade]


@dataclass(frozen=True, slots=True)
class Library:
    """What there is to evaluate, by name; `listed` is what is evaluated when nothing is named."""

    architectures: Mapping[str, Architecture]
    workloads: Mapping[str, Workload]
    designs: Mapping[str, Design]
    lengths: tuple[int, ...]
    listed: tuple[tuple[str, ...], tuple[str, ...]]

    def survey(
        self,
        designs: str | Sequence[str] | None = None,
        workloads: str | Sequence[str] | None = None,
        lengths: int | str | Sequence[int | str] | None = None,
    ) -> SpaceReport:
        """The report of some designs on some workloads; None: on all that are listed.

        Raises:
            ArgumentError: a name or a length means nothing.
            EinloomError: a design does not fit a workload.
        """
        found = _chosen(self.designs, designs, self.listed[0], "design")
        on = _chosen(self.workloads, workloads, self.listed[1], "workload")
        at = self.lengths
        if lengths is not None:
            at = tuple(map(sequence_length, cast("list[int | str]", _listed(lengths, "length"))))
        return SpaceReport(
            tuple(
                evaluate(design, workload, length)
                for design in found
                for workload in on
                for length in at
            )
        )


def load(parse: Parse, file: str | Path | None = None) -> Library:
    """The library of FuseMax's design space, with what a file of the same format adds.

    Args:
        parse: what makes a Cascade of text.
        file: a TOML file. Its tables may name architectures, workloads and layers that are shipped;
            what it defines is what is listed, and what has a shipped name takes its place.

    Raises:
        ParseError: it is not TOML.
        EinloomError: a key is missing, unknown or of a wrong type; a design does not make sense.
    """
    shipped = files(__package__ or "")
    sources = [(shipped.joinpath("fusemax.toml"), [shipped])]
    if file is not None:
        if not isinstance(file, str | Path):
            raise ArgumentError(f"file= is a path, not {file!r}")
        path = Path(file)
        if not path.is_file():
            raise ArgumentError(f"there is no file {str(file)!r}")
        sources.append((path, [path.parent, shipped]))
    reader = _Reader(parse)
    for source, folders in sources:
        try:
            text = source.read_text("utf-8")
        except UnicodeDecodeError:
            raise ParseError(f"{source.name} is not text in UTF-8") from None
        reader.read(Table.read(text, source.name), folders)
    listed = tuple(reader.listed["design"]), tuple(reader.listed["workload"])
    return Library(reader.architectures, reader.workloads, reader.designs, reader.lengths, listed)


class _Reader:
    """Tables of one file after another, each entry in the place of one of its name."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self.architectures: dict[str, Architecture] = {}
        self.workloads: dict[str, Workload] = {}
        self.designs: dict[str, Design] = {}
        self.lengths: tuple[int, ...] = ()
        self.listed: dict[str, list[str]] = {}
        self._layers: dict[str, Callable[[Architecture], Design]] = {}
        self._cascades: dict[str, Cascade] = {}

    def read(self, table: Table, folders: Sequence[Traversable]) -> None:
        """Adds what the table of a file defines; its cascades and lists lie in these folders."""
        given = table.items("lengths")
        self.lengths = tuple(map(sequence_length, given)) or self.lengths
        for name, inner in table.tables("architecture"):
            self.architectures[name] = _architecture(name, inner)
        listed: dict[str, list[str]] = {"workload": [], "design": []}
        for name, inner in table.tables("workload"):
            self.workloads[name] = _workload(name, inner)
            listed["workload"].append(name)
        for name, inner in table.tables("layers"):
            self._layers[name] = self._bound(name, inner, folders)
        for name, inner in table.tables("design"):
            self.designs[name] = self._design(name, inner, folders)
            listed["design"].append(name)
        table.close()
        self.listed |= {kind: names for kind, names in listed.items() if names}

    def _design(self, name: str, table: Table, folders: Sequence[Traversable]) -> Design:
        architecture = _named(self.architectures, table.text("architecture"), "architecture")
        layers = table.text("layers", "")
        around = _named(self._layers, layers, "set of layers")(architecture) if layers else None
        return replace(self._bound(name, table, folders)(architecture), layers=around)

    def _bound(
        self, name: str, table: Table, folders: Sequence[Traversable]
    ) -> Callable[[Architecture], Design]:
        """A cascade and its binding, for whatever architecture it is put on."""
        cascade = self._cascade(table.text("cascade"), folders)
        source = table.text("source", "")
        sizes, cycles = table.wholes("sizes"), table.numbers("cycles")
        placements = tuple(_placement(each) for each in table.listed("on"))
        phases = tuple(_phase(each, folders) for each in table.listed("phase"))
        table.close()
        return lambda architecture: Design(
            name, architecture, cascade, placements, phases, cycles, sizes, None, source
        )

    def _cascade(self, given: str, folders: Sequence[Traversable]) -> Cascade:
        text = given if "{" in given else _text(given, folders)
        if text not in self._cascades:
            self._cascades[text] = self._parse(text)
        return self._cascades[text]


def _architecture(name: str, table: Table) -> Architecture:
    arrays: list[Array] = []
    for array, inner in table.tables("arrays"):
        shape = inner.items("shape")
        arrays.append(Array(array, shape, inner.numbers("cycles")))
        inner.close()
    found = Architecture(
        name,
        table.number("frequency"),
        table.number("bandwidth"),
        table.whole("buffer"),
        table.whole("word"),
        tuple(arrays),
        table.text("source", ""),
    )
    table.close()
    return found


def _workload(name: str, table: Table) -> Workload:
    found = Workload(
        name,
        table.wholes("sizes"),
        table.names("length"),
        table.text("source", ""),
    )
    table.close()
    return found


def _placement(table: Table) -> Placement:
    found = Placement(table.text("array"), table.groups("space"), table.names("einsums"))
    table.close()
    return found


def _phase(table: Table, folders: Sequence[Traversable]) -> Phase:
    listing = table.text("traffic", "")
    found = Phase(
        table.stages("stages"),
        table.names("loops"),
        table.wholes("tile"),
        table.names("buffer"),
        _traffic(_text(listing, folders), listing) if listing else None,
    )
    table.close()
    return found


def _traffic(text: str, name: str) -> dict[tuple[str, int], float]:
    """Bytes by workload and sequence length, from lines `model,seq_len,traffic_bytes,source`."""
    found: dict[tuple[str, int], float] = {}
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            key = row["model"], sequence_length(row["seq_len"])
            found[key] = float(row["traffic_bytes"])
        except (KeyError, TypeError, ValueError):
            raise ArgumentError(
                f"line {number} of {name} is not `model,seq_len,traffic_bytes`",
                passed=(str(list(row.values())),),
            ) from None
    return found


def _text(name: str, folders: Sequence[Traversable]) -> str:
    for folder in folders:
        path = folder.joinpath(name)
        if path.is_file():
            return path.read_text("utf-8")
    raise ArgumentError(f"there is no file {name!r}", hint="its place is beside the TOML file")


def _chosen(
    known: Mapping[str, T], given: str | Sequence[str] | None, listed: Sequence[str], what: str
) -> list[T]:
    names = listed if given is None else _listed(given, what)
    return [_named(known, name, what) for name in names]


def _listed(given: object, what: str) -> list[object]:
    """One or several of something, as a list."""
    several = isinstance(given, list | tuple)
    found = list(cast("Sequence[object]", given)) if several else [given]
    if not found:
        raise ArgumentError(f"no {what} is named", hint="without the argument it is all of them")
    return found


def _named(known: Mapping[str, T], name: object, what: str) -> T:
    if not isinstance(name, str) or name not in known:
        raise ArgumentError(
            f"there is no {what} {name!r}", deduced=(f"there are: {', '.join(known)}",)
        )
    return known[name]
