"""What can be asked of a site? Each question answers in JSON-able rows; the same code answers beside a running site and without one."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

from leadglass.audit.codec import to_json
from leadglass.doors.command.audit_questions import breach, disclosures, transcript
from leadglass.doors.command.enrolling import enrolments
from leadglass.doors.command.erasure_questions import ERASURE_QUESTIONS, amber_erasures
from leadglass.doors.command.explaining import explain
from leadglass.doors.command.network_questions import NETWORK_QUESTIONS
from leadglass.doors.command.people_questions import PEOPLE_QUESTIONS, amber_people
from leadglass.doors.house import House, Network, Question
from leadglass.identity.doors import web_certificate_ends
from leadglass.terms import Device, Fault, JournalFault, Standing
from leadglass.watch.clock import read_clock, stopped_by

Row = Mapping[str, object]
HELD_PAGE = 500
FOLLOW_POLL_SECONDS = 0.2


def status(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """One row: doors, workers, archive, disk, certificates, containment, clock."""
    site, containment = house.site(), house.containment()
    disk = shutil.disk_usage(house.site_dir)
    counts, clock = house.index.statistics(), read_clock()
    certificates = house.register.certificates()
    yield {
        "site": site.name,
        "dimse": f"{site.doors.dimse.host}:{site.doors.dimse.port}",
        "ae_title": site.doors.dimse.ae_title,
        **_serving(house),
        "generation": containment.generation,
        "read_only": containment.read_only,
        "devices": len(site.devices),
        "revoked": len(containment.revoked),
        "disabled": sorted(containment.disabled),
        "contained_zones": sorted(containment.zones),
        **counts,
        "disk_free_bytes": disk.free,
        "disk_total_bytes": disk.total,
        "days_until_full": _days_until_full(house, disk.free),
        "oldest_unsynced_seconds": house.oldest_unsynced_seconds(),
        "certificates_expiring": [row["device"] for row in _expiring(house)],
        "pending_commitments": len(house.register.pending_commitments()),
        "unfinished_changes": [str(each) for each in house.register.unfinished_changes()],
        "clock_utc": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "clock": str(clock),
        "clock_offset_seconds": clock.offset_seconds if clock.kept else None,
        "clock_stops": list(stopped_by(time.time_ns(), house.index.newest_received_ns(), certificates)),
        "amber": list(_amber(house)),
    }


def devices(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """Enrolled devices with their record, certificates, last seen; then whoever called without being enrolled."""
    with contextlib.closing(house.search()) as search:
        search.catch_up(house.journal, lambda fault: None)  # what can be read; the watch names the rest
        called = search.callers()
    containment = house.containment()
    certificates = house.register.certificates()
    for device in sorted(house.site().devices.values(), key=lambda each: each.name):
        mine = [each for each in certificates if each.device == device.name]
        seen = called.seen.get(device.name)
        yield {
            **_described(device),
            "state": _state(device, mine, containment),
            "certificates": [
                {"fingerprint": each.fingerprint, "state": each.state, "not_after": _iso(each.not_after_ns)}
                for each in mine
            ],
            "last_seen": _iso(seen.last_ns) if seen else "",
            "address_seen": seen.address if seen else "",
            "software_seen": seen.software if seen else "",
        }
    for stranger in called.strangers:
        yield {
            "name": "",
            "state": "unknown",
            "address_seen": stranger.address,
            "ae_titles": [stranger.calling_ae_title] if stranger.calling_ae_title else [],
            "last_seen": _iso(stranger.last_ns),
            "calls": stranger.times,
            "reason": stranger.reason,
        }


def device(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """One enrolled device as the site file has it, with every certificate; no row where there is none."""
    found = house.site().devices.get(str(arguments["name"]))
    if found is not None:
        mine = [each for each in house.register.certificates() if each.device == found.name]
        yield {
            **_described(found),
            "pins": list(found.certificates),
            "certificates": [
                {"fingerprint": each.fingerprint, "state": each.state, "serial": each.serial} for each in mine
            ],
        }


def revoked(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """Serial and time of every revoked certificate that we issued: what a CRL is made of."""
    for each in house.register.certificates():
        if each.state == "revoked" and each.kind == "issued":
            yield {"serial": each.serial, "at": _iso(each.changed_ns)}


def site(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """What an enrolment sheet says of the site, and where a network lies."""
    now = house.site()
    yield {
        "name": now.name,
        "loopback": now.loopback,
        "host": now.doors.dimse.host,
        "port": now.doors.dimse.port,
        "ae_title": now.doors.dimse.ae_title,
        "zones": {name: [str(network) for network in zone.networks] for name, zone in now.zones.items()},
    }


def events(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """Every event in the order of writing; with `follow` the new ones too, until the asker goes away. Raises JournalFault or KeyFault behind them where some are missing."""
    broken = list[Fault]()
    if not arguments.get("follow"):
        for recorded in house.journal.read(None, broken.append):
            yield to_json(recorded)
        for fault in (*broken, *(lost.fault for lost in house.ends.lost())):
            raise fault
        return
    for recorded in house.journal.follow(FOLLOW_POLL_SECONDS, house.fatal, broken=lambda fault: None):
        yield to_json(recorded)


def conflicts(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """Held versions, with what is current instead."""
    _caught_up(house)
    after: tuple[str, int] | None = None
    while page := house.index.held(HELD_PAGE, after):
        for held in page:
            uid = held.instance.sop_instance_uid
            if arguments.get("sop_instance_uid") in (None, "", uid):
                current = house.index.current(uid)
                yield {
                    "sop_instance_uid": uid,
                    "version": held.version,
                    "holds": sorted(held.holds),
                    "sender": held.sender,
                    "received": _iso(held.received_at_ns),
                    "study_instance_uid": held.instance.study_instance_uid,
                    "digest": held.digest.hex(),
                    "current_version": current.version if current else 0,
                    "current_digest": current.digest.hex() if current else "",
                    "current_sender": current.sender if current else "",
                }
        after = (page[-1].instance.sop_instance_uid, page[-1].version)


def versions(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """Every kept version of one SOP instance."""
    _caught_up(house)
    for each in house.index.versions(str(arguments["sop_instance_uid"])):
        yield {
            "version": each.version,
            "standing": each.standing,
            "current": each.standing is Standing.CURRENT,
            "holds": sorted(each.holds),
            "digest": each.digest.hex(),
            "bytes": each.data_set_length,
            "transfer_syntax": each.instance.transfer_syntax_uid,
            "sender": each.sender,
            "received": _iso(each.received_at_ns),
        }


def index_rows(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """The index as canonical rows: what a rebuilt one is compared with."""
    _caught_up(house)
    for row in house.index.rows():
        yield {"row": repr(row)}


def _caught_up(house: House) -> None:
    """What was answered before this question is in its answer; where nothing runs, nobody would publish what a crash left."""
    if house.serving is not None:
        house.index.catch_up()


def backup(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """How far the backup is that is being made: bytes done, bytes there."""
    done, there = house.backups.progress()
    yield {"done": done, "there": there}


def network_table(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """For whoever loads the kernel's table: which it should be."""
    yield _network(house).table(str(arguments.get("known", "")))


