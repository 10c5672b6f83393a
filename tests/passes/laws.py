"""For each pass that is a law: Cascades that it rewrites, over any semiring.

`SR` stands for the semiring, `SUM` for its reduction, `DT` for a dtype on which its laws hold,
`ONE` and `ZERO` for its one and zero there.
"""

from __future__ import annotations

import numpy as np

from einloom.compiler import parse
from einloom.ir.cascade import Cascade
from einloom.ir.dtypes import DTYPES
from einloom.ir.operators import SEMIRINGS, reduction_name
from einloom.ir.printer import print_number
from einloom.ir.sizes import infer_sizes
from einloom.passes.rewrites.delta import literal_in
from einloom.passes.scope import Scope

from ..cascades import Array, array
from ..rings import RINGS as RINGS

#: The equivalence rules of einsum, by their numbers in the sources that the passes cite.
RULES = (
    *("COMM", "ALPHA", "ID", "TRANS", "NEST", "DENEST", "DENEST-GENERAL", "DIST", "DELTA-SPLIT"),
    *("DELTA-SPLIT of the output", "DELTA-MERGE", "DELTA", "repeated output", "ONES-DROP"),
    *("OUTPUT-ONLY", "PRESUM", "DIAG-FIRST", "HADAMARD-MERGE", "SPLIT-COMPONENTS", "SLICE"),
    *("SIZE-1", "FUSE and SPLIT", "ADJOINT", "IDEM-MUL", "IDEM-ADD", "HOM"),
)

