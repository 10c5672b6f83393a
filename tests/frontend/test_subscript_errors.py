"""What wrong subscripts are told: one golden file for each kind of mistake."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from einloom.frontend.subscripts import from_interleaved, parse_subscripts, to_cascade
from einloom.ir.errors import EinloomError

from ..support import Golden


def call(text: str, *shapes: tuple[int, ...], notation: str = "compact", **options: Any) -> None:
    to_cascade(parse_subscripts(text, notation=notation), shapes, **options)


def interleaved(*args: Any) -> None:
    subscripts, operands = from_interleaved(args)
    to_cascade(subscripts, [np.shape(operand) for operand in operands])


#: Kind of mistake -> subscripts and shapes.
COMPACT: dict[str, tuple[tuple[Any, ...], ...]] = {
    "syntax": (
        ("ij,jk->ik->k", (2, 3), (3, 4)),
        ("ij- >i", (2, 3)),
        ("i.j->i", (2, 3)),
        ("i. ..->i", (2, 3)),
        ("...i...", (2, 3)),
        ("ij->i,j", (2, 3)),
        ("i%j", (2, 3)),
        ("(ij)k->i", (2, 3)),
        ("i\tj", (2, 3)),
        ("i;j", (2, 3)),
        ("x" * 300 + "-" + "y" * 300, (2, 3)),
    ),
    "operands": (
        ("ij,jk", (2, 3)),
        ("ij", (2, 3), (3, 4)),
        (",", (2,)),
        ("ij,jk->ik", (2,), (3, 4)),
        ("ij,jk->ik", (2, 3, 4), (3, 4)),
        ("i,...jkl->", (2,), (3, 4)),
        ("", (2,)),
        ("a,b,c,d,e,f,g,h,i,j", *[(2,)] * 9),
    ),
    "symbols": (
        ("ij,jk->il", (2, 3), (3, 4)),
        ("ij,jk->iik", (2, 3), (3, 4)),
        ("ijk->kjkik", (2, 3, 4)),
        ("->a",),
        ("...->b", (2, 3)),
    ),
    "extents": (
        ("ij,jk->ik", (2, 3), (4, 5)),
        ("ij,kj,lm,j->ik", (2, 3), (4, 3), (5, 6), (7,)),
        ("ij, ij -> i", (2, 1), (3, 4)),
        ("ii->i", (1, 3)),
        ("kii,i->k", (4, 2, 3), (3,)),
        ("...i,...i", (2, 5, 3), (2, 4, 3)),
        ("i,j->i", (2,), (3,), {"sizes": {"i": 3}}),
        ("ij,j->i", (2, 1), (3,), {"broadcast": "strict"}),
        (f"{'a' * 64},b->", (1,) * 63 + (2,), (2,)),
    ),
    "options": (
        ("ij->i", (2, 3), {"sizes": {"k": 3}}),
        ("ij->i", (2, 3), {"sizes": {"j": -3}}),
        ("ij->i", (2, 3), {"sizes": {"j": "3"}}),
        ("ij->i", (2, 3), {"semiring": "maxplus"}),
        ("ij->i", (2, 3), {"broadcast": True}),
        ("ij->i", (2, 3), {"notation": "words"}),
        ("".join(map(chr, range(0x4E00, 0x4E41))) + ",a", (1,) * 65, (1,)),
    ),
    "named": (
        ("row col, col -> row,", (2, 3), (3,), {"notation": "named"}),
        ("row 2col -> row", (2, 3), {"notation": "named"}),
        ("(row col) -> row", (2, 3), {"notation": "named"}),
        ("row col, col -> row", (2, 3), (4,), {"notation": "named"}),
        ("row col, col -> raw", (2, 3), (3,), {"notation": "named"}),
    ),
}

ARRAY = np.ones((2, 3))

INTERLEAVED: tuple[tuple[Any, ...], ...] = (
    (ARRAY,),
    (ARRAY, [0, 1], np.ones((4, 5)), [1, 2]),
    (ARRAY, [0, 1], [0, 2]),
    (ARRAY, [0]),
    (ARRAY, [..., 0, ...]),
    (ARRAY, [0, 1.0]),
    (ARRAY, [0, [1]]),
    (ARRAY, [0, "a"]),
    (ARRAY, "ij"),
    (ARRAY, ARRAY, "ij,ij->i"),
    (ARRAY, 3),
    (ARRAY, ["a rather long label, this one", 1], [2]),
)


def shown(case: tuple[Any, ...]) -> str:
    return ", ".join(
        "array" + str(np.shape(part)) if type(part) is np.ndarray else repr(part) for part in case
    )


def held(golden: Golden, name: str, cases: list[tuple[str, EinloomError]]) -> None:
    texts = [f"einsum({case})\n\n{type(error).__name__}: {error}\n" for case, error in cases]
    golden(f"frontend/subscripts_{name}.txt", f"\n{'-' * 40}\n".join(texts))


@pytest.mark.parametrize("kind", COMPACT)
def test_subscripts(kind: str, golden: Golden) -> None:
    cases: list[tuple[str, EinloomError]] = []
    for case in COMPACT[kind]:
        given = len(case) - isinstance(case[-1], dict)
        options: dict[str, Any] = dict(*case[given:])
        with pytest.raises(EinloomError) as caught:
            call(*case[:given], **options)
        assert isinstance(caught.value, ValueError) != isinstance(caught.value, TypeError)
        cases.append((shown(case), caught.value))
    held(golden, kind, cases)


def test_interleaved(golden: Golden) -> None:
    cases: list[tuple[str, EinloomError]] = []
    for case in INTERLEAVED:
        with pytest.raises(EinloomError) as caught:
            interleaved(*case)
        cases.append((shown(case), caught.value))
    held(golden, "interleaved", cases)


def test_without_shapes(golden: Golden) -> None:
    with pytest.raises(EinloomError) as caught:
        to_cascade(parse_subscripts("ij,...j->i..."), None)
    held(golden, "without_shapes", [("'ij,...j->i...'", caught.value)])
