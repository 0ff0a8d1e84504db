"""How is a recovery kit made at the console, and handed over? Asked for by one person, approved by another as exactly this, opened by several alone.

The site's key leaves this host in one form only: sealed under a secret that exists nowhere, and that any few of the named custodians join from their
shares. What was made is proven to open before it is said to be there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadglass.doors.command.people_changes import PeopleParts, person_named
from leadglass.policy.keys import FETCHED_WITHIN_SECONDS, misshared
from leadglass.site.kit import make_kit, opened, sheet_of
from leadglass.site.kits import Custody, Kits, MadeKit
from leadglass.site.sitekey import SiteKey
from leadglass.terms import Act, Caller, Change, ChangeKind, Fault, NotChanged, Person

Result = Mapping[str, object]
Arguments = Mapping[str, Any]
SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class KitParts:
    """What these changes act on. `clock`: Unix nanoseconds."""

    kits: Kits
    site_dir: Path
    site_key: SiteKey
    people: PeopleParts
    clock: Callable[[], int] = time.time_ns


def wanted(custodians: Sequence[str], threshold: int) -> dict[str, object]:
    """The arguments of KIT_MAKE, which are what somebody else approves. `custodians`: ids."""
    return {"custodians": sorted(set(custodians)), "threshold": threshold}


def digest_of(kit_id: str, caller: Caller, arguments: Mapping[str, object]) -> str:
    """What an approval of exactly that is bound to."""
    return Change("", caller, ChangeKind.KIT_MAKE, kit_id, arguments).digest


def asked_for(parts: PeopleParts, arguments: Arguments) -> dict[str, object]:
    """Custodians and threshold of what somebody asks for, as it will be made. Raises NotChanged."""
    custodians = [person_named(parts, str(each)) for each in arguments.get("custodians", ())]
    threshold = _number(arguments.get("threshold"))
    if wrong := misshared(custodians, threshold, parts.clock()):
        raise NotChanged(wrong)
    return wanted([each.id for each in custodians], threshold)


def _make(parts: KitParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the kit's id, as it was approved."""
    caller, now_ns = change.caller, parts.clock()
    request = parts.people.people.access.exactly(caller.person.id, Act.KEY_USE, change.digest, now_ns)
    custodians = [_known(parts, str(each)) for each in arguments["custodians"]]
    threshold = _number(arguments["threshold"])
    if wrong := misshared(custodians, threshold, now_ns):
        raise NotChanged(wrong)
    made = make_kit(parts.site_dir, parts.site_key, os.urandom(32), shares=(threshold, len(custodians)))
    for few in (made.shares[:threshold], made.shares[-threshold:]):
        if opened(made.text, shares=few)["site_key"] != parts.site_key.text():
            raise Fault("the kit that was made does not open", hint="nothing was handed out: try again")
    kit = MadeKit(
        change.about, request.id, caller.person.id, threshold, made.lacks, now_ns, now_ns + FETCHED_WITHIN_SECONDS * SECOND_NS,
        custodians=tuple(Custody(each.id) for each in custodians),
    )  # fmt: skip
    parts.kits.make(kit, made.text, made.shares)
    parts.people.people.access.settle(request.id, "done", now_ns)
    return {"kit": kit.id, "custodians": len(custodians), "threshold": threshold}


def _collect(parts: KitParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the kit. `part`: one's own `share`, which stays here until one says that it is `kept`; the `file` or `sheet`, of whoever had it made."""
    caller, now_ns = change.caller, parts.clock()
    match arguments.get("part"):
        case "share":
            return {"share": parts.kits.share(change.about, caller.person.id, now_ns)}
        case "kept":
            parts.kits.kept(change.about, caller.person.id, now_ns)
            return {"kit": change.about}
        case "file":
            return {"file": parts.kits.file(change.about, caller.person.id, now_ns)}
        case "sheet":
            return {"file": sheet_of(parts.kits.file(change.about, caller.person.id, now_ns))}
    raise NotChanged("a kit has a file, a sheet and shares, and nothing else")


def _lapse(parts: KitParts, change: Change, arguments: Arguments) -> Result:
    parts.kits.lapse(change.about, parts.clock())
    return {"kit": change.about, "state": "lapsed"}


def _known(parts: KitParts, person_id: str) -> Person:
    person = parts.people.people.get(person_id)
    if person is None:
        raise NotChanged("one of the custodians is gone: ask for another kit")
    return person


def _number(value: object) -> int:
    return int(str(value)) if str(value).isdecimal() and len(str(value)) < 4 else 0


KIT_KINDS: Mapping[ChangeKind, Callable[[KitParts, Change, Arguments], Result]] = {
    ChangeKind.KIT_COLLECT: _collect,
    ChangeKind.KIT_LAPSE: _lapse,
    ChangeKind.KIT_MAKE: _make,
}
