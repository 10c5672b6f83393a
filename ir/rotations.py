"""Steps of cyclic rotations as sums of signed powers of two."""

from __future__ import annotations


def signed_digits(step: int) -> list[int]:
    """The non-adjacent form of a step: the fewest signed powers of two that add up to it.

    >>> signed_digits(7), signed_digits(-6)
    ([-1, 8], [2, -8])
    """
    sign, rest, place, found = (-1 if step < 0 else 1), abs(step), 1, list[int]()
    while rest:
        if rest & 1:
            digit = 2 - rest % 4
            found.append(sign * digit * place)
            rest -= digit
        rest, place = rest >> 1, place << 1
    return found
