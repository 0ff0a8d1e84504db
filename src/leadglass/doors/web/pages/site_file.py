"""What does the edited site file change, may it act, and who approved it? Shown in words; asked for, applied and confirmed by its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leadglass.doors.command.applying import changed
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, sentence, to
from leadglass.doors.web.visit import Visit
from leadglass.policy.proof import prove
from leadglass.site import network
from leadglass.site.document import SiteInvalid
from leadglass.site.load import SITE_FILE, load
from leadglass.site.model import Site, plain_address
from leadglass.site.write import draft_digest, proven_directory
from leadglass.terms import Act, ChangeKind, Fault, NotChanged, SecondPersonNeeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

PATH = "/explain/site-file"
CHANGES_SHOWN_MAX = 500


def site_file(visit: Visit, said: str = "", status: int = 200) -> Response:
    visit.look(Act.POLICY_READ, SITE_FILE)
    site, serving = visit.house.site(), proven_directory(visit.house.site_dir).name
    told = network.read(visit.house.site_dir)
    facts = {
        **_draft(visit),
        "serving": serving,
        "applies": visit.may(Act.POLICY_APPLY) and visit.may(Act.POLICY_PROPOSE),
        "confirms": bool(site.filterer) and told.applied == serving != told.confirmed and visit.may(Act.POLICY_PROPOSE),
        "confirm_seconds": site.firewall.confirm_seconds if site.firewall else 0,
        "typed": {"reason": visit.field("reason")},
        "said": said,
    }  # fmt: skip
    return page(visit, "site_file.html", facts, status)


def _draft(visit: Visit) -> Mapping[str, object]:
    """The files as they lie there: what is wrong with them, what they change, and what became of asking for them."""
    site_dir = visit.house.site_dir
    wrong: list[str] = []
    changes: list[str] = []
    digest = ""
    try:
        digest = draft_digest(site_dir)
        draft = load(site_dir)
        wrong += map(str, prove(draft))
        changes += changed(site_dir, draft)
    except SiteInvalid as invalid:
        wrong += [f"{each.file}:{each.line}: {each.message}" for each in invalid.problems]
    except Fault as fault:
        wrong.append(str(fault))
    asked = [
        each for each in visit.house.people.access.requests() if each.digest == digest and each.act == Act.POLICY_APPLY
    ]
    return {
        "digest": digest,
        "wrong": wrong,
        "changes": changes[:CHANGES_SHOWN_MAX],
        "more": max(0, len(changes) - CHANGES_SHOWN_MAX),
        "asked": [each for each in asked if each.state in ("requested", "approved")],
        "approved": digest in visit.who.exactly,
    }


def ask(visit: Visit) -> Response:
    arguments = {"digest": visit.field("digest"), "reason": visit.field("reason")}
    return _changing(visit, ChangeKind.SITE_ASK, SITE_FILE, arguments)


def apply(visit: Visit) -> Response:
    arguments = {"digest": visit.field("digest"), "connection": _connection(visit)}
    return _changing(visit, ChangeKind.SITE_APPLY, SITE_FILE, arguments)


def confirm(visit: Visit) -> Response:
    return _changing(visit, ChangeKind.NETWORK_CONFIRM, visit.field("digest"), {})


def _changing(visit: Visit, kind: ChangeKind, about: str, arguments: Mapping[str, object]) -> Response:
    try:
        visit.change(kind, about, arguments)
    except (NotChanged, SecondPersonNeeded) as refusal:
        return site_file(visit, sentence(refusal), 403 if isinstance(refusal, SecondPersonNeeded) else 409)
    except SiteInvalid as invalid:
        return site_file(visit, str(invalid), 409)
    return to(PATH)


def _connection(visit: Visit) -> str:
    """By which the browser came, as the kernel sees it: a table that would cut it is not loaded."""
    return connection(visit.house.site(), visit.peer.address)


def connection(site: Site, address: str) -> str:
    client, door = plain_address(address), site.doors.web
    if client is None or door is None or site.firewall is None:
        return ""
    own = next((each.network_address for each in site.firewall.addresses if each.version == client.version), None)
    return f"{client} {own} {door.port}" if own is not None else ""


PAGES = (
    Page(PATH, site_file),
    Page(f"{PATH}/ask", ask, ("POST",)),
    Page(f"{PATH}/apply", apply, ("POST",)),
    Page(f"{PATH}/confirm", confirm, ("POST",)),
)
