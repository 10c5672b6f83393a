"""Syntax errors taught by example: what to do, and texts that go wrong in that way.

A mistake is recognised by the parser's state and the kind of token at which it stopped, as lark's
`match_examples` does, except that both must agree. To teach a mistake, add a line.
"""

from __future__ import annotations

#: For cascade text: a character that no token begins with -> what to do.
CHARACTERS = {
    ";": "one Einsum a line; no semicolons",
    ".": "a tensor has no attributes: write what to compute with it",
    '"': 'a text stands in quotes on one line, after use: `use "a.ein"`',
    "'": "a name cannot hold a quote; there are no strings in the language",
    "@": "write matrix products out: `C[i,k] = A[i,j] * B[j,k]`",
    "!": "write ~ for not, != for unequal",
    "\\": "an Einsum stands on one line; name its parts in Einsums of their own",
    "$": "a name is letters, digits and _",
    "?": "write select(condition, a, b)",
    **dict.fromkeys("0123456789", "a number ends where a name begins: write 2*x"),
}

#: Where no example matches: kinds of token that are nowhere but where the grammar says.
TOKENS = {
    "_NL": "an Einsum stands on one line; name its parts in Einsums of their own",
    "_END": "close the cascade with `}`",
    "LBRACE": "a cascade has one pair of braces, around its Einsums",
    "RBRACE": "the Einsum before it is not finished",
    "STRING": "names stand without quotes; a text in quotes is a file's name, after use",
}

_HEADER = "a cascade begins `cascade name(A[I,J]: f32, B[J,K]: f32) -> Y {`"


def _body(*statements: str) -> tuple[str, ...]:
    return tuple(f"cascade f(A[I,J]) -> Y {{\n{statement}\n}}" for statement in statements)


#: Comparisons are told from other operators by the parser itself.
CHAINED = "comparisons do not chain: write (a < b) & (b < c)"

