"""What is too large to be read: a text that is refused at once rather than after minutes.

Each limit is far above what people write, and low enough that whatever keeps within all of them is
read in seconds and in little memory. They hold for what comes from outside, text and JSON: a
Cascade that is made of nodes in Python may be larger.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import EinloomError, ParseError
from .source import Span


@dataclass(frozen=True, slots=True)
class Limit:
    """The most of something, and what to do where it is too few."""

    most: int
    what: str
    instead: str

    def check(
        self,
        found: int,
        span: Span | None = None,
        error: type[EinloomError] = ParseError,
        *,
        at_least: bool = False,
    ) -> None:
        """Refuses more than `most`; `at_least`: nobody counted what is beyond.

        >>> NAME.check(300)
        Traceback (most recent call last):
            ...
        einloom.ir.errors.ParseError: too many characters in a name: 300, and at most 255 are read
          hint: give it a shorter one
        """
        if found > self.most:
            more = "or more, " if at_least else ""
            raise error(
                f"too many {self.what}: {found:,}, {more}and at most {self.most:,} are read",
                span=span,
                hint=self.instead,
            )


#: Characters are skipped quickly, a hundred million a second, but they are held in memory.
CHARACTERS = Limit(
    2**24,
    "characters in a text",
    "leave comments and white space out, or `use` the parts from files of their own",
)

#: Each takes some 10 us, from the lexer to the verified Cascade.
TOKENS = Limit(
    120_000,
    "tokens in a text with all that it uses",
    "write it in several texts; what a program writes, it can write under @el.trace or as nodes of "
    "einloom.ir.cascade instead",
)

#: Messages show names, and look for similar ones.
NAME = Limit(255, "characters in a name", "give it a shorter one")

#: Files that use files are read one inside the other.
FILES = Limit(32, "files that use one another in turn", "use what is needed directly")

#: NumPy's arrays have no more axes.
RANKS = Limit(64, "ranks of a tensor", "NumPy's arrays have no more: let a rank stand for several")

#: A rank's size is compared as a polynomial in the sizes of others, of which products grow.
SIZE_TERMS = Limit(
    200_000,
    "terms in the sizes of ranks, written out",
    "declare a large sum or product of sizes as a number, or as the rank of an input",
)

#: An index is multiplied out, and a product of n sums has 2^n terms or more.
INDEX_TERMS = Limit(1_000, "terms in an index, multiplied out", "multiply sizes in `ranks` first")

#: A call is its Einsums, so a cascade that calls another twice, which calls a third twice, doubles.
INLINED = Limit(
    60_000,
    "nodes in a text's calls, written out",
    "compile the called cascades alone, and call what comes out",
)

#: Each law that is claimed is tried on random values by the interpreter, which takes some 0.1 ms
#: for each node of the operators in it, written out.
LAWS = Limit(
    6_000,
    "nodes in the laws of a text's operators and semirings",
    "claim the laws that rewrites are to use, of operators with short bodies",
)

#: What an operator does is written out where it is applied, so one that applies another twice
#: doubles it.
OPERATOR = Limit(
    10_000, "nodes in an operator, written out", "give its parts names: an Einsum each"
)

#: JSON is read as it is, before anybody knows what it means, and held in memory.
JSON_CHARACTERS = Limit(2**24, "characters of JSON", "write a cascade of fewer Einsums")
JSON_VALUES = Limit(1_200_000, "values in the JSON", "write a cascade of fewer Einsums")
