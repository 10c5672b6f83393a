"""A reduction's text: the ufunc, what it starts from, and its type."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...ir.dtypes import DType
from ...ir.operators import OPERATORS, Number
from .formulas import constant, dtype_text, number_text


@dataclass(frozen=True, slots=True)
class Fold:
    """A reduction by an operator, in a dtype.

    `empty` is the value of a reduction of nothing where that is the semiring's zero; None: the
    operator's identity. `points` says in source whether there is something to reduce; it is needed
    only where `empty` differs from the neutral value.
    """

    op: str
    dtype: DType
    empty: Number | None
    points: str = ""

    @property
    def ufunc(self) -> str:
        """`np.add`, `np.maximum`, ..."""
        return OPERATORS[self.op].formula.partition("(")[0]

    @property
    def identity(self) -> Number:
        found = OPERATORS[self.op].identity
        assert found is not None  # verify: only an operator with an identity reduces
        return found

    @property
    def neutral_number(self) -> Number:
        """What the operator leaves every value of the dtype as it is with."""
        if self.dtype.kind == "complex" and self.op in ("max", "min"):
            # Complex numbers are ordered by their real part, then by the imaginary one.
            return complex(self.identity.real, self.identity.real)
        return constant(self.identity, self.dtype)

    @property
    def empty_number(self) -> Number:
        return constant(self.identity if self.empty is None else self.empty, self.dtype)

    @property
    def differs(self) -> bool:
        """Whether nothing gives another value than the neutral one (max_times: 0, not -inf)."""
        return self.neutral_number != self.empty_number

    @property
    def of_some(self) -> Fold:
        """The same reduction where there is something to reduce."""
        return replace(self, empty=self.neutral_number)

    @property
    def initial(self) -> str:
        """What to start from: the neutral value, but `empty` if there is nothing to reduce."""
        neutral = number_text(self.neutral_number)
        if not self.differs:
            return neutral
        return f"{neutral} if {self.points} else {number_text(self.empty_number)}"

    def options(self) -> str:
        """The keywords that `ufunc.reduce` needs besides `axis`."""
        text = ""
        narrow = self.dtype.kind in ("bool", "signed", "unsigned") and self.dtype.bits < 64
        if narrow and self.op in ("add", "mul"):
            text += f", dtype={dtype_text(self.dtype)}"  # NumPy would make it 64 bits wide
        unknown = self.dtype.kind == "object" and self.op not in ("add", "mul")
        if self.op in ("max", "min") or self.differs or unknown:
            text += f", initial={self.initial}"
        return text
