"""What tests of encrypted executables share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import einloom as el


def compiled(what: str, **options: Any) -> el.Encrypted:
    """`el.compile` for encrypted data, with options that are put together at run time."""
    made = cast("Callable[..., el.Encrypted]", el.compile)
    return made(what, backend="ckks", **options)
