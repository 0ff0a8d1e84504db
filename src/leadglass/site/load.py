"""From files to a frozen `Site`. All problems are found at once, and each names file, line, and how to mend it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from leadglass.site.document import Document, Reader, SiteInvalid, Values, many, nearest
from leadglass.site.model import (
    ARCHIVE,
    DimseDoor,
    Doors,
    Flow,
    Limits,
    MetricsDoor,
    Network,
    Never,
    OnDemand,
    Origin,
    Service,
    Site,
    Test,
    Zone,
    within,
)
from leadglass.site.schema import KEYS
from leadglass.terms import Action, Device
from leadglass.wire.uids import storage_class_of, uid_problem

SITE_FILE = "leadglass.toml"
DEVICES_DIRECTORY = "devices.d"
DEVICES_MAX = 10_000
RESERVED_ACTIONS = frozenset({"worklist", "mpps"})
AUTHS = frozenset({"mtls", "mfa", "mtls+mfa", "none"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PIN = re.compile(r"(sha256|spki-sha256):[0-9a-f]{64}")
_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def load(site_dir: Path) -> Site:
    """The working copy: what a person wrote and what commands added. Raises SiteInvalid."""
    return load_from(site_dir, site_dir)


def load_from(directory: Path, site_dir: Path) -> Site:
    """The files in `directory`, for the site at `site_dir` (a proven copy lies elsewhere)."""
    reader = Reader(directory)
    main = reader.read(SITE_FILE)
    added = [
        reader.read(f"{DEVICES_DIRECTORY}/{path.name}")
        for path in sorted((directory / DEVICES_DIRECTORY).glob("*.toml"))
    ]
    if main is None:
        raise SiteInvalid(tuple(reader.problems))
    site = _Builder(reader, main).build([each for each in added if each is not None], site_dir)
    if reader.problems:
        raise SiteInvalid(tuple(sorted(reader.problems, key=lambda each: (each.file, each.line))))
    return site


class _Builder(Values):
    def build(self, added: list[Document], site_dir: Path) -> Site:
        self.unknown_keys(self.main, set(KEYS))
        top = self.main.content
        if top.get("schema") != 1:
            self.bad("schema", f"schema is {top.get('schema')!r}", "this program reads schema = 1")
        zones = dict(self._zones())
        services = dict(self._services())
        devices = dict(self._devices(self.main, zones))
        flows = list(self._flows(self.main))
        for document in added:
            self.document = document
            self.unknown_keys(document, {key for key in KEYS if key.startswith(("devices.", "flows."))})
            for name, device in self._devices(document, zones):
                if name in devices:
                    self.bad(f"devices.{name}", f"device {name} is there twice", "keep one of them")
                devices[name] = device
            flows += self._flows(document)
        self.document = self.main
        if len(devices) > DEVICES_MAX:
            self.bad("devices", f"more than {DEVICES_MAX} devices", "split the site")
        site = Site(
            path=site_dir,
            name=self.text("site.name", "localhost"),
            loopback=self.flag("site.loopback"),
            objects=self.text("site.objects", "file:objects"),
            index=self.text("site.index", "sqlite:index/index.db"),
            key=self._key(),
            doors=self._doors(),
            zones=zones,
            devices=devices,
            services=services,
            flows=tuple(flows),
            tests=tuple(self._tests()),
            never=tuple(self._never()),
            limits=self._limits(),
            operators=self.words("site.operators"),
            roles=top.get("roles", {}) if isinstance(top.get("roles", {}), dict) else {},
        )
        self._cross(site)
        return site

    # ---- parts

    def _key(self) -> str:
        reference = self.text("site.key", "file:keys/site.key")
        if not reference.startswith(("file:", "credential:")):
            self.bad("site.key", "a reference is needed, never the key itself", "file:PATH or credential:NAME")
        return reference

    def _doors(self) -> Doors:
        host, port = self.listen("doors.dimse.listen", "127.0.0.1:2762")
        workers = self.number("doors.dimse.workers", 2)
        if not 1 <= workers <= 16:
            self.bad("doors.dimse.workers", f"{workers} workers", "between 1 and 16; two are enough for most")
        minimum = self.text("doors.dimse.tls_minimum", "1.2")
        if minimum not in ("1.2", "1.3"):
            self.bad("doors.dimse.tls_minimum", f"{minimum!r} is no TLS version to be had here", "1.2 or 1.3")
        title = self.text("doors.dimse.ae_title", "LEADGLASS")
        self.ae_title("doors.dimse.ae_title", title)
        private = self.words("doors.dimse.private_sop_classes")
        for uid in private:
            if problem := uid_problem(uid):
                self.bad("doors.dimse.private_sop_classes", f"{uid!r}: {problem}", "name UIDs")
        dimse = DimseDoor(host, port, title, workers, minimum, private)
        if self.get("doors.metrics.listen") is None:
            return Doors(dimse)
        metrics = MetricsDoor(*self.listen("doors.metrics.listen", "127.0.0.1:9276"))
        try:
            loopback = ipaddress.ip_address(metrics.host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            self.bad(
                "doors.metrics.listen", f"{metrics.host} is not loopback", "metrics have no identity: 127.0.0.1:PORT"
            )
        return Doors(dimse, metrics)

    def _zones(self) -> Iterator[tuple[str, Zone]]:
        taken: list[tuple[str, Network]] = []
        for name, table in self.tables("zones"):
            networks = tuple(self.networks(f"zones.{name}.networks", table.get("networks", [])))
            if not networks:
                self.bad(f"zones.{name}", f"zone {name} has no networks", 'networks = ["10.20.1.0/24"]')
            for network in networks:
                for other, known in taken:
                    if known.version == network.version and known.overlaps(network):
                        self.bad(
                            f"zones.{name}.networks",
                            f"{network} of {name} overlaps {known} of {other}",
                            "zones do not overlap: split one",
                        )
            taken += [(name, network) for network in networks]
            yield (
                name,
                Zone(name, networks, frozenset(self.words(f"zones.{name}.tags")), self.flag(f"zones.{name}.isolated")),
            )

    def _services(self) -> Iterator[tuple[str, Service]]:
        yield "dicom-tls", Service("dicom-tls", "tcp", self.listen("doors.dimse.listen", "127.0.0.1:2762")[1])
        for name, text in self.table("services").items():
            found = re.fullmatch(r"(tcp|udp)/(\d{1,5})", str(text))
            if found is None or not 0 < int(found[2]) < 65536:
                self.bad(f"services.{name}", f"{text!r} is no service", "protocol/port, such as tcp/2762")
                continue
            yield str(name), Service(str(name), found[1], int(found[2]))

    def _devices(self, document: Document, zones: Mapping[str, Zone]) -> Iterator[tuple[str, Device]]:
        self.document = document
        for name, table in self.tables("devices"):
            where = f"devices.{name}"
            zone = self.text(f"{where}.zone", "")
            networks = tuple(self.networks(f"{where}.network", many(table.get("network", []))))
            if zone not in zones:
                self.bad(
                    f"{where}.zone",
                    f"device {name} is in no known zone: {zone!r}",
                    f"one of {', '.join(zones) or 'none yet'}",
                )
            for network in networks if zone in zones else ():
                if not any(within(network, known) for known in zones[zone].networks):
                    self.bad(
                        f"{where}.network", f"{network} is not inside zone {zone}", "widen the zone or move the device"
                    )
            if not networks:
                self.bad(where, f"device {name} has no network", 'network = "10.20.1.11/32"')
            titles = self.words(f"{where}.ae_titles")
            for title in titles:
                self.ae_title(f"{where}.ae_titles", title)
            pins = tuple(str(pin) for pin in many(table.get("certificate", [])))
            for pin in pins:
                if not _PIN.fullmatch(pin):
                    self.bad(
                        f"{where}.certificate", f"{pin[:40]!r} is no pin", "sha256:HEX or spki-sha256:HEX, 64 digits"
                    )
            address = self.text(f"{where}.address", "")
            if address and not re.fullmatch(r"\S+:\d{1,5}", address):
                self.bad(f"{where}.address", f"{address!r} is no address", "HOST:PORT")
            record = {key: self.text(f"{where}.{key}", "") for key in _RECORD}
            yield name, Device(
                name, zone, networks, titles, pins, address, self.flag(f"{where}.enabled", True), weak=self.words(f"{where}.weak"), **record
            )  # fmt: skip

    def _flows(self, document: Document) -> Iterator[Flow]:
        self.document = document
        for number, table in enumerate(self.arrays("flows")):
            where = f"flows.{number}"
            words = [str(word) for word in many(table.get("may", []))]
            known = {str(action) for action in Action}
            for word in words:
                if word not in known | RESERVED_ACTIONS:
                    self.bad(f"{where}.may", f"nobody may {word!r}", nearest(word, known | RESERVED_ACTIONS))
            if not str(table.get("why", "")).strip():
                self.bad(where, f"flow {table.get('id', number)!r} has no why", 'why = "CT acquires and stores"')
            auth = str(table.get("auth", "mtls"))
            if auth not in AUTHS:
                self.bad(f"{where}.auth", f"auth is {auth!r}", "mtls, mfa, mtls+mfa or none")
            classes = [self._sop_class(where, str(word)) for word in many(table.get("sop_classes", []))]
            yield Flow(
                id=str(table.get("id", "")),
                sources=tuple(map(str, many(table.get("from", [])))),
                targets=tuple(map(str, many(table.get("to", [])))),
                service=str(table.get("service", "")),
                auth=auth,
                may=frozenset(Action(word) for word in words if word in known),
                why=str(table.get("why", "")),
                origin=Origin(document.file, document.line(where)),
                reserved=frozenset(words) & RESERVED_ACTIONS,
                sop_classes=frozenset(classes) if "sop_classes" in table else None,
                destinations=frozenset(map(str, many(table["destinations"]))) if "destinations" in table else None,
                require_user_identity=table.get("require_user_identity") is True,
                on_demand=self._on_demand(where, table.get("on_demand")),
            )

    def _sop_class(self, where: str, word: str) -> str:
        uid = storage_class_of(word)
        if uid is None and re.fullmatch(r"[0-9.]{3,64}", word):
            uid = word  # a private one
        if uid is None:
            self.bad(
                f"{where}.sop_classes",
                f"{word!r} is no Storage SOP class",
                "a keyword such as CTImageStorage, or a UID",
            )
        return uid or word

    def _on_demand(self, where: str, table: object) -> OnDemand | None:
        if table is None:
            return None
        if isinstance(table, dict):
            found = _DURATION.fullmatch(str(table.get("max", "")))
            if found and table.get("approve") and set(table) <= {"approve", "max", "record"}:
                return OnDemand(str(table["approve"]), int(found[1]) * _SECONDS[found[2]], table.get("record") is True)
        self.bad(f"{where}.on_demand", "not understood", 'on_demand = { approve = "ROLE", max = "4h", record = true }')
        return None

    def _tests(self) -> Iterator[Test]:
        for number, table in enumerate(self.arrays("tests")):
            accept, deny = (tuple(map(str, many(table.get(key, [])))) for key in ("accept", "deny"))
            origin = Origin(self.main.file, self.main.line(f"tests.{number}"))
            yield Test(str(table.get("who", "")), accept, deny, str(table.get("why", "")), origin)

    def _never(self) -> Iterator[Never]:
        for number, table in enumerate(self.arrays("never")):
            sources, targets = (tuple(map(str, many(table.get(key, [])))) for key in ("from", "to"))
            yield Never(sources, targets, Origin(self.main.file, self.main.line(f"never.{number}")))

    def _limits(self) -> Limits:
        values: dict[str, Any] = {}
        for known in fields(Limits):
            value = self.get(f"limits.{known.name}")
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                self.bad(f"limits.{known.name}", f"{value!r} is no limit", "a number above zero")
                continue
            values[known.name] = float(value) if known.type == "float" else int(value)
        return Limits(**values)

    # ---- what must fit together

    def _cross(self, site: Site) -> None:
        tags = {tag for zone in site.zones.values() for tag in zone.tags}
        members = set(site.zones) | set(site.devices) | {ARCHIVE} | {f"#{tag}" for tag in tags}
        seen: set[str] = set()
        for flow in site.flows:
            if not flow.id or flow.id in seen:
                self.at(
                    flow.origin, f"the flow id {flow.id!r} is missing or there twice", "each flow has an id of its own"
                )
            seen.add(flow.id)
            for name in (*flow.sources, *flow.targets, *(flow.destinations or ())):
                if name not in members:
                    self.at(flow.origin, f"flow {flow.id} names the unknown {name!r}", nearest(name, members))
            if flow.service not in site.services:
                self.at(
                    flow.origin,
                    f"flow {flow.id} uses the unknown service {flow.service!r}",
                    nearest(flow.service, set(site.services)),
                )
            if not flow.sources or not flow.targets:
                self.at(flow.origin, f"flow {flow.id} leads from or to nobody", "name from and to")
            if flow.auth == "none" and flow.may:
                self.at(flow.origin, f"flow {flow.id} allows DIMSE without identity", 'auth = "mtls"')
        for test in site.tests:
            if test.who not in site.devices and test.who not in site.zones:
                self.at(test.origin, f"a test is about the unknown {test.who!r}", nearest(test.who, set(site.devices)))
        for rule in site.never:
            for name in (*rule.sources, *rule.targets):
                if name not in members:
                    self.at(rule.origin, f"a never rule names the unknown {name!r}", nearest(name, members))
        self._twins(site)

    def _twins(self, site: Site) -> None:
        pins: dict[str, str] = {}
        for name, device in site.devices.items():
            if not _NAME.fullmatch(name) or name in site.zones or name == ARCHIVE:
                self.bad(
                    f"devices.{name}", f"{name!r} is no name for a device", "letters, digits, dot, dash; no zone's name"
                )
            for pin in device.certificates:
                if pin in pins and pins[pin] != name:
                    self.bad(
                        f"devices.{name}.certificate",
                        f"{pins[pin]} and {name} pin the same certificate",
                        "a certificate is one device",
                    )
                pins[pin] = name


_RECORD = ("owner", "maker", "model", "software", "location", "criticality", "end_of_support")
