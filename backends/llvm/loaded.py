"""The code that is in memory, by the key of its object; and how it comes there from the disk."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress

from .cache import current
from .image import Code, address_of
from .image import load as load_image

#: How many functions stay in memory that nothing refers to, the least recently asked for left.
LOADED_BOUND = 512

_loaded: OrderedDict[str, Code] = OrderedDict()


def in_memory(key: str) -> Code | None:
    """The code of that key, if it is in memory."""
    found = _loaded.get(key)
    if found is not None:
        with suppress(KeyError):  # another thread may have let go of it
            _loaded.move_to_end(key)
    return found


def remember(key: str, code: Code) -> None:
    """Keeps code in memory, for as long as there is room."""
    while len(_loaded) >= LOADED_BOUND:
        with suppress(KeyError):
            _loaded.popitem(last=False)
    code.key = key
    _loaded[key] = code


def from_disk(key: str) -> Code | None:
    """The code of that key, from memory or the object cache; None if there is no image of it."""
    found = in_memory(key)
    if found is None:
        image = current().load(key)
        if image is not None:
            with suppress(ValueError):
                found = load_image(image, address_of)
                remember(key, found)
    return found
