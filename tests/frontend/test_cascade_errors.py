"""What cascade text that is wrong is told: one golden file for each kind of mistake."""

from __future__ import annotations

import pytest

from einloom.frontend.parser import parse_cascade
from einloom.ir.errors import EinloomError

from ..support import Golden

HEADER = "cascade f(A[I,J]: f32, B[J]: f32, S: f32, D[V,E], T[B]: i32) -> Y {\n"


def body(*statements: str) -> str:
    return HEADER + "\n".join(f"  {statement}" for statement in statements) + "\n}"


#: Kind of mistake -> texts.
MISTAKES: dict[str, tuple[str, ...]] = {
    "syntax_header": (
        (
            "Y[i] = A[i] {",
            "cascade {\n}",
            "cascade f(A[I]) {\n  Y[i] = A[i]\n}",
            "cascade f(A[I]: f32 B[J]: f32) -> Y {\n}",
            "cascade f(A[I] -> Y {\n}",
            "cascade f(A[I]) -> Y\n  Y[i] = A[i]",
            "cascade f(A[I]) -> Y {\n  Y[i] = A[i]\n",
            "cascade f(A[I]) -> Y {\n  Y[i] = A[i]\n}\ncascade g(A[I]) -> Y {\n}",
            "cascade f(A[I]) -> Y[I] {\n}",
            "cascade f(A[I]:) -> Y {\n}",
            'cascade "f"(A[I]) -> Y {\n}',
        )
    ),
    "syntax_einsum": (
        tuple(
            map(
                body,
                (
                    "Y[i] =",
                    "Y[i] = A[i,j] +\n    B[j]",
                    "Y[i] = (A[i,j] * B[j]",
                    "Y[i] = A[i,j]; Z[i] = Y[i]",
                    "Y[i] = A[i,j] ** 2",
                    "Y[i] = +A[i,j]",
                    "Y[i] = 2 A[i,j]",
                    "Y[i] = A[i,j] and B[j]",
                    "Y[i] = sum[j] -A[i,j]",
                    "Y[i] = 0 < A[i,j] < 1",
                    "Y[i] = max(A[i,j],)",
                    "Y[i] = A[i,:]",
                    "Y[i] = A[i][j]",
                    "Y[i] = A[i else 0, j]",
                    "Y[i] = A[i,j] where i = j",
                    "Y[i] = A[i,j] where i < j over max_plus",
                    "Y[i] = A[i,j] else 0",
                    "Y[i]: = A[i,j]",
                    "Y(i) = A[i,j]",
                    "Y[i] += A[i,j]",
                    "Y[i] = A[i,j)",
                    "Y[i] = A[i,j])",
                    "Y[i] = A @ B",
                    "Y[i] = A[i,j].sum()",
                    "Y[i] = 2x",
                    "Y[i] = 99999999999999999999999",
                    "ranks M =",
                    "ranks",
                ),
            )
        )
    ),
    "scans": tuple(
        map(
            body,
            (
                "R[i+1] = R[i] + B[i]\n  Y = 1",
                "R[0] = 0\n  R[i+2] = R[i] + B[i]\n  Y = 1",
                "R[1] = 0\n  Y = 1",
                "R[i+1] = R[i]\n  R[0] = 0\n  Y = 1",
                "R[0] = 0\n  R[0] = 1\n  R[i+1] = R[i]\n  Y = 1",
                "R[0] = 0\n  R[i+1] = R[i+1] + B[i]\n  Y = 1",
                "R[0] = 0\n  R[i+1] = R[I-1-i]\n  Y = 1",
                "R[0] = 0\n  R[i+1] = Q[i]\n  Q[i] = R[i]\n  Y = 1",
                "R[0,i] = 0\n  R[i+1,i] = R[i,i]\n  Y = 1",
                "R[0] = 0\n  C[i] = R[j]\n  R[i+1] = C[i]\n  Y = 1",
                "R[0] = 0\n  Q[0] = 0\n  R[i+1] = Q[i]\n  Q[j+1] = R[j]\n  Y = 1",
                "Y[i] = Y[i]",
            ),
        )
    ),
    "partitions": tuple(
        map(
            body,
            (
                "partition W -> W1, W0\n  Y = 1",
                "partition I -> I1\n  Y = 1",
                "partition I -> I1, I1\n  Y = 1",
                "partition i -> I1, I0\n  Y = 1",
                "partition I -> I1, I0\n  partition J -> I0, J1\n  Y = 1",
            ),
        )
    ),
    "places": tuple(
        map(
            body,
            (
                "Y[i], P[i] = A[i,j]",
                "Y[i], P[i] = exp(max[j] A[i,j])",
                "Y, P = max[i,j] A[i,j]",
                "Y[i], P = max[j] A[i,j]",
                "Y = argmax[i,j] A[i,j]",
                "Y[i] = argmax(A[i,0])",
            ),
        )
    ),
    "assumptions": tuple(
        map(
            body,
            (
                "ranks i == 2\n  Y = 1",
                "ranks I == 2.5\n  Y = 1",
                "ranks I % W == 0\n  Y = 1",
                "ranks I == B[0]\n  Y = 1",
            ),
        )
    ),
    "operators": (
        *(
            f"{line}\n{body('Y[i] = A[i,0]')}"
            for line in (
                "op f() = 1",
                "op f(a, a) = a",
                "op f(a) = a + w",
                "op f(a: f12) = a",
                "op exp(a) = a",
                "op f(a) [commutative] = a",
                "op f(a, b) [commutes] = a",
                "op f(a, b) [commutative = 1] = a",
                "op f(a, b) [identity] = a",
                "op f(a, b) [inverse = w] = a",
                "op f(a, b) [commutative] = a - b",
                "op f(a, b) [associative] = a / b",
                "op f(a: i8, b: i8) [idempotent] = a + b",
                "op f(a, b) [identity = 0] = a * b",
                "op f(a, b) [distributes_over = add] = a * a * b",
                "op f(a, b) [inverse = div] = a + b",
                "op f(a) = a\nop f(a) = a + a",
                "semiring t(max, add, -inf)",
                "semiring t(max, exp, -inf, 0)",
                "semiring t(sub, add, 0, 0)",
                "semiring t(max, add, 0, 0)",
                "semiring t(add, max, 0, -inf)",
                "semiring log(max, add, -inf, 0)",
            )
        ),
        f"op f(a, b) = a + b\n{body('Y[i] = f[j] A[i,j]')}",
        f"op f(a, b) = a + b\n{body('Y[i] = f(A[i,0])')}",
        body("Y[i] = A[i,j] over tropical"),
    ),
    "calls": tuple(
        f"cascade dot(X[K], Z[K]) -> S {{ S = X[k] * Z[k] }}\n{body(line)}"
        for line in (
            "Y = dot(B)",
            "Y = dot(B, W)",
            "Y = dot(B[j], B[j])",
            "Y = dot(B, A)",
            "Y, Z = dot(B, B)",
            "Y[i] = dot(B, B)",
            "Y = dot(B, B) + 1",
            "C[i] = A[i,0]\n  Y = dot(B, C)",
        )
    ),
    "files": (
        f'use "nowhere.ein"\n{body("Y[i] = A[i,0]")}',
        "op f(a) = a",
        'use "nowhere.ein',
        "cascade f(A[I]) -> Y { Y = A[i] }\ncascade f(A[I]) -> Y { Y = 2 * A[i] }",
    ),
    "names": (
        (
            "cascade f(exp[I]) -> Y {\n  Y[i] = 1\n}",
            "cascade f(A[I]: float32) -> Y {\n  Y[i] = A[i]\n}",
            "cascade f(A[I]) -> Z {\n  Y[i] = A[i]\n}",
            "cascade f(A[I]) -> A {\n  Y[i] = A[i]\n}",
            *map(
                body,
                (
                    "Y[i] = C[i]",
                    "Z[i] = Y[i]\n  Y[i] = A[i,j]",
                    "Y[i] = A",
                    "Y[i] = A(i,j)",
                    "Y[i] = Aa[i,j]",
                    "Y[i] = relo(A[i,j])",
                    "Y[i] = attention(A, B)",
                    "Y[i] = sum(A[i,j])",
                    "Y[i] = exp[j] A[i,j]",
                    "Y[i] = add[j] A[i,j]",
                    "Y[i] = max[i]",
                    "Y[i] = exp",
                    "Y[i] = A[i,j] over plus_max",
                    "Y[i] = A[i,j] over group",
                    "Y[i] = cast(A[i,j])",
                    "Y[i] = cast(A[i,j], float)",
                    "Y[i] = complex(A[i,j], 0)",
                    "Y[i] = where",
                    "where[i] = A[i,j]",
                    "Y[i] = q",
                    "Y[i] = Q",
                    "I = 2",
                ),
            ),
        )
    ),
    "indices": (
        tuple(
            map(
                body,
                (
                    "Y[i] = A[i*i,j]",
                    "Y[i] = A[i/2,j]",
                    "Y[i] = A[i,0.5]",
                    "Y[i] = A[i,2j]",
                    "Y[i] = A[i,Jj]",
                    "Y[i] = A[i,Q-1]",
                    "Y[b,e] = D[T[b]+1,e]",
                    "Y[b,e] = D[T+1,e]",
                    "t[b] = T[b]\n  Y[b,e] = D[t,e]",
                    "Y[i] = A[i,j else B[j]]",
                    "Y[2*i] = A[i,j]",
                    "Y[I-1-i] = A[i,j]",
                    "Y[J] = B[j]",
                    "Y[T[b]] = B[j]",
                    "Y[i else 0] = A[i,j]",
                    "Y[i] = sum[j else 0] A[i,j]",
                    "Y[i] = sum[2*j] A[i,j]",
                    "Y[i] = sum[J] A[i,j]",
                    "ranks q = 2",
                    "ranks Q = p",
                    "ranks Q = W",
                ),
            )
        )
    ),
    "reductions": (
        tuple(
            map(
                body,
                (
                    "Y[i] = sum[j] A[i,j] * B[j]",
                    "Y[i] = A[i,j] * B[j] + S",
                    "Y[i] = 1 - A[i,j] over max_plus",
                    "Y[i,j] = max[j] A[i,j]",
                    "Y = exp(A[i,j] * max[i] A[i,j])",
                    "Y[i] = sum[j] exp(A[i,j] - max[j] A[i,j])",
                ),
            )
        )
    ),
    "ranks": (
        (
            "cascade f(X[H], F[R]) -> Y {\n  Y[p] = X[H*p+r] * F[r]\n}",
            "cascade f(X[H], F[R]) -> Y {\n  Y[p] = X[p else 0]\n}",
            "cascade f(X[H], F[R]) -> Y {\n  Y[p,q] = X[p+q]\n}",
            "cascade f(X[H], F[R]) -> Y {\n  Y[p] = X[p+1] * F[p+1]\n}",
            "cascade f(X[H], F[R]) -> Y {\n  ranks N = M, M = N\n  Y[n] = n\n}",
            "cascade f(X[H]) -> Y {\n  Y[p] = p\n}",
            "cascade f(X[H]) -> Y {\n  ranks P = -1\n  Y[p] = X[0]\n}",
            "cascade f(X[H]) -> Y {\n  ranks P = H//0\n  Y[p] = X[0]\n}",
            "cascade f(X[H]) -> Y, Y {\n  Y[h] = X[h]\n}",
            "cascade f(X[2*H]) -> Y {\n  Y[p] = X[p]\n}",
            "cascade f(X[1]) -> Y {\n  ranks P = 3\n  Y[p] = X[p]\n}",
            *map(body, ("Y[j] = A[j,i]", "Y[v] = B[v]", "Y[i] = A[i]", "Y[i] = A[i,j,0]")),
        )
    ),
    "other_rules": (
        tuple(
            map(
                body,
                (
                    "Y[i] = A[i,j]\n  Y[i] = A[i,j]",
                    "A[i] = A[i,j]\n  Y[i] = B[i]",
                    "Y[i] = 1 where i < 2",
                    "Y[i] = A[i,0] where i < j else 0",
                    "Y[i] = exp(A[i,j], 2)",
                    "Y[i] = sum[j,j] A[i,j]",
                    "Y[i] = sum[] A[i,0]",
                    f"Y[i] = {'exp(' * 200}A[i,0]{')' * 200}",
                    "Y[i] = 18446744073709551616",
                    "ranks I\n  ranks I\n  Y[i] = 1",
                    "ranks MAX = 2\n  Y[max] = 1",
                ),
            )
        )
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_what_is_said(kind: str, golden: Golden) -> None:
    shown: list[str] = []
    for text in MISTAKES[kind]:
        with pytest.raises(EinloomError) as caught:
            parse_cascade(text)
        excerpt = text.removeprefix(HEADER).removesuffix("\n}") if text.startswith(HEADER) else text
        shown.append(f"{excerpt:.200}\n\n{type(caught.value).__name__}: {caught.value}\n")
    golden(f"frontend/cascade_{kind}.txt", f"\n{'-' * 40}\n".join(shown))
