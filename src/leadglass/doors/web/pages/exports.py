"""How does a study leave as files? Asked for with a fresh passkey, for whom and what for, and streamed as a ZIP while it is read.

One patient's studies go from a page of theirs; what somebody else approved, several patients' too, goes from the request. Each study is a release of its
own: decided, counted and recorded before its first byte leaves.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from leadglass import gateway
from leadglass.doors.blocking import Entered
from leadglass.doors.web.packing import Packing
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.pages.studies import OF_STUDY, Row, found, not_shown
from leadglass.doors.web.rendering import page
from leadglass.doors.web.streamed import Streamed
from leadglass.policy.exports import RECIPIENT_CHARACTERS_MAX, RECIPIENT_CHARACTERS_MIN, STUDIES_MAX
from leadglass.policy.people import visible
from leadglass.terms import Act, Export, Found, Level, Outcome, PatientIdentity, Purpose
from leadglass.wire import tags
from leadglass.wire.uids import uid_problem

if TYPE_CHECKING:
    from starlette.responses import Response

    from leadglass.doors.web.visit import Visit
    from leadglass.site.access import AccessRequest

_COVER = """Studies from {site}, exported {at} UTC by {who} for: {recipient} ({purpose}).

study-.../series-.../...dcm   DICOM files (PS3.10), as they were acquired
SHA256SUMS                    their digests: `sha256sum --check SHA256SUMS` tells whether they are what left the archive

Export {id}. Whoever holds these files answers for them: they are no longer under the protection of the archive.
"""


# ---- one patient's studies


def form(visit: Visit, said: str = "", status: int = 200) -> Response:
    """For what, for whom, and which of the patient's studies."""
    visible(
        visit.who, Act.STUDY_EXPORT, visit.now_ns
    )  # a fresh passkey now: the form itself is then good for the download
    uid = visit.parameters["uid"]
    rows = [] if uid_problem(uid) else found(visit, Level.STUDY, _asked({tags.STUDY_INSTANCE_UID: uid}), one=True)
    if not rows:
        return not_shown(visit, uid)
    patient = _patient(rows[0])
    keys = {tags.PATIENT_ID: patient.patient_id, tags.ISSUER_OF_PATIENT_ID: patient.issuer}
    studies = [each for each in found(visit, Level.STUDY, _asked(keys)) if _patient(each) == patient]
    return _form(visit, f"/studies/{uid}/export", studies or rows, [uid], said, status)


def download(visit: Visit) -> Response:
    chosen = list(visit.form.get("study", ())) or [visit.parameters["uid"]]
    return _sent(visit, chosen) or form(visit, _said_wrong(visit), 422)


# ---- what was approved


def request_form(visit: Visit, said: str = "", status: int = 200) -> Response:
    visible(visit.who, Act.STUDY_EXPORT, visit.now_ns)
    request = _own(visit)
    if request is None:
        return page(
            visit, "export.html", {"action": "", "said": "There is no such request of yours that is open now."}, 404
        )
    studies: list[Row] = []
    for uid in _named(visit, request)[:STUDIES_MAX]:
        studies += found(visit, Level.STUDY, _asked({tags.STUDY_INSTANCE_UID: uid}), one=True)
    return _form(visit, f"/requests/{request.id}/export", studies, [each["uid"] for each in studies], said, status)


def request_download(visit: Visit) -> Response:
    request = _own(visit)
    if request is None:
        return request_form(visit)
    chosen = list(visit.form.get("study", ())) or _named(visit, request)
    return _sent(visit, chosen) or request_form(visit, _said_wrong(visit), 422)


def _own(visit: Visit) -> AccessRequest | None:
    """A request of theirs for an export whose window is open."""
    requests = visit.house.people.access.in_window(visit.who.person.id, visit.now_ns)
    wanted = visit.parameters["id"]
    return next((each for each in requests if each.id == wanted and each.act is Act.STUDY_EXPORT), None)


