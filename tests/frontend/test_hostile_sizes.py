"""Text and JSON that are too large, or as large as they may be: refused or read, in little memory.

Every case is read in one other process, whose memory and CPU time are bounded: a hang, or a step
that is quadratic in what there may be 10^5 of, ends that process.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

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

# In bytes. What getrusage tells on Linux is that of whoever forked this process as well.
def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))

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
    print(json.dumps([name, said, peak()]), flush=True)
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


#: A text, made when it is needed, and what is said of it.
Case: TypeAlias = tuple[Callable[[], str], str]

READ = "read"
TOO_LONG = "too many tokens in a text"
DEEP = "nested more than 128 deep"
CALLS = "too many nodes in a text's calls"
LAWS = "too many nodes in the laws"
INDEX = "too many terms in an index"
RANKS = "too many ranks of a tensor"
SIZES = "too many terms in the sizes"
UNKNOWN = "is not declared"

#: What there are 10^5 of, or 1 MB -> a text, and what is said of it ("read": nothing).
TOO_MANY: dict[str, Case] = {
    "Einsums": (lambda: body(*each(lambda n: f"X{n}[i] = A[i]")), TOO_LONG),
    "Einsums in a chain": (
        lambda: body("X0[i] = A[i]", *each(lambda n: f"X{n + 1}[i] = X{n}[i]")),
        TOO_LONG,
    ),
    "terms": (lambda: einsum("A[i]" + " + A[i]" * MANY), TOO_LONG),
    "cascades": (lambda: lines(lambda n: f"cascade c{n}(A[I]) -> B {{ B[i] = A[i] }}"), TOO_LONG),
    "operators": (lambda: body(before=lines(lambda n: f"op o{n}(a) = a")), TOO_LONG),
    "semirings": (
        lambda: body(before=lines(lambda n: f"semiring s{n}(max, add, -inf, 0)")),
        TOO_LONG,
    ),
    "calls": (
        lambda: body(*each(lambda n: f"X{n} = g(A)"), before="cascade g(A[I]) -> B { B = A[0] }\n"),
        TOO_LONG,
    ),
    "brackets": (lambda: einsum("(" * MANY), "unexpected end of line"),
    "brackets, closed": (lambda: einsum("(" * MANY + "A[i]" + ")" * MANY), TOO_LONG),
    "brackets of reads": (lambda: einsum("A[" * MANY), TOO_LONG),
    "brackets of gathers": (lambda: einsum("T[" * MANY + "i" + "]" * MANY), TOO_LONG),
    "brackets of calls": (lambda: einsum("exp(" * MANY + "A[i]" + ")" * MANY), TOO_LONG),
    "brackets of noise": (lambda: "()[]" * MANY, TOO_LONG),
    "signs": (lambda: einsum("-" * MANY + "A[i]"), DEEP),
    "complements": (lambda: einsum("~" * MANY + "A[i]"), DEEP),
    "ranks": (lambda: body(f"ranks {comma(lambda n: f'N{n} = {n}')}"), TOO_LONG),
    "lines of ranks": (lambda: body(*each(lambda n: f"ranks N{n} = {n}")), TOO_LONG),
    "lines of partitions": (lambda: body(*each(lambda n: f"partition I -> P{n}, Q{n}")), TOO_LONG),
    "arguments": (lambda: einsum(f"max({comma(lambda n: 'A[i]')})"), TOO_LONG),
    "indices": (lambda: einsum(f"A[{comma(lambda n: 'i')}]"), TOO_LONG),
    "uses": (lambda: body(before=lines(lambda n: f'use "{n}.ein"')), TOO_LONG),
    "a name": (lambda: einsum("x" * 2**20), "too many characters in a name"),
    "a number": (lambda: einsum("9" * 2**20), "does not fit in 64 bits"),
    "a number in an index": (lambda: einsum("A[" + "9" * 2**20 + "]"), "does not fit in 64 bits"),
    "a number that is none": (lambda: einsum("9" * 2**20 + "x"), "unexpected '9'"),
    "an exponent": (lambda: einsum("A[i] * 1e" + "9" * 2**20), READ),
    "decimals": (lambda: einsum("A[i] * 0." + "1" * 2**20), READ),
    "a line": (lambda: einsum(" " * 2**20 + "A[i]"), READ),
    "white space at the end": (lambda: body() + " " * 2**20, READ),
    "a comment": (lambda: einsum("A[i] #" + "x" * 2**20), READ),
    "comments": (lambda: einsum("A[i]" + "\n#" * 2**19), READ),
    "newlines": (lambda: einsum("A[i]" + "\n" * 2**20), READ),
    "noise": (lambda: "?" * 2**20, "unexpected '?'"),
    "characters": (lambda: "#" * (limits.CHARACTERS.most + 1), "too many characters in a text"),
    "calls that double": (lambda: doubling(40), CALLS),
}

#: What is within the limit on tokens, each near it: read, or refused by another limit.
WITHIN: dict[str, Case] = {
    "Einsums": (lambda: body(*each(lambda n: f"X{n}[i] = A[i]", 11_000)), READ),
    "Einsums in a chain": (
        lambda: body("X0[i] = A[i]", *each(lambda n: f"X{n + 1}[i] = X{n}[i] * T[i]", 7_500)),
        READ,
    ),
    "reads of one tensor": (
        lambda: body("X0[i] = A[i]", *each(lambda n: f"X{n + 1}[i] = X0[i] * X0[i]", 7_500)),
        READ,
    ),
    "terms": (lambda: einsum("A[i]" + " + A[i]" * 23_000), READ),
    "arguments": (lambda: einsum(f"max({comma(lambda n: 'A[i]', 23_000)})"), READ),
    "brackets": (lambda: einsum("(" * 59_000 + "A[i]" + ")" * 59_000), READ),
    "calls of functions": (lambda: einsum("exp(" * 39_000 + "A[i]" + ")" * 39_000), DEEP),
    "differences": (lambda: einsum("A[i]" + " - A[i]" * 23_000), DEEP),
    "reductions": (lambda: einsum("sum[i] " * 29_000 + "A[i]"), DEEP),
    "gathers": (lambda: einsum("T[" * 39_000 + "i" + "]" * 39_000), DEEP),
    "ranks": (lambda: body(f"ranks {comma(lambda n: f'N{n} = {n}', 29_000)}"), READ),
    "ranks that nothing says": (lambda: body(f"ranks {comma(lambda n: f'N{n}', 59_000)}"), UNKNOWN),
    "ranks that reads say": (lambda: body(*each(lambda n: f"X{n}[p{n}] = A[2*p{n}]", 9_000)), READ),
    "ranks that wait": (
        lambda: body(
            "X0[p0] = A[2*p0]", *each(lambda n: f"X{n + 1}[p{n + 1}] = X{n}[p{n + 1}+1]", 7_500)
        ),
        READ,
    ),
    "aliases from the end": (
        lambda: body(
            f"ranks N0 = I, {', '.join(f'N{n + 1} = N{n}' for n in reversed(range(29_000)))}"
        ),
        READ,
    ),
    "partitions": (lambda: body(*each(lambda n: f"partition I -> P{n}, Q{n}", 16_000)), READ),
    "parts": (lambda: body(f"partition I -> {comma(lambda n: f'P{n}', 59_000)}"), READ),
    "inputs": (lambda: body(inputs=f"A[I], {comma(lambda n: f'B{n}[N{n}]', 20_000)}"), READ),
    "scans": (
        lambda: body(*each(lambda n: f"X{n}[0] = 0\n  X{n}[i+1] = X{n}[i] + A[i]", 4_900)),
        READ,
    ),
    "scans that need each other": (
        lambda: body(
            *each(lambda n: f"X{n}[0] = 0", 4_900),
            *each(lambda n: f"X{n}[i+1] = X{(n - 1) % 4_900}[i] + A[i]", 4_900),
        ),
        READ,
    ),
    "starts": (lambda: body(*each(lambda n: f"X[{n}] = 0", 16_000), "X[i+16000] = X[i]"), READ),
    "calls": (
        lambda: body(
            "X0[i] = A[i]",
            *each(lambda n: f"X{n + 1} = g(X{n})", 5_000),
            before="cascade g(A[I]) -> B { ranks K = 3\n T[i] = A[i]\n B[i] = T[i] + sum[k] k }\n",
        ),
        READ,
    ),
    "long calls": (
        lambda: body(
            *each(lambda n: f"X{n} = g(A)", 5_000),
            before=f"cascade g(A[I]) -> B {{ B[i] = A[i]{' + A[i]' * 9_000} }}\n",
        ),
        CALLS,
    ),
    "operators": (lambda: body(before=lines(lambda n: f"op o{n}(a) = a", 13_000)), READ),
    "operators in one another": (
        lambda: body(
            before="op o0(a) = a\n" + lines(lambda n: f"op o{n + 1}(a) = o{n}(a)", 10_000)
        ),
        DEEP,
    ),
    "operators in the laws of one another": (
        lambda: body(
            before="op o0(a, b) = a\n"
            + lines(
                lambda n: f"op o{n + 1}(a, b) [distributes_over = o{n}, inverse = o{n}] = a", 4_500
            )
        ),
        LAWS,
    ),
    "laws": (
        lambda: body(before=lines(lambda n: f"op o{n}(a, b) [commutative] = a + b", 7_000)),
        LAWS,
    ),
    "laws of a large operator": (
        lambda: body(
            before="op o0(a, b) = a + b\n"
            + lines(lambda n: f"op o{n + 1}(a, b) = o{n}(o{n}(a, b), b)", 10)
            + lines(lambda n: f"op p{n}(a, b) [commutative] = o10(a, b)", 10)
        ),
        LAWS,
    ),
    "semirings": (
        lambda: body(before=lines(lambda n: f"semiring s{n}(max, add, -inf, 0)", 9_000)),
        LAWS,
    ),
    "ranks of a tensor": (lambda: einsum(f"A[{comma(lambda n: 'i', 59_000)}]"), "A has 1 rank"),
    "ranks of a tensor on the left": (
        lambda: body(f"X[{comma(lambda n: 'i', 59_000)}] = A[i]"),
        RANKS,
    ),
    "ranks of an input": (lambda: body(inputs=f"A[I], B[{comma(lambda n: 'I', 59_000)}]"), RANKS),
    "factors of an index": (lambda: einsum("A[i" + "*1" * 59_000 + " else 0]"), INDEX),
    "products of an index": (lambda: einsum("A[" + "(i+I)*" * 15_000 + "1 else 0]"), INDEX),
    "terms of an index": (lambda: einsum("A[i" + "+1" * 59_000 + " else 0]"), READ),
    "squares of sizes": (
        lambda: body(
            "ranks N0 = I+1, " + comma(lambda n: f"N{n + 1} = N{n}*N{n}", 15_000), "X[n60] = A[n60]"
        ),
        SIZES,
    ),
    "sums of sizes": (
        lambda: body(
            "ranks P0 = I+1, " + comma(lambda n: f"P{n + 1} = P{n}+N{n}", 7_000),
            "X[p7000] = A[p7000]",
            inputs=f"A[I], {comma(lambda n: f'B{n}[N{n}]', 7_000)}",
        ),
        SIZES,
    ),
    "names alike": (
        lambda: body(*each(lambda n: f"X{'ab' * 100}{n}[i] = A[i]", 9_000), f"Z = X{'ba' * 100}"),
        "is not defined",
    ),
}

JSON: dict[str, Case] = {
    "open lists": (lambda: "[" * 10**6, "nested too deeply"),
    "lists": (lambda: f"[{','.join(['[]'] * 10**6)}]", "too many values"),
    "objects in objects": (lambda: '{"node":' * MANY, "nested too deeply"),
    "lists in lists": (lambda: "[" * 10**4 + "]" * 10**4, "nested too deeply"),
    "numbers": (lambda: f"[{'1,' * (limits.JSON_VALUES.most - 2)}1]", "not the JSON of a Cascade"),
    "texts": (lambda: "[" + '"ab",' * 10**6 + "1]", "not the JSON of a Cascade"),
    "a number": (lambda: "9" * 2**20, "not JSON"),
    "a text": (lambda: f'"{"x" * 2**20}"', "not the JSON of a Cascade"),
    "characters": (lambda: " " * (limits.JSON_CHARACTERS.most + 1), "too many characters of JSON"),
}


CASES: dict[str, tuple[str, Case]] = {
    f"{kind}: {name}": (reader, case)
    for kind, reader, group in (
        ("too many", "text", TOO_MANY),
        ("within the limits", "text", WITHIN),
        ("JSON", "JSON", JSON),
    )
    for name, case in group.items()
}


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[str, int]]:
    """What is said of each case, and the most memory that was resident by then, in bytes."""
    given = "".join(
        f"{json.dumps([name, reader, text()])}\n" for name, (reader, (text, _)) in CASES.items()
    )
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=given,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_bounded,
    )
    rows: list[tuple[str, str, int]] = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (said, peak) for name, said, peak in rows}


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (8 * BYTES, 8 * BYTES))


@pytest.mark.xdist_group("hostile sizes")
@pytest.mark.parametrize("name", CASES)
def test_what_is_said(name: str, found: dict[str, tuple[str, int]]) -> None:
    assert name in found, "the process ended: out of memory, or of time"
    said, peak = found[name]
    _, (_, expected) = CASES[name]
    assert expected in said
    assert len(said) < 10_000
    assert peak < BYTES
