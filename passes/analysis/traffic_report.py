"""What `traffic` says: the bytes moved of each tensor, by groups; a report that prints itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .fusion import Group
from .reuse import Bounds


@dataclass(frozen=True, slots=True)
class Moved:
    """The bytes of one tensor that one group moves: the least and the most of each."""

    tensor: str
    read: Bounds
    written: Bounds

    @property
    def bytes(self) -> Bounds:
        return _plus(self.read, self.written)


@dataclass(frozen=True, slots=True)
class GroupTraffic:
    """What a group moves, and the tensors that it holds in the buffer."""

    group: Group
    moved: tuple[Moved, ...]
    held: tuple[str, ...]

    @property
    def bytes(self) -> Bounds:
        return _plus(*(each.bytes for each in self.moved))


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """The bytes that a Cascade moves; prints itself as a table of tensors, then of groups."""

    cascade: str
    buffer: int
    groups: tuple[GroupTraffic, ...]

    @property
    def tensors(self) -> dict[str, Moved]:
        """What is moved of each tensor in all."""
        found: dict[str, Moved] = {}
        for group in self.groups:
            for each in group.moved:
                old = found.get(each.tensor, Moved(each.tensor, (0, 0), (0, 0)))
                read, written = _plus(old.read, each.read), _plus(old.written, each.written)
                found[each.tensor] = Moved(each.tensor, read, written)
        return found

    @property
    def bytes(self) -> Bounds:
        """The bytes moved in all: the least and the most."""
        return _plus(*(group.bytes for group in self.groups))

    @property
    def exact(self) -> bool:
        """Whether the least is the most."""
        return all(
            low == high for each in self.tensors.values() for low, high in (each.read, each.written)
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "cascade": self.cascade,
            "buffer": self.buffer,
            "bytes": list(self.bytes),
            "exact": self.exact,
            "tensors": {
                name: {"read": list(each.read), "written": list(each.written)}
                for name, each in self.tensors.items()
            },
            "groups": [
                {
                    "tensors": list(each.group.tensors),
                    "loops": list(each.group.loops),
                    "bytes": list(each.bytes),
                    "held": list(each.held),
                }
                for each in self.groups
            ],
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict())

    def __str__(self) -> str:
        rows = [(self.cascade, "read", "written", "bytes")]
        rows += [
            (name, _shown(each.read), _shown(each.written), _shown(each.bytes))
            for name, each in self.tensors.items()
        ]
        rows.append(("in all", "", "", _shown(self.bytes)))
        lines = _table(rows)
        lines.append(f"through a buffer of {self.buffer:,} bytes, group by group:")
        for each in self.groups:
            held = f", with {', '.join(each.held)} held" if each.held else ""
            lines.append(f"  {each.group}: {_shown(each.bytes)}{held}")
        return "\n".join(lines)


def _plus(*pairs: Bounds) -> Bounds:
    return sum(low for low, _ in pairs), sum(high for _, high in pairs)


def _shown(pair: Bounds) -> str:
    low, high = pair
    return f"{low:,}" if low == high else f"{low:,}..{high:,}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
