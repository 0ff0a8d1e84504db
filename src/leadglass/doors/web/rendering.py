"""What does a page look like? Templates with autoescaping, the frame around them, and the few forms that times and names have on a screen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from leadglass.terms import Act, Refused

if TYPE_CHECKING:
    from starlette.responses import Response

    from leadglass.doors.web.visit import Visit

# Where to go, and which act lets somebody go there. A path that stands twice is gone by whichever comes first.
WAYS: tuple[tuple[str, str, Act], ...] = (
    ("/", "Studies", Act.STUDY_FIND),
    ("/workstation", "Workstation", Act.LEASE_OPEN),
    ("/requests", "Requests", Act.ACCESS_REQUEST),
    ("/review", "Review", Act.GLASS_REVIEW),
    ("/who", "Who saw what", Act.AUDIT_READ),
    ("/reports", "Reports", Act.AUDIT_REPORT),
    ("/requests", "Requests", Act.TRANSCRIPT_READ),  # of others, for who asks for nothing
    ("/people", "People", Act.PEOPLE_LIST),
    ("/devices", "Devices", Act.DEVICE_LIST),
    ("/network", "Network", Act.POLICY_READ),
    ("/containment", "Containment", Act.CONTAINMENT_BEGIN),
    ("/archive", "Archive", Act.INDEX_REBUILD),
    ("/archive", "Archive", Act.BACKUP_RUN),  # where a window opens that alone
    ("/erasures", "Erasure", Act.STUDY_ERASE),
    ("/erasures", "Erasure", Act.GLASS_REVIEW),  # whoever guards undoes
    ("/keys", "Keys", Act.KEY_USE),
    ("/explain", "Policy", Act.POLICY_READ),
)


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("leadglass.doors.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "moment": moment,
        "day": day,
        "person_name": person_name,
        "words": words,
        "deed": deed,
        "actor": actor,
    }
    return made


def page(visit: Visit, template: str, facts: Mapping[str, object] | None = None, status: int = 200) -> Response:
    """An HTML page in the site's frame."""
    caller = visit.caller
    ways = ways_of(visit) if caller else []
    frame: dict[str, Any] = {
        "site_name": visit.house.site().name,
        "caller": caller,
        "csrf": visit.csrf if caller else "",
        "here": visit.path,
        "ways": ways,
        "idle_seconds": visit.house.site().sessions.idle_lock_minutes * 60,
        "said": "",
    }
    return HTMLResponse(environment().get_template(template).render(frame | dict(facts or {})), status)


def no_page(site_name: str) -> Response:
    """What stands where no page is, whoever asks."""
    facts = {"site_name": site_name, "caller": None, "ways": (), "here": "", "said": ""}
    return HTMLResponse(environment().get_template("no_page.html").render(facts), 404)


def ways_of(visit: Visit) -> list[tuple[str, str]]:
    """Where this person may go: path and name."""
    found: dict[str, str] = {}
    for path, name, act in WAYS:
        if path not in found and visit.may(act):
            found[path] = name
    return list(found.items())


def to(path: str) -> Response:
    """On to another page, with GET."""
    return RedirectResponse(path, 303)


def told(facts: Mapping[str, object], status: int = 200) -> Response:
    return JSONResponse(dict(facts), status)


# ---- how things are written


def sentence(refusal: Refused) -> str:
    """A refusal whose reason is for whoever asked."""
    return f"{refusal.reason[:1].upper()}{refusal.reason[1:]}."


def moment(nanoseconds: int) -> str:
    """A time as people here read it, in UTC; "" for never."""
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC).strftime("%Y-%m-%d %H:%M") if nanoseconds else ""


def day(text: str) -> str:
    """A DICOM date (PS3.5 6.2, DA), or what it is instead."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdecimal() else text


def person_name(text: str) -> str:
    """A DICOM person name (PS3.5 6.2.1) as `Family, Given Middle`; the first of its groups."""
    family, given, middle, prefix, suffix = (*text.partition("=")[0].split("^"), "", "", "", "", "")[:5]
    rest = " ".join(filter(None, (prefix, given, middle, suffix)))
    return ", ".join(filter(None, (family, rest)))


# What an event says happened to what somebody did; anything else says it by its own name.
_DEEDS = {
    "release:ended": "ended",
    "change:completed": "done",
    "change:refused": "refused",
    "change:abandoned": "failed",
    "request:refused": "refused",
    "association:admitted": "began",
    "association:ended": "ended",
    "instance:conflicted": "held: other bytes under a UID that is taken",
    "instance:held": "held",
    "instance:repeated": "repeated",
    "instance:stored": "done",
    "network:passed": "connection let through",
    "person:recognised": "succeeded",
    "person:refused": "refused",
}


def deed(row: Mapping[str, object]) -> str:
    """What was done, of a row of the audit: `study find ended`."""
    what = str(row["what"])
    return f"{words(row['action'])} {_DEEDS[what]}" if what in _DEEDS else what


def actor(name: str) -> str:
    """Whom an event names: a person by their name, an operator as one."""
    kind, _, rest = name.partition(":")
    return {"person": rest, "uid": f"an operator at a shell (uid {rest})"}.get(kind, name)


def words(name: object) -> str:
    """`care-team` is care team to a person."""
    return str(name).replace("-", " ")