#: For cascade text: what to do -> texts that go wrong so.
CASCADE = {
    _HEADER: (
        "Y[i] = A[i] {",
        "{",
        "",
        "cascade {",
        "cascade f {",
        "cascade (A[I]) -> Y {",
        "cascade f[I] -> Y {",
    ),
    "name the outputs: `) -> Y {`": (
        "cascade f(A[I]) {",
        "cascade f(A[I]) -> {",
        "cascade f(A[I]) -> Y[I] {",
        "cascade f(A[I]) -> Y: f32 {",
    ),
    "put a comma between the inputs": (
        *("cascade f(A[I] B[J]) -> Y {", "cascade f(A B) -> Y {", "cascade f(A[I]: f32 B) -> Y {"),
    ),
    "close the header's parenthesis": ("cascade f(A[I] -> Y {", "cascade f(A -> Y {"),
    "put the Einsums in braces: `-> Y {` ... `}`": (
        "cascade f(A[I]) -> Y\n",
        "cascade f(A[I]) -> Y",
        "cascade f(A[I]) -> Y Y[i] = A[i]",
    ),
    "write pow(a, b) for powers": _body("Y[i] = A[i] ** 2"),
    "leave the plus sign out": _body(
        *("Y[i] = +A[i]", "Y[i] = (+A[i])", "Y[i] = 1 + +A[i]", "Y[i] = 2 * +1", "Y[i] = A[+i]"),
        *("Y[i] = exp(+A[i])", "Y[i] = -+A[i]", "Y[i] = A[i] where +i", "Y[i] = 1 < +1"),
    ),
    "a reduction applies to what follows: write `sum[j] (-A[j])`": _body("Y = sum[j] ~A[j]"),
    CHAINED: _body("Y[i] = A[i] < A[i] < A[i]", "Y[i] = A[i] where 0 < i < 2"),
    "write & | ~ for and, or, not; * between factors": _body(
        *("Y[i] = A[i] and A[i]", "Y[i] = 2 A[i]", "Y[i] = i j", "Y[i] = (A[i]) (A[i])"),
        *("Y[i] = not A[i]", "Y[i] = exp(A[i]) A[i]", "Y[i] = (A[i]) 2", "Y[i] = 2 (A[i])"),
        *("Y[i] = exp(A[i]) (A[i])", "Y[i] = exp(A[i]) 2", "Y[i] = i 2", "Y[i] = 2 2"),
    ),
    "no comma at the end": _body("Y[i] = A[i,]", "Y[i] = max(A[i],)", "Y[i,] = A[i]"),
    "`else` comes once, after the last index: `X[i, j else 0]`": _body(
        "Y[i] = A[i else 0, j]", "Y[i] = A[i else 0 else 1]"
    ),
    "an index is one expression; for part of an axis write `X[i+1]`, with i's extent in `ranks`": (
        _body("Y[i] = A[i:j]", "Y[i] = A[:]", "Y[i] = A[:, j]", "Y[i] = A[i, :]", "Y[i] = A[2:]")
    ),
    "index once: `A[i,j]`": _body("Y[i] = A[i][j]"),
    "the semiring comes before the filter: `over max_plus where m <= p`": _body(
        "Y[i] = A[i] where i < 2 over max_plus", "Y[i] = A[i] where i < 2 else 0 over max_plus"
    ),
    "`else` belongs to a filter; to choose elementwise write select(condition, a, b)": _body(
        "Y[i] = A[i] else 0", "Y[i] = A[i] over max_plus else 0"
    ),
    "a dtype is one of f32, f64, i32, ...: `A[I,J]: f32`": (
        *("cascade f(A[I]:) -> Y {", "cascade f(A[I]:, B[J]) -> Y {", "cascade f(A[I]: 32) -> Y {"),
        *_body("Y[i]: = A[i]", "Y[i]: 32 = A[i]"),
    ),
    "an equality is written ==": _body("Y[i] = A[i] where i = 2", "Y[i] = A[i] = A[i]"),
    "a definition is `Y[i] = ...`": (
        *_body("Y[i] A[i]", "Y[i] += A[i]", "Y[i] == A[i]", "Y(i) = A[i]", "2 = A[i]", "= A[i]"),
        *_body("-Y[i] = A[i]", "[i] = A[i]", "(Y[i]) = A[i]", "Y[i] -> A[i]", "Y[i] -= A[i]"),
        "cascade f(A[I]) -> Y { = A[i] }",
    ),
    "an Einsum has one right side; those of a cascade stand on a line each": _body(
        "Y[i] = A[i], A[i]", "Y[i] = A[i] over max_plus, A[i]"
    ),
    "a cascade, `op`, `semiring` and `use` begin a line": (
        "cascade f(A[I]) -> Y { Y = A[i] } cascade",
        "op f(a) = a op",
        "semiring t(max, add, -inf, 0) cascade",
        'use "a.ein" cascade',
    ),
    "a filter stands after the expression: `Y[i] = A[i,j] where i < j`": _body(
        "Y[i] = A[i where i < 2]", "Y[i] = (A[i] where i < 2)", "Y[i] = max(A[i] where i < 2)"
    ),
    "a bracket that was opened needs its `]`": _body(
        *("Y[i] = A[i)", "Y[i] = A[i,j)", "Y[i] = A[i else 0)", "Y[i) = A[i]"),
    ),
    "there is no such bracket open": _body("Y[i] = A[i])", "Y[i] = A[i]]", "Y[i] = (A[i]))"),
    "a rank is declared as `ranks N = M, T = 128`": _body("ranks", "ranks M,", "ranks M ="),
}

#: For classic subscripts: what stands where it may not -> what to do.
SUBSCRIPT_HINTS = {
    "->": "one `->`, between the operands and the output",
    "...": "one ellipsis a term",
    ",": "the output is one term",
    ".": "an ellipsis is three dots without spaces",
    "-": "the arrow is `->`, without a space",
    ">": "the arrow is `->`, without a space",
    "\t": "spaces only",
    "\n": "spaces only",
    "(": "axes cannot be grouped: reshape the operand",
    "[": "the subscripts are symbols alone",
    ";": "a comma stands between operands",
    "{": "cascade text begins with `cascade`",
    **dict.fromkeys("0123456789", "a name does not begin with a digit"),
}

#: Kinds of token that have no one text, as a reader knows them.
KINDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a text in quotes",
    "COMPARISON": "a comparison",
    "SHIFT": "a shift",
    "PRODUCT": "'*', '/'",
    "_NL": "end of line",
    "_END": "end of text",
}