def _named(visit: Visit, request: AccessRequest) -> list[str]:
    """The studies that it names, and those of the patients that it names, as far as the archive knows them."""
    named = request.facts.get("studies", ())
    studies = [str(each) for each in named] if isinstance(named, list | tuple) else []
    patients = request.facts.get("patients", ())
    for issuer, patient_id in patients if isinstance(patients, list | tuple) else ():
        identity = PatientIdentity(str(patient_id), str(issuer))
        known = visit.house.index.studies_of(identity)
        studies += [each for each in known if visit.house.index.patient_of(each) == identity]
    return list(dict.fromkeys(studies))


# ---- shared


def _form(visit: Visit, action: str, studies: Sequence[Row], chosen: Iterable[str], said: str, status: int) -> Response:
    facts = {
        "action": action,
        "studies": studies,
        "chosen": list(visit.form.get("study", ())) or list(chosen),
        "purposes": list(Purpose),
        "typed": {name: visit.field(name) for name in ("purpose", "recipient")},
        "recipient_max": RECIPIENT_CHARACTERS_MAX,
        "said": said,
    }
    return page(visit, "export.html", facts, status)


def _said_wrong(visit: Visit) -> str:
    """What is wrong with a form; "" where nothing is."""
    recipient, chosen = " ".join(visit.field("recipient").split()), visit.form.get("study", ())
    if visit.field("purpose") not in tuple(Purpose):
        return "Say what it is for."
    if not RECIPIENT_CHARACTERS_MIN <= len(recipient) <= RECIPIENT_CHARACTERS_MAX:
        return "Say who is to get it."
    if len(chosen) > STUDIES_MAX:
        return f"At most {STUDIES_MAX} studies leave together."
    return ""


def _sent(visit: Visit, studies: Sequence[str]) -> Response | None:
    """What leaves; None where the form does not say what is needed. Raises Refused."""
    if _said_wrong(visit):
        return None
    known = {uid: visit.house.index.patient_of(uid) for uid in studies if not uid_problem(uid)}
    owners = {uid: owner or PatientIdentity("") for uid, owner in known.items()}
    if not owners:
        return None
    purpose, recipient = Purpose(visit.field("purpose")), " ".join(visit.field("recipient").split())
    export_id, patients = uuid.uuid4().hex, frozenset(owners.values())
    exports = [Export(visit.who, export_id, uid, owner, patients, purpose, recipient) for uid, owner in owners.items()]
    releases, founds = _entered(visit, exports)
    at = dt.datetime.now(dt.UTC)
    cover = _COVER.format(
        site=visit.house.site().name, at=f"{at:%Y-%m-%d %H:%M}", who=visit.who.person.display or visit.who.name, recipient=recipient,
        purpose=purpose.replace("-", " "), id=export_id,
    )  # fmt: skip
    packing = Packing(founds, cover)

    def leave(error: Exception | None) -> None:
        for release, leaving in zip(releases, founds, strict=True):
            release.leave(None if leaving.progress.outcome is Outcome.SUCCESS else error)

    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": f'attachment; filename="export-{at:%Y%m%d-%H%M}.zip"',
    }
    return Streamed(iter(packing), headers, still=packing.still, leave=leave)


def _entered(visit: Visit, exports: Sequence[Export]) -> tuple[list[Entered[Found]], list[Found]]:
    """All of them, or none: before the first byte leaves, each is decided and recorded. Raises Refused, Fault."""
    releases: list[Entered[Found]] = []
    founds: list[Found] = []
    try:
        for each in exports:
            release = Entered(gateway.release(visit.house.do, each))
            founds.append(release.__enter__())
            releases.append(release)
    except Exception as refusal:
        for entered in releases:
            with contextlib.suppress(Exception):
                entered.leave(refusal)
        raise
    return releases, founds


def _asked(keys: dict[int, str]) -> dict[int, str]:
    return {**dict.fromkeys(OF_STUDY, ""), **keys}


def _patient(row: Row) -> PatientIdentity:
    return PatientIdentity(row["patient_id"], row["issuer"])


PAGES = (
    Page("/studies/{uid}/export", form),
    Page("/studies/{uid}/export", download, ("POST",)),
    Page("/requests/{id}/export", request_form),
    Page("/requests/{id}/export", request_download, ("POST",)),
)
