"""Who called last, with what, and which strangers did: as the journal tells it, however it is fed, and without reading it all again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.assets import inventory
from leadglass.assets.inventory import Callers, Seen, Stranger
from leadglass.audit.search import FILE, AuditSearch
from leadglass.terms import Event, JournalFault
from tests.audit.happened import Site, admitted, refused


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def journalled(site: Site, *events: Event, at_ns: int) -> Path:
    process = site.process(lambda: at_ns)
    for event in events:
        process.journal.append(event)
    process.end()
    return process.files[0]


def called(site: Site) -> Callers:
    search = AuditSearch.open(site.path, site.keyring, feeds=True)
    search.catch_up(site.reader)
    found = search.callers()
    search.close()
    return found


def calls(device: str, address: str, software: str) -> Event:
    return replace(admitted(), actor=device, address=address, details={"calling": device, "implementation": software})


def knocks(address: str, ae_title: str, reason: str = "no certificate", count: int = 1) -> Event:
    return replace(refused(address), reason=reason, details={"calling": ae_title, "count": count})


@pytest.mark.parametrize("order", [(100, 200), (200, 100)])
def test_the_latest_call_counts_whichever_is_read_first(site: Site, order: tuple[int, int]) -> None:
    for at_ns in order:
        journalled(
            site, calls("CT1", f"10.0.0.{at_ns}", f"1.2.{at_ns} SOFT"), calls("MR1", "10.0.1.1", ""), at_ns=at_ns
        )
        called(site)
    assert called(site).seen == {"CT1": Seen(200, "10.0.0.200", "1.2.200 SOFT"), "MR1": Seen(200, "10.0.1.1", "")}


@pytest.mark.parametrize("order", [(100, 200), (200, 100)])
def test_strangers_are_counted_and_an_enrolled_device_that_is_refused_is_none(
    site: Site, order: tuple[int, int]
) -> None:
    for at_ns in order:
        journalled(
            site,
            knocks("10.9.0.1", "EVIL", f"at {at_ns}"),
            knocks("10.9.0.1", "EVIL", f"at {at_ns}", 13),
            knocks("10.9.0.1", "OTHER"),
            replace(knocks("10.0.0.1", "CT1"), actor="CT1"),
            at_ns=at_ns,
        )
        called(site)
    found = called(site)
    assert set(found.strangers) == {
        Stranger("10.9.0.1", "EVIL", 28, 200, "at 200"),
        Stranger("10.9.0.1", "OTHER", 2, 200, "no certificate"),
    }
    assert found.seen == {}


def test_strangers_who_call_themselves_anything_fill_no_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "STRANGERS_MAX", 10)
    for at_ns in range(5):
        journalled(site, *(knocks("10.9.0.1", f"E{at_ns}-{number}") for number in range(7)), at_ns=at_ns)
        called(site)
    found = called(site).strangers
    assert len(found) == 10 and [each.last_ns for each in found] == [4] * 7 + [3] * 3


def test_it_is_made_again_where_it_is_lost_and_else_not_read_again(site: Site) -> None:
    path = journalled(site, calls("CT1", "10.0.0.1", "SOFT"), knocks("10.9.0.1", "EVIL"), at_ns=1)
    before = called(site)
    (site.path / FILE).unlink()
    assert called(site) == before and before.seen and before.strangers
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert called(site) == before
    (site.path / FILE).unlink()
    with pytest.raises(JournalFault):
        called(site)
