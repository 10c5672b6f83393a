"""Python identifiers for the tensors, ranks and variables of a Cascade."""

from __future__ import annotations

import builtins
import keyword
import unicodedata

#: What the emitted source means by these names itself.
_RESERVED = {"np", "math", "ml_dtypes", "out", *keyword.kwlist, *keyword.softkwlist, *dir(builtins)}


class Names:
    """Gives every tensor, rank and variable an identifier of its own: its own name if it can."""

    def __init__(self, reserved: frozenset[str]) -> None:
        self._taken = _RESERVED | reserved
        self._given: dict[tuple[str, str], str] = {}

    def of(self, kind: str, name: str) -> str:
        """The identifier of the `kind` ("tensor", "size", "block") called `name`."""
        if (kind, name) not in self._given:
            self._given[kind, name] = self.fresh(name)
        return self._given[kind, name]

    def fresh(self, stem: str) -> str:
        """An identifier not yet in use, like `stem`."""
        # Python reads identifiers in this normal form, in which two names may be one.
        stem = unicodedata.normalize("NFKC", stem)
        if not stem.isidentifier():
            stem = "value"
        found, number = stem, 1
        while found in self._taken:
            found, number = f"{stem}_{number}", number + 1
        self._taken.add(found)
        return found
