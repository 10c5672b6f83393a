"""Laws that are claimed: tried on NaN, infinities and integers that wrap as well."""

from __future__ import annotations

import pytest

import einloom as el
from einloom.ir.errors import ResolveError


def claimed(operator: str) -> None:
    name = operator.split("(")[0].removeprefix("op ")
    el.parse(f"{operator}\ncascade f(A[I]) -> Y {{ Y[i] = {name}(A[i], A[i]) }}")


@pytest.mark.parametrize(
    "operator",
    [
        "op most(a, b) [commutative, associative, idempotent, identity = -inf] = "
        "select((a > b) | (a != a), a, b)",
        "op plus(a, b) [commutative, associative, identity = 0, distributes_over = max, "
        "inverse = sub] = a + b",
        "op times(a, b) [commutative, associative, identity = 1, distributes_over = add] = a * b",
        "op larger(a, b) [commutative, associative, idempotent, identity = -inf] = max(a, b)",
        "op larger(a, b) [identity = -inf] = select(a > b, a, b)",
        "op last(a, b) [associative, identity = 0] = select(b != 0, b, a)",
        "op both(a, b) [commutative, associative, idempotent] = a & b",
        "op plus(a: i8, b: i8) [commutative, associative, identity = 0] = a + b",
        "op plus(a: bf16, b: bf16) [commutative, associative, identity = 0] = a + b",
        "op plus(a: f32, b) [commutative, associative, identity = 0] = a + b",
        "op plus(a, b: i8) [commutative, associative, identity = 0, inverse = sub] = a + b",
        "op times(a: c128, b: c128) [commutative, associative, identity = 1] = a * b",
    ],
)
def test_laws_that_hold(operator: str) -> None:
    claimed(operator)


@pytest.mark.parametrize(
    ("operator", "counterexample"),
    [
        ("op most(a, b) [commutative] = select(a > b, a, b)", "nan"),
        ("op most(a, b) [associative] = select(a > b, a, b)", "nan"),
        ("op most(a: f16, b: f16) [idempotent] = select(a == b, a, 0)", "nan"),
        ("op apart(a: f64, b: f64) [commutative] = select(a - b <= 0, b, a)", "nan"),
        (
            "op first(a: i64, b: i64) [commutative] = select(a - b > 0, a, b)",
            "-9223372036854775808",
        ),
        ("op mean(a: i8, b: i8) [idempotent] = (a + b) // 2", "a = "),
        ("op mean(a, b) [idempotent] = (a + b) // 2", "a = "),
        ("op sides(a: f32, b: f32) [commutative] = select(a == inf, 1, b) * b", "inf"),
    ],
)
def test_laws_that_do_not(operator: str, counterexample: str) -> None:
    with pytest.raises(ResolveError, match="does not have the law") as found:
        claimed(operator)
    assert counterexample in str(found.value)
