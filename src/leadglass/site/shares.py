"""How do n people hold one secret so that t of them can open it? Shamir's scheme over GF(256), byte by byte.

A share is a number (1 to 255) and as many bytes as the secret; fewer than t of them tell nothing about it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SHARES_MAX = 255
_POLYNOMIAL = 0x11B  # x^8 + x^4 + x^3 + x + 1


@dataclass(frozen=True, slots=True)
class Share:
    """One holder's part."""

    number: int
    data: bytes = field(repr=False)


def _tables() -> tuple[list[int], list[int]]:
    exponents, logarithms = [0] * 510, [0] * 256
    value = 1
    for power in range(255):
        exponents[power] = exponents[power + 255] = value
        logarithms[value] = power
        value ^= value << 1  # times the generator 3
        if value & 0x100:
            value ^= _POLYNOMIAL
    return exponents, logarithms


_EXP, _LOG = _tables()


def _times(a: int, b: int) -> int:
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


def split(secret: bytes, threshold: int, count: int) -> tuple[Share, ...]:
    """`count` shares, any `threshold` of which open the secret. Raises ValueError."""
    if not 2 <= threshold <= count <= SHARES_MAX:
        raise ValueError(
            f"{threshold} of {count} shares: between 2 and {SHARES_MAX}, and not more needed than there are"
        )
    polynomials = [bytes([byte]) + os.urandom(threshold - 1) for byte in secret]
    return tuple(Share(x, bytes(_at(polynomial, x) for polynomial in polynomials)) for x in range(1, count + 1))


def _at(polynomial: bytes, x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = _times(value, x) ^ coefficient
    return value


def join(shares: Iterable[Share]) -> bytes:
    """The secret that was split, if these are enough and unharmed; other bytes if not. Raises ValueError where they cannot belong together."""
    held: Sequence[Share] = list({share.number: share for share in shares}.values())
    if len(held) < 2 or len({len(share.data) for share in held}) != 1:
        raise ValueError("these shares do not belong together")
    weights = [_weight(share.number, [other.number for other in held if other is not share]) for share in held]
    length = len(held[0].data)
    secret = bytearray(length)
    for share, weight in zip(held, weights, strict=True):
        for index in range(length):
            secret[index] ^= _times(share.data[index], weight)
    return bytes(secret)


def _weight(x: int, others: Iterable[int]) -> int:
    """Lagrange's basis polynomial of x, at zero."""
    weight = 1
    for other in others:
        weight = _times(weight, _EXP[(_LOG[other] - _LOG[x ^ other]) % 255])
    return weight
