"""How can an instance leave? In a presentation context that takes it as stored; native ones in the other native syntax too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from leadglass.terms import Settled
from leadglass.wire.association import AcceptedContext
from leadglass.wire.transcode import reencode
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

_NATIVE = frozenset({EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN})


@dataclass(frozen=True, slots=True)
class Route:
    """How an instance can leave: in which presentation context, and from which transfer syntax it is re-encoded ("" as stored)."""

    context: AcceptedContext
    reencode_from: str = ""


def route(contexts: Mapping[int, AcceptedContext], settled: Settled) -> Route | None:
    """The context that takes the instance as stored; else, for native ones, explicit and implicit LE re-encoded into each other."""
    stored = settled.instance.transfer_syntax_uid
    usable = [
        context
        for context in contexts.values()
        if context.abstract_syntax == settled.instance.sop_class_uid and context.may_send_requests
    ]
    for context in usable:
        if context.transfer_syntax == stored:
            return Route(context)
    if stored in _NATIVE:
        for context in usable:
            if context.transfer_syntax in _NATIVE:
                return Route(context, reencode_from=stored)
    return None


def outgoing(body: Iterable[memoryview], way: Route) -> Iterator[memoryview]:
    """The data set's pieces in the route's transfer syntax."""
    if not way.reencode_from:
        return iter(body)
    pieces = reencode(iter(body), way.reencode_from, way.context.transfer_syntax)
    return (memoryview(piece) for piece in pieces)
