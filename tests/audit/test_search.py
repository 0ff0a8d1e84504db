"""Who saw this patient, what did this person see: found in an index that is made again from the journal whenever it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadglass.audit.search import FILE, PAGE_ROWS_MAX, AuditAnswer, AuditSearch, Span
from leadglass.terms import Act, AuditQuestion, Event, EventKind, Operator, Outcome, PatientIdentity, Permit, StoreFault
from tests.audit.happened import PATIENT, STUDY, Process, Site, admitted, stored

OTHER = PatientIdentity("PAT-0815", "HOSPITAL")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def released(actor: str, *, patient: PatientIdentity | None = None, study: str = "", kind: str = "started") -> Event:
    return Event(
        EventKind(f"release:{kind}"), Outcome.SUCCESS, actor, action="get", study_instance_uid=study, patient=patient
    )


def journalled(site: Site, *events: Event) -> Process:
    process = site.process()
    for event in events:
        process.journal.append(event)
    process.journal.record(admitted())
    return process


def fed(site: Site) -> AuditSearch:
    search = AuditSearch.open(site.path, site.keyring, feeds=True)
    search.catch_up(site.reader)
    return search


def test_who_saw_a_patient_by_id_and_by_study(site: Site) -> None:
    process = journalled(
        site,
        released("person:one", patient=PATIENT),
        released("person:one", patient=PATIENT, kind="ended"),
        released("person:two", study=STUDY),
        released("person:three", patient=OTHER),
        stored(),
    )
    process.end()
    search = fed(site)
    seers = {each.actor: each.times for each in search.seers(search.tokens("PAT-4711", [STUDY]), Span())}
    assert seers == {"person:one": 1, "person:two": 1}
    assert {each.event.actor for each in search.about(search.tokens("PAT-0815", []), Span())} == {"person:three"}
    assert [each.event.patient for each in search.by("person:three", Span())] == [OTHER]
    search.close()


def test_a_span_is_from_included_to_excluded(site: Site) -> None:
    times = iter(range(100, 200, 10))
    process = site.process(clock=lambda: next(times, 200))
    for _ in range(3):
        process.journal.append(released("person:one", patient=PATIENT))
    process.end()
    search = fed(site)
    found = [each.at_ns for each in search.by("person:one", Span())]
    assert len(found) == 3 and found == sorted(found, reverse=True)
    first, second, _ = sorted(found)
    assert [each.at_ns for each in search.by("person:one", Span(first, second))] == [first]
    search.close()


def test_pages_name_every_event_once(site: Site) -> None:
    count = 2 * PAGE_ROWS_MAX + 7
    process = site.process(clock=lambda: 5)  # all at once: the page breaks fall between equal times
    for _ in range(count):
        process.journal.append(released("person:one", patient=PATIENT))
    process.end()
    search = fed(site)
    found, before = set[tuple[int, int]](), None
    while page := list(search.by("person:one", Span(), before)):
        found |= {each.place for each in page}
        before = page[-1].place
    assert len(found) == count
    search.close()


def test_it_goes_on_where_it_was_and_reads_nothing_twice(site: Site) -> None:
    process = journalled(site, released("person:one", patient=PATIENT))
    first = fed(site)
    assert first.catch_up(site.reader) == 0
    first.close()
    process.journal.record(released("person:two", patient=PATIENT))
    process.end()
    second = AuditSearch.open(site.path, site.keyring, feeds=True)
    assert second.catch_up(site.reader) == 1
    assert {each.actor for each in second.seers(second.tokens("PAT-4711", []), Span())} == {"person:one", "person:two"}
    second.close()


def test_the_same_id_of_another_issuer_is_somebody_else(site: Site) -> None:
    elsewhere = PatientIdentity("PAT-4711", "ELSEWHERE")
    nowhere = PatientIdentity("PAT-4711")
    events = [
        released("person:one", patient=PATIENT),
        released("person:two", patient=elsewhere),
        released("person:three", patient=nowhere),
    ]
    journalled(site, *events, *[released("person:two", patient=elsewhere)] * PAGE_ROWS_MAX).end()
    search = fed(site)

    def asked(patient: PatientIdentity) -> tuple[set[str], set[str]]:
        question = AuditQuestion(Operator(0, "root"), patient)
        answer = AuditAnswer(question, Permit(question.subject, Act.AUDIT_READ, "operator:root", 0), search, ())
        return {each.actor for each in answer.seers()}, {each.event.actor for each in answer.entries()}

    assert asked(PATIENT) == ({"person:one", "person:three"},) * 2  # who named no issuer may have meant them
    assert asked(nowhere) == ({"person:one", "person:two", "person:three"},) * 2
    search.close()


@pytest.mark.parametrize("harm", ["lost", "torn", "other format"])
def test_it_is_made_again(site: Site, harm: str) -> None:
    journalled(site, released("person:one", patient=PATIENT)).end()
    search = fed(site)
    if harm == "other format":
        search._connection.execute("PRAGMA user_version = 99")
    search.close()
    path = site.path / FILE
    if harm == "lost":
        path.unlink()
    elif harm == "torn":
        path.write_bytes(b"\0" * 8192)
    with pytest.raises(StoreFault):
        AuditSearch.open(site.path, site.keyring)
    search = fed(site)
    assert [each.actor for each in search.seers(search.tokens("PAT-4711", []), Span())] == ["person:one"]
    search.close()


def test_nothing_of_a_patient_lies_open_in_the_file(site: Site) -> None:
    journalled(site, released("person:one", patient=PATIENT, study=STUDY)).end()
    search = fed(site)
    rows = [bytes(row[0]) for row in search._connection.execute("SELECT body FROM events")]
    tokens = [bytes(row[0]) for row in search._connection.execute("SELECT token FROM about")]
    search.close()
    assert len(rows) == 1 and len(tokens) == 2
    for each in (*rows, *tokens, (site.path / FILE).read_bytes()):
        assert b"PAT-4711" not in each and STUDY.encode() not in each
