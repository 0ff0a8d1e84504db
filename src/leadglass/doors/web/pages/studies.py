"""Which studies? A plain search by patient, accession number and date, and one study with its series; what the asker may see, as policy says."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from leadglass import gateway
from leadglass.doors.blocking import Entered
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page, to, ways_of
from leadglass.doors.web.visit import Visit
from leadglass.terms import Act, Level, Mismatched, NotPermitted, Outcome, Query, Root
from leadglass.wire import tags
from leadglass.wire.uids import uid_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

SHOWN_MAX = 100
FIELD_CHARACTERS_MAX = 64
OF_STUDY = (
    tags.STUDY_INSTANCE_UID, tags.PATIENT_NAME, tags.PATIENT_ID, tags.ISSUER_OF_PATIENT_ID, tags.PATIENT_BIRTH_DATE, tags.PATIENT_SEX,
    tags.STUDY_DATE, tags.STUDY_TIME, tags.STUDY_DESCRIPTION, tags.ACCESSION_NUMBER, tags.MODALITIES_IN_STUDY,
    tags.NUMBER_OF_STUDY_RELATED_SERIES, tags.NUMBER_OF_STUDY_RELATED_INSTANCES,
)  # fmt: skip
_OF_SERIES = (
    tags.SERIES_INSTANCE_UID, tags.SERIES_NUMBER, tags.MODALITY, tags.SERIES_DESCRIPTION, tags.NUMBER_OF_SERIES_RELATED_INSTANCES,
)  # fmt: skip
_NAMES = {
    tags.STUDY_INSTANCE_UID: "uid", tags.PATIENT_NAME: "patient_name", tags.PATIENT_ID: "patient_id", tags.ISSUER_OF_PATIENT_ID: "issuer",
    tags.PATIENT_BIRTH_DATE: "born", tags.PATIENT_SEX: "sex", tags.STUDY_DATE: "date", tags.STUDY_TIME: "time",
    tags.STUDY_DESCRIPTION: "description", tags.ACCESSION_NUMBER: "accession", tags.MODALITIES_IN_STUDY: "modalities",
    tags.NUMBER_OF_STUDY_RELATED_SERIES: "series", tags.NUMBER_OF_STUDY_RELATED_INSTANCES: "instances",
    tags.SERIES_INSTANCE_UID: "uid", tags.SERIES_NUMBER: "number", tags.MODALITY: "modality", tags.SERIES_DESCRIPTION: "description",
    tags.NUMBER_OF_SERIES_RELATED_INSTANCES: "instances",
}  # fmt: skip

Row = dict[str, str]


def search(visit: Visit) -> Response:
    asked = {name: visit.asked(name)[:FIELD_CHARACTERS_MAX] for name in ("patient", "accession", "from", "to")}
    facts: dict[str, object] = {"asked": asked, "rows": None, "more": False, "shown_max": SHOWN_MAX}
    if not any(asked.values()):
        if not visit.may(Act.STUDY_FIND):  # who sees no study begins elsewhere
            return to(next((path for path, _ in ways_of(visit) if path != "/"), "/me"))
        return page(visit, "studies.html", facts)
    try:
        rows = found(visit, Level.STUDY, {**dict.fromkeys(OF_STUDY, ""), **_keys(asked)})
    except Mismatched:
        said = "That cannot be searched for: a date is written 2026-11-24, and * stands for any letters."
        return page(visit, "studies.html", facts | {"said": said}, 400)
    facts |= {"rows": rows[:SHOWN_MAX], "more": len(rows) > SHOWN_MAX}
    return page(visit, "studies.html", facts)


def study(visit: Visit) -> Response:
    """One study. The same answer where there is none and where it is not theirs to see."""
    uid = visit.parameters["uid"]
    if uid_problem(uid):
        return not_shown(visit, uid)
    rows = found(visit, Level.STUDY, {**dict.fromkeys(OF_STUDY, ""), tags.STUDY_INSTANCE_UID: uid}, one=True)
    if not rows:
        return not_shown(visit, uid)
    series = found(visit, Level.SERIES, {**dict.fromkeys(_OF_SERIES, ""), tags.STUDY_INSTANCE_UID: uid})
    series.sort(key=lambda each: (not each["number"].isdecimal(), each["number"].zfill(12), each["uid"]))
    facts = {"study": rows[0], "series": series[:SHOWN_MAX], "more": len(series) > SHOWN_MAX}
    return page(visit, "study.html", facts | {"may_export": visit.may(Act.STUDY_EXPORT)})


def not_shown(visit: Visit, uid: str) -> Response:
    return page(visit, "study_refused.html", {"may_break": visit.may(Act.GLASS_BREAK), "study": uid}, 403)


def found(visit: Visit, level: Level, keys: Mapping[int, str], *, one: bool = False) -> list[Row]:
    """At most one more than a page shows. A named study that is not seen is recorded as refused."""
    try:
        with Entered(gateway.release(visit.house.do, Query(visit.who, Root.STUDY, level, keys))) as found:
            rows = [_row(each) for each in itertools.islice(found.rows(), SHOWN_MAX + 1)]
            found.progress.total = found.progress.completed = len(rows)
            found.progress.succeed()
            if one and not rows:
                found.progress.outcome, found.progress.reason = Outcome.REFUSED, "no such study, or not theirs to see"
            return rows
    except NotPermitted as refusal:
        if one and type(refusal) is NotPermitted:
            return []
        raise


def _row(answer: Mapping[int, str]) -> Row:
    return {name: answer.get(tag, "") for tag, name in _NAMES.items() if tag in answer}


def _keys(asked: Mapping[str, str]) -> dict[int, str]:
    """Raises Mismatched."""
    keys: dict[int, str] = {}
    patient = asked["patient"].replace("\\", "")
    if any(each.isdecimal() for each in patient):
        keys[tags.PATIENT_ID] = patient
    elif patient:
        keys[tags.PATIENT_NAME] = "*".join(patient.replace(",", " ").split()) + "*"
    if asked["accession"]:
        keys[tags.ACCESSION_NUMBER] = asked["accession"].replace("\\", "")
    first, last = _date(asked["from"]), _date(asked["to"])
    if first or last:
        keys[tags.STUDY_DATE] = first if first == last else f"{first}-{last}"
    return keys


def _date(text: str) -> str:
    date = text.replace("-", "")
    if date and (len(date) != 8 or not date.isdecimal()):
        raise Mismatched("a date that is none")
    return date


PAGES = (Page("/", search), Page("/studies/{uid}", study))
