"""What can be asked about erasures, and what `status` says of those that go on."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from typing import Any

from leadglass.audit.codec import study_token
from leadglass.doors.house import House, Question
from leadglass.site.erasures import Erasure

LISTED_MAX = 1000
SLOW_SECONDS = 600  # a step that takes longer waits for something

Row = Mapping[str, object]


def erasures(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """The newest first; `study`: only those that are, or were, of that one."""
    study = str(arguments.get("study", ""))
    known = {study, study_token(house.eraser.keyring, study).hex()} if study else set()
    for each in house.erasures.latest(LISTED_MAX):
        if not known or known & set(each.studies):
            yield _row(each)


def amber_erasures(house: House) -> Iterator[str]:
    """What `status` says about them, in words an operator can act on."""
    now_ns = time.time_ns()
    for each in house.erasures.open():
        named = f"{each.count} {'study' if each.count == 1 else 'studies'}"
        if each.state == "waiting":
            yield f"{named} will be erased on {_iso(each.due_ns)[:16]} UTC: until then `leadglass erasures undo {each.id}` keeps them"
        elif house.containment().read_only:
            yield f"the erasure of {named} waits until the site is read-only no longer"
        elif now_ns - each.due_ns > SLOW_SECONDS * 1_000_000_000:
            yield f"the erasure of {named} is {each.state} for long: a process holds a key, or something is in flight; restart the site"


ERASURE_QUESTIONS: Mapping[str, Question] = {"erasures": erasures}


def _row(each: Erasure) -> Row:
    return {
        "erasure": each.id,
        "state": each.state,
        "studies": each.count,
        "instances": each.instances,
        "ordered": _iso(each.ordered_ns),
        "due": _iso(each.due_ns),
        "settled": _iso(each.settled_ns),
        "why": each.settled_why,
    }


def _iso(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC).isoformat(timespec="seconds") if nanoseconds else ""
