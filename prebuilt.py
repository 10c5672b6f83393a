"""Filling the object cache before it is needed: when a machine, or an image of one, is set up.

Code serves every shape of its kind, a record one signature (records.py). So what is common is
called with several extents: they make the code for all, and records of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from einloom.arguments import checked_shapes, dtypes_in_order, in_order
from einloom.compiler import compile
from einloom.entry import einsum
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import F64
from einloom.specialisation import Shape
from einloom.templates import input_names, template_of

#: What programs contract most: products of matrices in each layout, alone and in a batch, with
#: vectors, among vectors; sums, diagonals and permutations; attention's two products.
COMMONEST = (
    *("ij,jk->ik", "ij,kj->ik", "ji,jk->ik", "ji,kj->ik"),
    *("bij,bjk->bik", "bij,bkj->bik", "bij,jk->bik", "bhqd,bhkd->bhqk", "bhqk,bhkd->bhqd"),
    *("ij,j->i", "ij,i->j", "i,ij->j", "bij,bj->bi", "i,ij,j->", "bi,ij,bj->b"),
    *("i,i->", "ij,ij->", "bi,bi->b", "i,j->ij", "ij,ij->ij", "i,ij->ij", "ij,j->ij"),
    *("ij->", "ij->i", "ij->j", "ii->", "ij->ji", "abc->cba", "abcd->dcba", "abcd->acbd"),
    *("ij,jk,kl->il", "ijk,ja,ka->ia"),
)
DTYPES = ("f32", "f64")
#: The extents of all their symbols: of those that make no array of more than `_MOST_ELEMENTS`.
EXTENTS = (4, 8, 16, 32, 64, 100, 256, 512, 1000)
_MOST_ELEMENTS = 1 << 20


def fill(
    what: str | Cascade, shapes: Sequence[Shape] | Mapping[str, Shape], dtypes: Any = None
) -> None:
    """Compiles what such calls need, of `el.compile` and, for subscripts, of `el.einsum`.

    Args:
        what, shapes: as `compile` takes them.
        dtypes: likewise; None: those that are declared, or f64.

    Raises:
        EinloomError: it makes no sense.
    """
    template, count = template_of(what, notation="compact", sizes=None, name=None)
    names = input_names(template, shapes, dtypes)
    extents = checked_shapes(in_order(shapes, names, "shapes"), count) or []
    given = dtypes_in_order(dtypes, names, count)
    if given is None:
        given = [decl.dtype or F64 for decl in template(None, None).inputs]
    arrays = [np.zeros(shape, dtype.numpy) for shape, dtype in zip(extents, given, strict=True)]
    compile(what)(*arrays)
    if isinstance(what, str) and "{" not in what:
        einsum(what, *arrays)


def fill_commonest() -> None:
    """Compiles what is common."""
    for subscripts in COMMONEST:
        inputs, output = subscripts.split("->")
        terms = inputs.split(",")
        longest = max(map(len, (*terms, output)))
        for extent, dtype in product(EXTENTS, DTYPES):
            if extent**longest <= _MOST_ELEMENTS:
                fill(subscripts, [(extent,) * len(term) for term in terms], dtype)