#: pass text -> Cascades
LAWS: dict[str, list[str]] = {
    "squeeze": ["(A[B,I]: DT, C[B]: DT) -> Y { ranks B = 1\n Y[i] = A[b,i] * C[b] over SR }"],
    "diagonal": ["(A[I,I,J]: DT, B[J,K]: DT) -> Y { Y[i,k] = A[i,i,j] * B[j,k] over SR }"],
    "presum": ["(A[I,J,L]: DT, B[J,K]: DT) -> Y { Y[i,k] = A[i,j,l] * B[j,k] over SR }"],
    "order": ["(A[I,J]: DT, B[J,K]: DT, C[K]: DT) -> Y { Y[i] = A[i,j] * B[j,k] * C[k] over SR }"],
    "commute{tensor=Y, order=[2, 0, 1]}": [
        "(A[I,J]: DT, B[J,K]: DT, C[K]: DT) -> Y { Y[i] = A[i,j] * B[j,k] * C[k] over SR }",
    ],
    "alpha{rank=j, to=n}": [
        "(A[I,J]: DT, B[J,K]: DT) -> Y {\n"
        "ranks I, J, K, M = J\n"
        "T[j,k] = B[j,k] + cast(J, DT) + cast(j, DT) over SR where k <= j else ZERO\n"
        "Y[i,k] = A[i,j] * T[j,k] * T[m,k] over SR }",
    ],
    "identity": [
        "(A[I,J]: DT, C[J,K]: DT) -> Y {\n"
        "B[i,j] = A[i,j]\nD[i,j] = B[i,j]\n"
        "Y[i,k] = D[i,j] * C[j,k] over SR }",
        "(A[N]: DT, J[M]: i32) -> Y { B[n] = A[n]\n Y[m] = B[J[m] else ZERO] over SR }",
    ],
    "transpose": [
        "(A[I,J]: DT, C[J,K]: DT) -> Y {\n"
        "B[j,i] = A[i,j]\nD[i,j] = B[j,i]\n"
        "Y[i,k] = D[i,j] * C[j,k] * B[j,i] over SR }",
    ],
    "nest{tensor=Y, operands=[0, 2]}": [
        "(A[I,J]: DT, B[J]: DT, C[J,K]: DT, D[K]: DT) -> Y {\n"
        "Y[i] = A[i,j] * B[j] * C[j,k] * D[k] over SR }",
    ],
    "denest": [
        "(A[I,J]: DT, B[J,K]: DT, C[K,J]: DT) -> Y {\n"
        "T[i,k] = A[i,j] * B[j,k] over SR\n"
        "Y[i,j] = T[i,k] * C[k,j] over SR }",
        "(A[I,J]: DT, B[N]: DT) -> Y {\n"
        "ranks I, J, N = I, M = I\n"
        "T[i,i] = A[i,j] over SR\n"
        "Y[n,m] = T[n,m] * B[n] over SR }",
        "(A[I]: DT, B[I]: DT) -> Y {\n"
        "ranks I, N = I\n"
        "T[i,i] = A[i] over SR\n"
        "Y[i] = T[i,n] * B[n] over SR }",
    ],
    "denest{tensor=T}": [
        "(A[I,J]: DT, B[J,K]: DT) -> Y {\n"
        "ranks I, J, K, N = K\n"
        "T[i,k] = A[i,j] * B[j,k] over SR\n"
        "Y[i] = T[i,k] * T[i,n] over SR }",
    ],
    "inline": [
        "(X[I,J]: DT, V[J]: DT, W[I,J]: DT) -> Y {\n"
        "E[i,j] = X[i,j] + W[i,j] over SR\n"
        "Y[j] = E[i,j] * V[j] over SR }",
        "(X[I,J]: DT, V[I]: DT, W[I]: DT) -> Y {\n"
        "E[i] = V[i] + W[i] over SR where i < 2 else ZERO\n"
        "F[i] = V[i] + E[i] over SR\n"
        "Y[i,j] = X[i,j] * F[i] over SR }",
    ],
    "inline{tensor=E}": [
        "(X[I,J]: DT, V[I]: DT, W[I]: DT) -> Y {\n"
        "E[i] = V[i] + W[i] over SR\n"
        "Y[i,j] = X[i,j] * E[i] + E[i] over SR }",
    ],
    "distribute": [
        "(A[I,J]: DT, B[I,J]: DT, C[J]: DT) -> Y { Y[i] = (A[i,j] + B[i,j]) * C[j] over SR }",
        "(A[J]: DT, B[J]: DT, C[J]: DT) -> Y { Y = A[j] * B[j] + C[j] over SR }",
        "(A[J]: DT, B[J]: DT, C[I]: DT, D[J]: DT) -> Y {\n"
        "Y[i] = (A[j] * B[j] + C[i]) * (C[i] + D[j]) over SR }",
    ],
    "factor": [
        "(A[I,J]: DT, B[I,J]: DT, C[J]: DT) -> Y {\n"
        "ranks I, J, K = J\n"
        "T[i] = A[i,j] * C[j] over SR\n"
        "T1[i] = B[i,k] * C[k] over SR\n"
        "Y[i] = T[i] + T1[i] over SR }",
        "(A[I,J]: DT, B[J,I]: DT, C[J]: DT, D[I]: DT) -> Y {\n"
        "T[i] = C[j] * A[i,j] over SR\n"
        "T1[i] = B[j,i] * C[j] over SR\n"
        "Y[i] = T[i] + D[i] + T1[i] over SR }",
    ],
    "idem_mul": [
        "(A[I,J]: DT, B[J]: DT) -> Y { Y[i] = A[i,j] * A[i,j] * B[j] over SR }",
        "(A[I]: DT) -> Y { Y[i] = A[i] * A[i] over SR }",
    ],
    "idem_add": [
        "(A[I]: DT, B[I]: DT) -> Y { Y[i] = A[i] + B[i] + A[i] over SR }",
        "(A[I]: DT, B[I,J]: DT) -> Y { ranks I, J, N = 3\n"
        "Y[i] = SUM[j,n] (A[i] * B[i,j]) over SR }",
    ],
    "delta": [
        "(A[I]: DT, B[J]: DT) -> Y {\n"
        "ranks I, J, N = J\n"
        "D[j,n]: DT = ONE over SR where n == j else ZERO\n"
        "Y[i,j] = A[i] * B[n] * D[j,n] over SR }",
    ],
    "delta_split{tensor=Y, axis=0, operand=1}": [
        "(A[I,J]: DT, B[J,K]: DT) -> Y { Y[i,k] = A[i,j] * B[j,k] over SR }",
        "(A[I,I]: DT, B[I,I]: DT) -> Y { Y[i] = A[i,i] * B[i,i] over SR }",
    ],
    "delta_split{tensor=Y, axis=0}": [
        "(A[I,J]: DT, B[J,K]: DT) -> Y { Y[i,k] = A[i,j] * B[j,k] over SR }",
        "(A[I]: DT, B[I]: DT) -> Y { Y[i,i] = A[i] * B[i] over SR }",
    ],
    "delta_merge": [
        "(A[I,J]: DT, B[J,K]: DT) -> Y {\n"
        "ranks I, J, K, N = J\n"
        "D[j,j]: DT = ONE over SR\n"
        "Y[i,k] = A[i,j] * B[n,k] * D[j,n] over SR }",
        "(A[I]: DT, B[I]: DT) -> Y {\n"
        "ranks I, N = I\n"
        "D[i,i]: DT = ONE over SR\n"
        "Y[i,n] = A[i] * B[i] * D[n,i] over SR }",
        "(A[I]: DT, B[J]: DT) -> Y {\n"
        "ranks I, J, N = J\n"
        "D[j,j]: DT = ONE over SR\n"
        "Y[i] = A[i] * D[j,n] over SR }",
    ],
    "distinct_output": [
        "(A[I,J]: DT) -> Y { Y[i,i] = A[i,j] over SR }",
        "(A[I]: DT, B[J]: DT) -> Y { Y[i,j,i,i] = A[i] * B[j] over SR }",
    ],
    "ones_drop": [
        "(A[I,J]: DT, B[J]: DT) -> Y {\nE[j]: DT = ONE\nY[i] = A[i,j] * E[j] * B[j] over SR }",
        "(A[I]: DT, B[J]: DT) -> Y { E[j]: DT = ONE\n Y[i,j] = A[i] * E[j] over SR }",
    ],
    "multiple": [
        "(A[I]: DT, B[J]: DT) -> Y {\n"
        "ranks I, J, N = 5\n"
        "E[n]: DT = ONE\n"
        "Y[i,j] = A[i] * E[n] * B[j] over SR }",
        "(A[I]: DT, B[I,J]: DT) -> Y { ranks I, J, N = 3, M = 4\n"
        "Y[i] = SUM[n,j,m] (A[i] * B[i,j]) over SR }",
    ],
    "output_only": ["(A[I]: DT, B[J]: DT) -> Y { T = B[j] over SR\n Y[i,j] = A[i] over SR }"],
    "hadamard": [
        "(A[I,J]: DT, B[J]: DT, C[J,K]: DT, D[]: DT) -> Y {\n"
        "Y[i,k] = B[j] * A[i,j] * C[j,k] * D[] over SR }",
    ],
    "components": [
        "(A[I,J]: DT, B[J]: DT, C[K,L]: DT, D[L]: DT, E[I]: DT) -> Y {\n"
        "Y[i,k] = A[i,j] * B[j] * C[k,l] * D[l] over SR }",
        "(A[I]: DT, B[J]: DT) -> Y { Y = A[i] * B[j] over SR }",
    ],
    "slice{tensor=Y, rank=K, pieces=3}": [
        "(A[I,K]: DT, B[K]: DT) -> Y { ranks K = 7\n Y[i] = A[i,k] * B[k] over SR }",
        "(A[I,K]: DT, B[K]: DT) -> Y { ranks K = 7\n Y[k] = A[i,k] * B[k] over SR }",
        "(A[K,K]: DT) -> Y { ranks K = 7, N = K\nY[n] = A[n,6-k] * A[k,n] over SR where k <= n }",
    ],
    "split{rank=k, size=3}": [
        "(A[I,K]: DT, B[K]: DT) -> Y { ranks K = 6\n Y[i] = A[i,k] * B[5-k] over SR }",
        "(A[K,K]: DT) -> Y { ranks K = 6, N = K\n"
        "Y[n] = A[n,k] * cast(k, DT) over SR where k <= n }",
    ],
    "fuse{ranks=[k1, k0], to=k}": [
        "(A[I,K2]: DT, B[K2]: DT) -> Y {\n"
        "ranks I, K2 = 6, K1 = 2, K0 = 3\n"
        "Y[i] = A[i,3*k1+k0] * B[5-3*k1-k0] over SR }",
    ],
    "share": [
        "(A[I,J]: DT, B[J]: DT) -> Y {\n"
        "ranks I, J, N = I, M = J\n"
        "S[i] = A[i,j] * B[j] over SR\n"
        "T[n] = B[m] * A[n,m] over SR\n"
        "Y[i] = S[i] + T[i] over SR }",
        "(A[I,J]: DT, B[J]: DT) -> Y {\n"
        "S[i,j] = A[i,j] * B[j] over SR where i <= j else ZERO\n"
        "T[j,i] = B[j] * A[i,j] over SR where i <= j else ZERO\n"
        "U[i] = S[i,j] * B[j] over SR\n"
        "V[i] = T[j,i] * B[j] over SR\n"
        "Y[i] = V[i] + U[i] over SR }",
        "(A[I,J]: DT, B[J]: DT) -> T, Y {\n"
        "T[i,j] = A[i,j] * B[j] over SR\n"
        "Y[j,i] = A[i,j] * B[j] over SR }",
    ],
    "dead": [
        "(A[I,I]: DT) -> Y { ranks I, J = I\n"
        "S[i] = A[i,j] over SR\nT[i] = S[i] * S[i] over SR\nY[i] = A[i,i] over SR }",
    ],
    "reuse": [
        "(A[I,J]: DT, B[J,K]: DT, C[K]: DT, D[I,J]: DT) -> Y {\n"
        "ranks I = 3, J = 3, K = 2, N = K\n"
        "S[i] = A[i,j] * B[j,k] * C[k] over SR\n"
        "T[i] = D[i,j] * C[n] * B[j,n] over SR\n"
        "Y[i] = S[i] + T[i] over SR }",
        "(A[I,J]: DT, B[J,K]: DT, C[K,L]: DT, D[L]: DT) -> Y {\n"
        "ranks I = 9, J = 2, K = 9, L = 2\n"
        "S[i,l] = A[i,j] * B[j,k] * C[k,l] over SR\n"
        "T[j] = B[j,k] * C[k,l] * D[l] over SR\n"
        "U[i] = S[i,l] * D[l] over SR\n"
        "V[i] = A[i,j] * T[j] over SR\n"
        "Y[i] = U[i] + V[i] over SR }",
    ],
    "fit{elements=4}": [
        "(A[I,J]: DT, B[J,K]: DT, C[K,L]: DT) -> Y { ranks I = 4, J = 4, K = 4, L = 4\n"
        "Y[i] = A[i,j] * B[j,k] * C[k,l] over SR }",
        "(A[I,J]: DT, B[J,K]: DT, C[K,I]: DT) -> Y { ranks I = 4, J = 4, K = 4\n"
        "Y = A[i,j] * B[j,k] * C[k,i] over SR }",
    ],
    "search{steps=8}": [
        "(A[I,J]: DT, B[I,J]: DT, C[J]: DT) -> Y {\n"
        "T[i] = A[i,j] * C[j] over SR\n"
        "U[i] = B[i,j] * C[j] over SR\n"
        "Y[i] = T[i] + U[i] over SR }",
        "(A[I,J]: DT, B[J,K]: DT, C[K,L]: DT) -> Y {\n"
        "S[i,k] = A[i,j] * B[j,k] over SR\n"
        "T[i,l] = S[i,k] * C[k,l] over SR\n"
        "Y[i] = T[i,l] over SR }",
    ],
    "fold_constants": [
        "(A[I]: DT) -> Y { Y[i] = A[i] + (ZERO + cast(ONE, DT)) + ZERO over SR }",
        "(A[I]: DT) -> Y { Y[i] = A[i] + ZERO over SR where 1 + 1 == 2 else ONE }",
    ],
}


