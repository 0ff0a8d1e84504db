"""For who follows the journals and goes on where one is broken: said in the log, each thing once; the site is told by whoever watches them."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from leadglass.terms import Fault

log = structlog.get_logger()


def named_once(what: str) -> Callable[[Fault], None]:
    """`what`: what comes of it."""
    named = set[str]()

    def broken(fault: Fault) -> None:
        if str(fault) not in named:
            named.add(str(fault))
            log.error(what, reason=str(fault), hint=fault.hint)

    return broken
