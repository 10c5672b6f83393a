"""Text and JSON that are too large, or as large as they may be: refused or read, in little memory.

Every case is read in one other process, whose memory and CPU time are bounded: a hang, or a step
that is quadratic in what there may be 10^5 of, ends that process.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest

from einloom.ir import limits

MANY = 100_000

#: CPU seconds for all of the cases, which take some 40, and bytes of memory that may be resident.
SECONDS, BYTES = 900, 500 * 2**20

CHILD = """
import json, resource, sys
from einloom.frontend.parser import parse_cascade
from einloom.ir.cascade import Cascade
from einloom.ir.errors import EinloomError

for line in sys.stdin:
    name, reader, text = json.loads(line)
    read = parse_cascade if reader == "text" else Cascade.from_json
    try:
        read(text)
        said = "read"
    except EinloomError as error:
        said = str(error)
    except BaseException as error:
        said = f"{type(error).__name__}: {error!s:.200}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([name, said, peak]), flush=True)
"""


def body(*statements: str, inputs: str = "A[I], T[I]", before: str = "") -> str:
    lines = "".join(f"  {statement}\n" for statement in statements)
    return f"{before}cascade f({inputs}) -> Y {{\n{lines}  Y[i] = A[i]\n}}"


def each(text: Callable[[int], str], count: int = MANY) -> list[str]:
    return [text(n) for n in range(count)]


def comma(text: Callable[[int], str], count: int = MANY) -> str:
    return ", ".join(each(text, count))


def lines(text: Callable[[int], str], count: int = MANY) -> str:
    return "".join(f"{line}\n" for line in each(text, count))


def einsum(right: str) -> str:
    return body(f"X[i] = {right}")


def doubling(levels: int) -> str:
    """A cascade that calls one twice, which calls one twice, ..."""
    return "cascade c0(A[I]) -> B { T[i] = A[i]\n B[i] = T[i] }\n" + lines(
        lambda n: f"cascade c{n + 1}(A[I]) -> B {{ T = c{n}(A)\n B = c{n}(T) }}", levels
    )


TOO_LONG = "too many tokens in a text"
DEEP = "nested more than 128 deep"

#: What there are 10^5 of, or 1 MB -> a text, and what is said of it ("read": nothing).
TOO_MANY: dict[str, tuple[str, str]] = {
    "Einsums": (body(*each(lambda n: f"X{n}[i] = A[i]")), TOO_LONG),
    "Einsums in a chain": (body("X0[i] = A[i]", *each(lambda n: f"X{n + 1}[i] = X{n}[i]")), TOO_LONG),
    "terms": (einsum("A[i]" + " + A[i]" * MANY), TOO_LONG),
    "cascades": (lines(lambda n: f"cascade c{n}(A[I]) -> B {{ B[i] = A[i] }}"), TOO_LONG),
    "operators": (body(before=lines(lambda n: f"op o{n}(a) = a")), TOO_LONG),
    "semirings": (body(before=lines(lambda n: f"semiring s{n}(max, add, -inf, 0)")), TOO_LONG),
    "calls": (body(*each(lambda n: f"X{n} = g(A)"), before="cascade g(A[I]) -> B { B = A[0] }\n"), TOO_LONG),
    "brackets": (einsum("(" * MANY), "unexpected end of line"),
    "brackets, closed": (einsum("(" * MANY + "A[i]" + ")" * MANY), TOO_LONG),
    "brackets of reads": (einsum("A[" * MANY), TOO_LONG),
    "brackets of gathers": (einsum("T[" * MANY + "i" + "]" * MANY), TOO_LONG),
    "brackets of calls": (einsum("exp(" * MANY + "A[i]" + ")" * MANY), TOO_LONG),
    "brackets of noise": ("()[]" * MANY, TOO_LONG),
    "signs": (einsum("-" * MANY + "A[i]"), DEEP),
    "complements": (einsum("~" * MANY + "A[i]"), DEEP),
    "ranks": (body(f"ranks {comma(lambda n: f'N{n} = {n}')}"), TOO_LONG),
    "lines of ranks": (body(*each(lambda n: f"ranks N{n} = {n}")), TOO_LONG),
    "lines of partitions": (body(*each(lambda n: f"partition I -> P{n}, Q{n}")), TOO_LONG),
    "arguments": (einsum(f"max({comma(lambda n: 'A[i]')})"), TOO_LONG),
    "indices": (einsum(f"A[{comma(lambda n: 'i')}]"), TOO_LONG),
    "uses": (body(before=lines(lambda n: f'use "{n}.ein"')), TOO_LONG),
    "a name": (einsum("x" * 2**20), "too many characters in a name"),
    "a number": (einsum("9" * 2**20), "does not fit in 64 bits"),
    "a number in an index": (einsum("A[" + "9" * 2**20 + "]"), "does not fit in 64 bits"),
    "a number that is none": (einsum("9" * 2**20 + "x"), "unexpected '9'"),
    "an exponent": (einsum("A[i] * 1e" + "9" * 2**20), "read"),
    "decimals": (einsum("A[i] * 0." + "1" * 2**20), "read"),
    "a line": (einsum(" " * 2**20 + "A[i]"), "read"),
    "white space at the end": (body() + " " * 2**20, "read"),
    "a comment": (einsum("A[i] #" + "x" * 2**20), "read"),
    "comments": (einsum("A[i]" + "\n#" * 2**19), "read"),
    "newlines": (einsum("A[i]" + "\n" * 2**20), "read"),
    "noise": ("?" * 2**20, "unexpected '?'"),
    "characters": ("#" * (limits.CHARACTERS.most + 1), "too many characters in a text"),
    "calls that double": (doubling(40), "too many nodes in a text's calls"),
}  # fmt: skip

#: What is within the limit on tokens, each near it: read, or refused by another limit.
WITHIN: dict[str, tuple[str, str]] = {
    "Einsums": (body(*each(lambda n: f"X{n}[i] = A[i]", 11_000)), "read"),
    "Einsums in a chain": (
        body("X0[i] = A[i]", *each(lambda n: f"X{n + 1}[i] = X{n}[i] * T[i]", 7_500)), "read"),
    "reads of one tensor": (
        body("X0[i] = A[i]", *each(lambda n: f"X{n + 1}[i] = X0[i] * X0[i]", 7_500)), "read"),
    "terms": (einsum("A[i]" + " + A[i]" * 23_000), "read"),
    "arguments": (einsum(f"max({comma(lambda n: 'A[i]', 23_000)})"), "read"),
    "brackets": (einsum("(" * 59_000 + "A[i]" + ")" * 59_000), "read"),
    "calls of functions": (einsum("exp(" * 39_000 + "A[i]" + ")" * 39_000), DEEP),
    "differences": (einsum("A[i]" + " - A[i]" * 23_000), DEEP),
    "reductions": (einsum("sum[i] " * 29_000 + "A[i]"), DEEP),
    "gathers": (einsum("T[" * 39_000 + "i" + "]" * 39_000), DEEP),
    "ranks": (body(f"ranks {comma(lambda n: f'N{n} = {n}', 29_000)}"), "read"),
    "ranks that nothing says": (body(f"ranks {comma(lambda n: f'N{n}', 59_000)}"), "is not declared"),
    "ranks that reads say": (body(*each(lambda n: f"X{n}[p{n}] = A[2*p{n}]", 9_000)), "read"),
    "ranks that wait": (
        body("X0[p0] = A[2*p0]", *each(lambda n: f"X{n+1}[p{n+1}] = X{n}[p{n+1}+1]", 7_500)), "read"),
    "aliases from the end": (
        body(f"ranks N0 = I, {', '.join(f'N{n + 1} = N{n}' for n in reversed(range(29_000)))}"),
        "read"),
    "partitions": (body(*each(lambda n: f"partition I -> P{n}, Q{n}", 16_000)), "read"),
    "parts": (body(f"partition I -> {comma(lambda n: f'P{n}', 59_000)}"), "read"),
    "inputs": (body(inputs=f"A[I], {comma(lambda n: f'B{n}[N{n}]', 20_000)}"), "read"),
    "scans": (
        body(*each(lambda n: f"X{n}[0] = 0\n  X{n}[i+1] = X{n}[i] + A[i]", 4_900)), "read"),
    "scans that need each other": (
        body(*each(lambda n: f"X{n}[0] = 0", 4_900),
             *each(lambda n: f"X{n}[i+1] = X{(n - 1) % 4_900}[i] + A[i]", 4_900)), "read"),
    "starts": (body(*each(lambda n: f"X[{n}] = 0", 16_000), "X[i+16000] = X[i]"), "read"),
    "calls": (
        body("X0[i] = A[i]", *each(lambda n: f"X{n + 1} = g(X{n})", 5_000),
             before="cascade g(A[I]) -> B { ranks K = 3\n T[i] = A[i]\n B[i] = T[i] + sum[k] k }\n"),
        "read"),
    "long calls": (
        body(*each(lambda n: f"X{n} = g(A)", 5_000),
             before=f"cascade g(A[I]) -> B {{ B[i] = A[i]{' + A[i]' * 9_000} }}\n"),
        "too many nodes in a text's calls"),
    "operators": (body(before=lines(lambda n: f"op o{n}(a) = a", 13_000)), "read"),
    "operators in one another": (
        body(before="op o0(a) = a\n" + lines(lambda n: f"op o{n + 1}(a) = o{n}(a)", 10_000)), DEEP),
    "laws": (
        body(before=lines(lambda n: f"op o{n}(a, b) [commutative] = a + b", 7_000)), "too many nodes in the laws"),
    "laws of a large operator": (
        body(before="op o0(a, b) = a + b\n"
             + lines(lambda n: f"op o{n + 1}(a, b) = o{n}(o{n}(a, b), b)", 10)
             + lines(lambda n: f"op p{n}(a, b) [commutative] = o10(a, b)", 10)),
        "too many nodes in the laws"),
    "semirings": (
        body(before=lines(lambda n: f"semiring s{n}(max, add, -inf, 0)", 9_000)), "too many nodes in the laws"),
    "ranks of a tensor": (einsum(f"A[{comma(lambda n: 'i', 59_000)}]"), "A has 1 rank"),
    "ranks of a tensor on the left": (body(f"X[{comma(lambda n: 'i', 59_000)}] = A[i]"), "too many ranks"),
    "ranks of an input": (body(inputs=f"A[I], B[{comma(lambda n: 'I', 59_000)}]"), "too many ranks"),
    "factors of an index": (einsum("A[i" + "*1" * 59_000 + " else 0]"), "too many terms in an index"),
    "products of an index": (einsum("A[" + "(i+I)*" * 15_000 + "1 else 0]"), "too many terms in an index"),
    "terms of an index": (einsum("A[i" + "+1" * 59_000 + " else 0]"), "read"),
    "squares of sizes": (
        body("ranks N0 = I+1, " + comma(lambda n: f"N{n + 1} = N{n}*N{n}", 15_000),
             "X[n60] = A[n60]"), "too many terms in the sizes"),
    "sums of sizes": (
        body("ranks P0 = I+1, " + comma(lambda n: f"P{n + 1} = P{n}+N{n}", 7_000),
             "X[p7000] = A[p7000]",
             inputs=f"A[I], {comma(lambda n: f'B{n}[N{n}]', 7_000)}"), "too many terms in the sizes"),
    "names alike": (
        body(*each(lambda n: f"X{'ab' * 100}{n}[i] = A[i]", 9_000), f"Z = X{'ba' * 100}"), "is not defined"),
}  # fmt: skip

JSON: dict[str, tuple[str, str]] = {
    "open lists": ("[" * 10**6, "nested too deeply"),
    "lists": (f"[{','.join(['[]'] * 10**6)}]", "too many values"),
    "objects in objects": ('{"node":' * MANY, "nested too deeply"),
    "lists in lists": ("[" * 10**4 + "]" * 10**4, "nested too deeply"),
    "numbers": (f"[{'1,' * (limits.JSON_VALUES.most - 2)}1]", "not the JSON of a Cascade"),
    "texts": ("[" + '"ab",' * 10**6 + "1]", "not the JSON of a Cascade"),
    "a number": ("9" * 2**20, "not JSON"),
    "a text": (f'"{"x" * 2**20}"', "not the JSON of a Cascade"),
    "characters": (" " * (limits.JSON_CHARACTERS.most + 1), "too many characters of JSON"),
}  # fmt: skip


def cases() -> Iterable[tuple[str, str, str, str]]:
    for reader, group in (("text", TOO_MANY), ("text", WITHIN), ("JSON", JSON)):
        for name, (text, said) in group.items():
            of = "" if reader == "JSON" else ": too many" if group is TOO_MANY else ": within"
            yield f"{reader}{of}: {name}", reader, text, said


EXPECTED = {name: said for name, _, _, said in cases()}


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[str, int]]:
    """What is said of each case, and the most memory that was resident by then, in bytes."""
    given = "".join(f"{json.dumps([name, reader, text])}\n" for name, reader, text, _ in cases())
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=given,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_bounded,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    rows: list[tuple[str, str, int]] = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (said, peak * unit) for name, said, peak in rows}


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (8 * BYTES, 8 * BYTES))


@pytest.mark.xdist_group("hostile sizes")
@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_said(name: str, found: dict[str, tuple[str, int]]) -> None:
    assert name in found, "the process ended: out of memory, or of time"
    said, peak = found[name]
    assert EXPECTED[name] in said
    assert len(said) < 10_000
    assert peak < BYTES