def law_cascade(text: str, semiring: str, dtype: str) -> Cascade:
    """One of them over a semiring, in a type."""
    ring = SEMIRINGS[semiring]
    values = {
        name: print_number(literal_in(number, DTYPES[dtype]).value)
        for name, number in (("ONE", ring.one), ("ZERO", ring.zero))
    }
    sums = reduction_name(ring.add)
    for name, value in {"DT": dtype, "SR": semiring, "SUM": sums, **values}.items():
        text = text.replace(name, value)
    return parse(f"cascade law{text}")


def law_inputs(cascade: Cascade, seed: int, least: int = 1) -> dict[str, Array]:
    """Random inputs of extents from `least` to 3, where they are not said."""
    rng = np.random.default_rng(seed)
    scope = Scope(cascade)
    sizes = {rank.name: rank.shape for rank in cascade.ranks if isinstance(rank.shape, int)}
    shapes: dict[str, list[int]] = {}
    for decl in cascade.inputs:
        for extent in decl.extents:
            if extent.rank is not None:
                root = scope.root(extent.rank.lower())
                sizes.setdefault(root, int(rng.integers(least, 4)))
                sizes[extent.rank] = sizes[root]
        shapes[decl.name] = [extent.value(sizes) for extent in decl.extents]
    infer_sizes(cascade, shapes)
    arrays: dict[str, Array] = {}
    for decl in cascade.inputs:
        assert decl.dtype is not None
        if decl.name == "J" and decl.dtype.is_integer:  # an index to gather by
            arrays["J"] = rng.integers(-1, 3, shapes["J"]).astype(decl.dtype.numpy)
        else:
            arrays[decl.name] = array(rng, decl.dtype, shapes[decl.name])
    return arrays
