"""How fast may somebody guess passwords and codes? Slower with every failure, and never so that it locks out whom they guess at.

    a name from one address    5 failures are free, then 5 s, each wait twice the one before, up to 5 minutes
    an address, any names      20 are free, then the same
    a name, any address        100 are free, then 2 s between attempts; not for an address from which that person signed in before

An attempt that comes too soon is not looked at and costs nobody anything. Passkeys cannot be guessed and are never slowed: whoever has one
signs in, whatever others do to their name. All processes count together, in the register, under keyed digests of name and address.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Sequence

from leadglass.site.factors import Factors
from leadglass.terms import NotIdentified

FREE_PER_NAME_AND_ADDRESS = 5
FREE_PER_ADDRESS = 20
FREE_PER_NAME = 100
WAIT_SECONDS_MIN = 5
WAIT_SECONDS_MAX = 300
WAIT_PER_NAME_SECONDS = 2
FORGOTTEN_AFTER_SECONDS = 3600
IPV6_PREFIX_BITS = 64  # one household, one ward: addresses below it are free to whoever has it
_SECOND = 1_000_000_000


class Slowed(NotIdentified):
    """Too many failures from there: not looked at. `seconds`: until the next attempt is."""

    def __init__(self, reason: str, seconds: int) -> None:
        super().__init__(reason)
        self.seconds = seconds


class Guesses:
    """`key`: 32 bytes. `known`: whether the person of that name signed in from that address before."""

    def __init__(self, factors: Factors, key: bytes, known: Callable[[str, str], bool]) -> None:
        self._factors, self._key, self._known = factors, key, known

    def attempt(self, name: str, address: str, now_ns: int) -> None:
        """Counts as a failure until it is said otherwise. Raises Slowed."""

        def admit(told: Sequence[tuple[int, int]]) -> None:
            waits = [
                _left(told[0], FREE_PER_NAME_AND_ADDRESS, WAIT_SECONDS_MAX, now_ns),
                _left(told[1], FREE_PER_ADDRESS, WAIT_SECONDS_MAX, now_ns),
                _left(told[2], FREE_PER_NAME, WAIT_PER_NAME_SECONDS, now_ns),
            ]
            if waits[2] and known:
                waits[2] = 0
            if wait := max(waits):
                raise Slowed(
                    f"too many wrong passwords or codes from {address}: the next is looked at in {wait} s", wait
                )

        known = self._known(name, address)
        self._factors.attempt(self._keys(name, address), now_ns, now_ns - FORGOTTEN_AFTER_SECONDS * _SECOND, admit)

    def succeeded(self, name: str, address: str) -> None:
        """What the person mistyped is forgotten; what others guessed elsewhere is not."""
        pair, place, anywhere = self._keys(name, address)
        self._factors.took_back((place, anywhere), forget=(pair,))

    def not_looked_at(self, name: str, address: str) -> None:
        self._factors.took_back(self._keys(name, address))

    def _keys(self, name: str, address: str) -> tuple[str, str, str]:
        place = _place(address)
        return self._digest(f"{name}\0{place}"), self._digest(f"\0{place}"), self._digest(f"{name}\0")

    def _digest(self, what: str) -> str:
        return hmac.digest(self._key, what.encode("utf-8", "replace"), "sha256").hex()


def _left(told: tuple[int, int], free: int, longest: int, now_ns: int) -> int:
    """Seconds until the next attempt is looked at."""
    failures, last_ns = told
    if failures < free or now_ns < last_ns:
        return 0
    wait = min(longest, WAIT_SECONDS_MIN << min(failures - free, 30)) * _SECOND
    return max(0, -((now_ns - last_ns - wait) // _SECOND))


def _place(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, IPV6_PREFIX_BITS), strict=False))
    return str(found)
