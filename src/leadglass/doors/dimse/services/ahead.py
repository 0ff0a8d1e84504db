"""What leaves next? While a peer takes one instance, the next is read and verified, so that nobody waits for a disk or a digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from leadglass.doors.dimse.services.route import Route, outgoing, route
from leadglass.terms import Body, Fault, Found, KeyFault, Refused, Settled, StoreFault
from leadglass.wire.association import AcceptedContext

VERIFY_FIRST_MAX_BYTES = 32 << 20
AHEAD_MAX_BYTES = 8 << 20  # of one that is read before its turn


@dataclass(frozen=True, slots=True)
class Ready:
    """An instance whose turn it is. `way`: None where no context takes it. `fault`: why it cannot be read; nothing of it leaves."""

    settled: Settled
    way: Route | None
    pieces: Iterable[memoryview] = ()
    fault: Fault | None = None


class Ahead:
    """The instances of a retrieval in their order, each raising at its own turn what reading or permitting it raised."""

    def __init__(self, found: Found, instances: Iterator[Settled], contexts: Mapping[int, AcceptedContext]) -> None:
        self._found, self._instances, self._contexts = found, instances, contexts
        self._next: Settled | Ready | Refused | Fault | None = None

    def __iter__(self) -> Iterator[Ready]:
        while True:
            self._take()
            match self._next:
                case None:
                    return
                case Refused() | Fault() as error:
                    raise error
                case Ready() as ready:
                    self._next = None
                    yield ready
                case Settled() as settled:
                    self._next = None
                    yield self._ready(settled)

    def look(self) -> None:
        """While somebody is busy with the one before. Raises nothing."""
        try:
            self._take()
            if isinstance(self._next, Settled) and self._next.data_set_length <= AHEAD_MAX_BYTES:
                self._next = self._ready(self._next)
        except (Refused, Fault) as error:
            self._next = error

    def left(self) -> Iterator[Settled]:
        """Those whose turn did not come."""
        if isinstance(self._next, Settled | Ready):
            yield self._next if isinstance(self._next, Settled) else self._next.settled
        yield from self._instances

    def _take(self) -> None:
        if self._next is None:
            self._next = next(self._instances, None)

    def _ready(self, settled: Settled) -> Ready:
        """Raises Refused where its study may not be seen any more."""
        way = route(self._contexts, settled)
        if way is None:
            return Ready(settled, None)
        try:
            return Ready(settled, way, outgoing(verified(self._found.read(settled)), way))
        except (StoreFault, KeyFault) as fault:  # what does not verify, or does not open, is never sent; the others are
            return Ready(settled, way, fault=fault)


def verified(body: Body) -> Iterable[memoryview]:
    """The body, read and verified before the first byte leaves where it fits in memory; a longer one is verified before its last byte.

    Raises StoreFault, KeyFault. A longer one that does not verify ends its association in the middle, so nobody takes it for whole.
    """
    return list(body) if body.settled.data_set_length <= VERIFY_FIRST_MAX_BYTES else body