def network_report(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """From whoever loads the kernel's table: how that went, and what the kernel dropped. No row."""
    _network(house).hear(arguments)
    yield from ()


def _network(house: House) -> Network:
    if house.serving is None:
        raise Fault("no keeper runs", hint="`leadglass up`")
    return house.serving.network


QUESTIONS: Mapping[str, Question] = {
    "backup": backup,
    "breach": breach,
    "conflicts": conflicts,
    "device": device,
    "devices": devices,
    "disclosures": disclosures,
    "enrolments": enrolments,
    "events": events,
    "index-rows": index_rows,
    "network-report": network_report,
    "network-table": network_table,
    "policy-explain": explain,
    "revoked": revoked,
    "site": site,
    "status": status,
    "transcript": transcript,
    "versions": versions,
    **NETWORK_QUESTIONS,
    **ERASURE_QUESTIONS,
    **PEOPLE_QUESTIONS,
}


def _described(device: Device) -> dict[str, object]:
    return {
        "name": device.name,
        "zone": device.zone,
        "networks": [str(network) for network in device.networks],
        "ae_titles": list(device.ae_titles),
        "address": device.address,
        "owner": device.owner,
        "maker": device.maker,
        "model": device.model,
        "software": device.software,
        "location": device.location,
        "criticality": device.criticality,
        "end_of_support": device.end_of_support,
    }


def _state(device: Device, certificates: list[Any], containment: Any) -> str:
    if device.name in containment.disabled or not device.enabled:
        return "disabled"
    if device.zone in containment.zones:
        return "contained"
    if certificates and all(each.state in ("revoked", "superseded") for each in certificates):
        return "revoked"
    if certificates and all(each.not_after_ns < time.time_ns() for each in certificates if each.state != "revoked"):
        return "expired"
    return "enrolled"


def _expiring(house: House) -> Iterator[Mapping[str, Any]]:
    until = time.time_ns() + house.site().limits.certificate_warning_days * 86_400 * 1_000_000_000
    for each in house.register.certificates():
        if each.state in ("issued", "active") and each.not_after_ns < until:
            yield {"device": each.device, "not_after": _iso(each.not_after_ns)}


def _serving(house: House) -> Mapping[str, object]:
    """Of a running site: who serves by which generation, and how far behind the journal its consumers are."""
    if house.serving is None:
        return {"workers": [], "open_associations": 0, "journal_lag_seconds": {}, "metrics": "", "network": {}}
    workers = house.serving.workers()
    return {
        "workers": [
            {"pid": each.pid, "open_associations": each.connections, "generation": each.generation} for each in workers
        ],
        "open_associations": sum(each.connections for each in workers),
        "journal_lag_seconds": house.serving.lag_seconds(),
        "metrics": house.serving.metrics,
        "network": house.serving.network.row(),
    }


def _days_until_full(house: House, free_bytes: int) -> int | None:
    """At the rate of the last seven days; None where nothing was stored in them."""
    stored = house.index.bytes_since(time.time_ns() - 7 * 86_400 * 1_000_000_000)
    return int(free_bytes / (stored / 7)) if stored else None


def _lost(house: House) -> Iterator[str]:
    try:
        yield from (f"{lost.fault}; {lost.fault.hint}" for lost in house.ends.lost())
    except JournalFault as fault:
        yield f"{fault}; {fault.hint}"


def _amber(house: House) -> Iterator[str]:
    """What is weaker than it could be, in words an operator can act on."""
    site = house.site()
    if site.key_beside_data:
        yield "the site key lies on the same file system as the data: name one elsewhere in [site] key"
    ends = web_certificate_ends(site)
    warning = dt.timedelta(days=site.limits.certificate_warning_days)
    if (
        ends is not None
        and site.doors.web is not None
        and site.doors.web.certificate
        and ends - dt.datetime.now(dt.UTC) < warning
    ):
        yield f"the web door's certificate ends on {ends:%Y-%m-%d}: `leadglass door csr`, then `leadglass door install`"
    yield from _lost(house)
    yield from amber_people(house)
    yield from amber_erasures(house)
    if house.serving is not None:
        yield from house.serving.broken()
        yield from house.serving.silent()
        yield from house.serving.network.amber()
    if house.containment_unreadable():
        yield "the containment state cannot be read: the last known one holds, and only what stores is let in"


def _iso(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.UTC).isoformat(timespec="seconds") if nanoseconds else ""
