"""From files to a frozen `Site`. All problems are found at once, and each names file, line, and how to mend it."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from leadglass.site.document import Document, Reader, SiteInvalid, Values, nearest
from leadglass.site.fitting import Places, misfits
from leadglass.site.model import (
    CONFIRM_SECONDS,
    CONFIRM_SECONDS_MAX,
    CONFIRM_SECONDS_MIN,
    DIMSE_SERVICE,
    ConsoleDoor,
    DimseDoor,
    Doors,
    Firewall,
    Flow,
    Limits,
    Mail,
    MetricsDoor,
    Never,
    Notices,
    OnDemand,
    Service,
    SessionLimits,
    Site,
    Test,
    WebDoor,
    Webhook,
    Zone,
    name_problem,
)
from leadglass.site.schema import DEVICE_KEYS, KEYS, LIMIT_RANGES, RECORD, SESSION_RANGES
from leadglass.site.sources import directories, providers, reference_to_secret
from leadglass.terms import Action, Device, Role
from leadglass.wire.uids import storage_class_of, uid_problem

SITE_FILE = "leadglass.toml"
SP1800_24 = Path(__file__).parent / "sp1800_24"  # the network of the guide's figure 4-2, to be tried and looked at
DEVICES_DIRECTORY = "devices.d"
DEVICES_MAX = 10_000
FLOWS_MAX = 20_000
NETWORKS_MAX = 1_000  # of all zones together
RESERVED_ACTIONS = frozenset({"worklist", "mpps"})
AUTHS = frozenset({"mtls", "mfa", "mtls+mfa", "none"})
_ACTIONS = frozenset(str(action) for action in Action)
_PIN = re.compile(r"(sha256|spki-sha256):[0-9a-f]{64}")
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253}):(\d{1,5})")
_MAIL_SERVER = re.compile(r"(smtps|smtp)://([A-Za-z0-9.-]{1,253}):(\d{1,5})")
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,253}")
_SERVICE = re.compile(r"(tcp|udp)/(\d{1,5})")
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def load(site_dir: Path) -> Site:
    """The working copy: what a person wrote and what commands added. Raises SiteInvalid."""
    return load_from(site_dir, site_dir)


def load_from(directory: Path, site_dir: Path) -> Site:
    """The files in `directory`, for the site at `site_dir` (a proven copy lies elsewhere). Raises SiteInvalid."""
    reader = Reader(directory)
    main = reader.read(SITE_FILE)
    paths = sorted((directory / DEVICES_DIRECTORY).glob("*.toml"))
    if len(paths) > DEVICES_MAX:
        reader.problem(DEVICES_DIRECTORY, 1, f"more than {DEVICES_MAX} device files", "split the site")
    added = [reader.read(f"{DEVICES_DIRECTORY}/{path.name}") for path in paths[:DEVICES_MAX]]
    if main is None:
        raise SiteInvalid(reader.problems())
    site = _Builder(reader, main).build([each for each in added if each is not None], site_dir)
    if problems := reader.problems():
        raise SiteInvalid(problems)
    return site


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _Builder(Values):
    def build(self, added: list[Document], site_dir: Path) -> Site:
        self.unknown_keys(self.main, frozenset(KEYS))
        if self.get("schema") != 1 or self.get("schema") is True:
            self.bad("schema", "schema is not 1", "this program reads schema = 1")
        zones = dict(self._zones())
        services = dict(self._services())
        places = Places(self.main)
        devices = self._every_device(added, zones, places)
        flows = self._every_flow(added, places)
        self.document = self.main
        site = Site(
            path=site_dir,
            name=self._host_name(),
            loopback=self.flag("site.loopback"),
            objects=self._url("site.objects", "file:objects"),
            index=self._url("site.index", "sqlite:index/index.db"),
            key=self._key(),
            doors=self._doors(),
            zones=zones,
            devices=devices,
            services=services,
            flows=flows,
            tests=tuple(self._tests()),
            never=tuple(self._never()),
            limits=Limits(**self._bounded("limits", Limits, LIMIT_RANGES)),
            sessions=SessionLimits(**self._bounded("sessions", SessionLimits, SESSION_RANGES)),
            operators=self.words("site.operators", numbers=True),
            roles=self.table("roles"),
            notices=Notices(self._mail(), self._webhook()),
            enroller=self._enroller(),
            providers=dict(providers(self, self.flag("site.loopback"))),
            directories=dict(directories(self)),
            firewall=self._firewall(),
            filterer=self._filterer(),
            backups=self._backups(),
        )
        for origin, message, mend in misfits(site, places):
            if self.reader.full:
                break
            self.at(origin, message, mend)
        return site

    # ---- the site and its doors

    def _host_name(self) -> str:
        name = self.text("site.name", "localhost")
        if not re.fullmatch(r"[A-Za-z0-9.-]{1,253}", name):
            self.bad("site.name", f"{name[:64]!r} is no host name", "the name that peers call this host by")
        return name

    def _url(self, key: str, default: str) -> str:
        url = self.text(key, default)
        if not re.fullmatch(r"[a-z][a-z0-9+]*:\S*", url):
            self.bad(key, f"{url[:64]!r} is no URL", f"a scheme first, such as {default}")
        return url

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
        if self.flag("site.loopback") and not ipaddress.ip_address(host).is_loopback:
            mend = "127.0.0.1:PORT; or loopback = false, and the site key out of the site directory"
            self.bad("doors.dimse.listen", f"a loopback site listens on {host}", mend)
        dimse = DimseDoor(host, port, title, workers, minimum, private)
        return Doors(dimse, self._metrics_door(), self._web_door(), self._console_door())

    def _metrics_door(self) -> MetricsDoor | None:
        if self.get("doors.metrics.listen") is None:
            return None
        metrics = MetricsDoor(*self.listen("doors.metrics.listen", "127.0.0.1:9276"))
        if not ipaddress.ip_address(metrics.host).is_loopback:
            mend = "metrics have no identity: 127.0.0.1:PORT"
            self.bad("doors.metrics.listen", f"{metrics.host} is not loopback", mend)
        return metrics

    def _web_door(self) -> WebDoor | None:
        """What a site without [doors.web] never had, it goes on without."""
        if not self.table("doors.web"):
            return None
        if self.get("doors.web.listen") is None:
            self.bad("doors.web", "the web door listens nowhere", 'listen = "0.0.0.0:443"')
        host, port = self.listen("doors.web.listen", "127.0.0.1:443")
        workers = self.number("doors.web.workers", 1)
        if not 1 <= workers <= 16:
            self.bad("doors.web.workers", f"{workers} workers", "between 1 and 16; one is enough for most")
        loopback, name = self.flag("site.loopback"), self.text("site.name", "localhost")
        if loopback and not ipaddress.ip_address(host).is_loopback:
            mend = "127.0.0.1:PORT; or loopback = false, and the site key out of the site directory"
            self.bad("doors.web.listen", f"a loopback site listens on {host}", mend)
        if _is_address(name):
            mend = "the host name that browsers open: a passkey belongs to a name, never to an address"
            self.bad("site.name", f"{name} is an address, and the site has a web door", mend)
        certificate = self.text("doors.web.certificate", "")
        return WebDoor(host, port, workers, certificate)

    def _console_door(self) -> ConsoleDoor | None:
        if self.get("doors.console.listen") is None:
            return None
        door = ConsoleDoor(*self.listen("doors.console.listen", "127.0.0.1:0"))
        if not self.flag("site.loopback"):
            mend = "the console without TLS is for loopback sites: remove it, people open [doors.web]"
            self.bad("doors.console.listen", "this is no loopback site", mend)
        if not ipaddress.ip_address(door.host).is_loopback:
            self.bad("doors.console.listen", f"{door.host} is not loopback", "127.0.0.1:PORT: it speaks no TLS")
        if self.get("doors.web.listen") is None:
            self.bad(
                "doors.console", "the console has no web door to stand beside", '[doors.web] listen = "127.0.0.1:0"'
            )
        return door

    def _firewall(self) -> Firewall | None:
        if not self.table("firewall"):
            return None
        addresses = tuple(self.networks("firewall.addresses"))
        if not addresses:
            self.bad("firewall", "the addresses of archive are not said", 'addresses = ["10.20.5.10"]')
        seconds = self.number("firewall.confirm_seconds", CONFIRM_SECONDS)
        if not CONFIRM_SECONDS_MIN <= seconds <= CONFIRM_SECONDS_MAX:
            mend = f"{CONFIRM_SECONDS_MIN} to {CONFIRM_SECONDS_MAX}"
            self.bad("firewall.confirm_seconds", "a time in which nobody can confirm, or all forget to", mend)
        return Firewall(addresses, self.flag("firewall.forwards"), seconds)

    def _zones(self) -> Iterator[tuple[str, Zone]]:
        count = 0
        for name, _ in self.tables("zones"):
            self._name("zones", name)
            networks = tuple(self.networks(f"zones.{name}.networks"))
            if not networks:
                self.bad(f"zones.{name}", f"zone {name} has no networks", 'networks = ["10.20.1.0/24"]')
            count += len(networks)
            if count > NETWORKS_MAX:
                self.bad(f"zones.{name}", f"zones have more than {NETWORKS_MAX} networks", "join neighbouring ones")
                return
            tags = self.words(f"zones.{name}.tags")
            for tag in tags:
                if problem := name_problem(tag):
                    self.bad(
                        f"zones.{name}.tags", f"{tag[:64]!r} is no tag", f"{problem}; the # comes where it is used"
                    )
            interface = self.text(f"zones.{name}.interface", "")
            if interface and not _INTERFACE.fullmatch(interface):
                self.bad(
                    f"zones.{name}.interface", f"{interface[:64]!r} is no interface", "as `ip link` names it: eth1"
                )
            yield name, Zone(name, networks, frozenset(tags), self.flag(f"zones.{name}.isolated"), interface)

    def _services(self) -> Iterator[tuple[str, Service]]:
        yield DIMSE_SERVICE, Service(DIMSE_SERVICE, "tcp", self.listen("doors.dimse.listen", "127.0.0.1:2762")[1])
        for name in self.table("services"):
            self._name("services", name)
            text = self.text(f"services.{name}", "")
            found = _SERVICE.fullmatch(text)
            if found is None or not 0 < int(found[2]) < 65536:
                self.bad(f"services.{name}", f"{text[:64]!r} is no service", "protocol/port, such as tcp/2762")
                continue
            yield name, Service(name, found[1], int(found[2]))

    def _name(self, table: str, name: str) -> None:
        if problem := name_problem(name):
            self.bad(f"{table}.{name}", f"{name[:64]!r} is no name", problem)

    # ---- devices

    def _every_device(self, added: list[Document], zones: Mapping[str, Zone], places: Places) -> dict[str, Device]:
        devices: dict[str, Device] = {}
        for document in (self.main, *added):
            self.document = document
            if document is not self.main:
                self.unknown_keys(document, DEVICE_KEYS)
                self._one_of_its_name()
            for name, device in self._devices(zones):
                if name in devices:
                    self.bad(f"devices.{name}", f"device {name} is there twice", "keep one of them")
                devices[name] = device
                places.devices[name] = document
        if len(devices) > DEVICES_MAX:
            self.reader.problem(SITE_FILE, 1, f"more than {DEVICES_MAX} devices", "split the site")
        return devices

    def _one_of_its_name(self) -> None:
        """A device file serves as soon as a command says so: it holds its device, flows from it, and nothing else."""
        name = self.document.file.removeprefix(f"{DEVICES_DIRECTORY}/").removesuffix(".toml")
        if list(self.table("devices")) != [name]:
            self.bad("devices", f"this file is for the device {name} alone", f"[devices.{name}], or rename the file")
        for where in self.arrays("flows"):
            if self.words(f"{where}.from") != (name,):
                mend = f'from = ["{name}"]; flows from others stand in {SITE_FILE}'
                self.bad(f"{where}.from", f"a flow here leads from {name} alone", mend)

    def _devices(self, zones: Mapping[str, Zone]) -> Iterator[tuple[str, Device]]:
        for name, _ in self.tables("devices"):
            where = f"devices.{name}"
            self._name("devices", name)
            zone = self.text(f"{where}.zone", "")
            if zone not in zones:
                one_of = f"one of {', '.join(zones) or 'none yet'}"
                self.bad(f"{where}.zone", f"device {name} is in no known zone: {zone[:64]!r}", one_of)
            titles = self.words(f"{where}.ae_titles")
            for title in titles:
                self.ae_title(f"{where}.ae_titles", title)
            pins = self.words(f"{where}.certificate")
            for pin in pins:
                if not _PIN.fullmatch(pin):
                    mend = "sha256:HEX or spki-sha256:HEX, 64 small digits"
                    self.bad(f"{where}.certificate", f"{pin[:40]!r} is no pin", mend)
            address = self.text(f"{where}.address", "")
            if address and not ((found := ADDRESS.fullmatch(address)) and 0 < int(found[2]) < 65536):
                self.bad(f"{where}.address", f"{address[:64]!r} is no address", "HOST:PORT")
            networks = tuple(self.networks(f"{where}.network"))
            if not networks:
                self.bad(where, f"device {name} has no network", 'network = "10.20.1.11/32"')
            record = {key: self.text(f"{where}.{key}", "") for key in RECORD}
            enabled, weak = self.flag(f"{where}.enabled", True), self.words(f"{where}.weak")
            yield name, Device(name, zone, networks, titles, pins, address, enabled, weak=weak, **record)

    # ---- flows

    def _every_flow(self, added: list[Document], places: Places) -> tuple[Flow, ...]:
        flows: list[Flow] = []
        for document in (self.main, *added):
            self.document = document
            for where in self.arrays("flows"):
                if len(flows) >= FLOWS_MAX:
                    self.bad(where, f"more than {FLOWS_MAX} flows", "name zones and #tags instead of devices")
                    return tuple(flows)
                flows.append(self._flow(where))
                places.flows.append((document, where))
        return tuple(flows)

    def _flow(self, where: str) -> Flow:
        name, words = self.text(f"{where}.id", ""), self.words(f"{where}.may")
        for word in words:
            if word not in _ACTIONS | RESERVED_ACTIONS:
                self.bad(f"{where}.may", f"nobody may {word[:64]!r}", nearest(word, _ACTIONS | RESERVED_ACTIONS))
        why = self.text(f"{where}.why", "")
        if not why.strip():
            self.bad(where, f"flow {name[:64]!r} has no why", 'why = "CT acquires and stores"')
        auth = self.text(f"{where}.auth", "mtls")
        if auth not in AUTHS:
            self.bad(f"{where}.auth", f"auth is {auth[:64]!r}", "mtls, mfa, mtls+mfa or none")
        classes = frozenset(
            self._sop_class(f"{where}.sop_classes", word) for word in self.words(f"{where}.sop_classes")
        )
        destinations = frozenset(self.words(f"{where}.destinations"))
        return Flow(
            id=name,
            sources=self.words(f"{where}.from"),
            targets=self.words(f"{where}.to"),
            service=self.text(f"{where}.service", ""),
            auth=auth,
            may=frozenset(Action(word) for word in words if word in _ACTIONS),
            why=why,
            origin=self.document.origin(where),
            reserved=frozenset(words) & RESERVED_ACTIONS,
            sop_classes=None if self.get(f"{where}.sop_classes") is None else classes,
            destinations=None if self.get(f"{where}.destinations") is None else destinations,
            require_user_identity=self.flag(f"{where}.require_user_identity"),
            on_demand=self._on_demand(f"{where}.on_demand"),
        )

    def _sop_class(self, where: str, word: str) -> str:
        uid = storage_class_of(word)
        if uid is None and not uid_problem(word):
            uid = word  # a private one
        if uid is None:
            mend = "a keyword such as CTImageStorage, or a UID"
            self.bad(where, f"{word[:64]!r} is no Storage SOP class", mend)
        return uid or word

    def _on_demand(self, where: str) -> OnDemand | None:
        if self.get(where) is None:
            return None
        table = self.table(where)
        found = _DURATION.fullmatch(self.text(f"{where}.max", ""))
        approve, record = self.text(f"{where}.approve", ""), self.flag(f"{where}.record", default=True)
        if found is None or not approve or not set(table) <= {"approve", "max", "record"}:
            self.bad(where, "not understood", 'on_demand = { approve = "ROLE", max = "4h", record = true }')
        elif approve not in tuple(Role):
            self.bad(where, f"{approve[:64]!r} is no role: nobody could approve it", f"one of {', '.join(Role)}")
        seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
        return OnDemand(approve, seconds, record)

    # ---- promises and limits

    def _tests(self) -> Iterator[Test]:
        for where in self.arrays("tests"):
            accept, deny = self.words(f"{where}.accept"), self.words(f"{where}.deny")
            who, why = self.text(f"{where}.who", ""), self.text(f"{where}.why", "")
            if not accept and not deny:
                self.bad(where, f"a test about {who[:64]!r} promises nothing", 'deny = ["archive:find"]')
            yield Test(who, accept, deny, why, self.document.origin(where))

    def _never(self) -> Iterator[Never]:
        for where in self.arrays("never"):
            sources, targets = self.words(f"{where}.from"), self.words(f"{where}.to")
            if not sources or not targets:
                self.bad(where, "a never rule leads from or to nobody", "name from and to")
            yield Never(sources, targets, self.document.origin(where))

    # ---- who signs for the console

    def _enroller(self) -> str:
        named = self.words("enrolment.user", numbers=True)
        if self.get("enrolment") is None:
            return ""
        if len(named) != 1 or not named[0] or named[0] in ("0", "root"):
            mend = 'user = "leadglass-enroll": one user of its own, neither root nor the site\'s'
            self.bad("enrolment.user", "no user is named who signs enrolments", mend)
            return ""
        if named[0] in self.words("site.operators", numbers=True):
            mend = "take it out of [site] operators: whoever holds the device CA's key changes nothing else"
            self.bad("enrolment.user", f"{named[0][:64]} signs enrolments and is an operator too", mend)
        return named[0]

    def _backups(self) -> tuple[str, ...]:
        named = self.words("backup.directories")
        for each in named:
            if not each.startswith("/") or ".." in each.split("/"):
                self.bad("backup.directories", f"{each[:64]!r} is no absolute path", "such as /mnt/backup")
        return named

    def _filterer(self) -> str:
        named = self.words("firewall.user", numbers=True)
        if self.get("firewall.user") is None:
            return ""
        others = (*self.words("site.operators", numbers=True), *self.words("enrolment.user", numbers=True))
        if len(named) != 1 or not named[0] or named[0] in ("0", "root") or named[0] in others:
            mend = 'user = "leadglass-firewall": one user of its own: neither root, nor an operator, nor who signs enrolments'
            self.bad("firewall.user", "who loads the kernel's table is nobody of their own", mend)
            return ""
        return named[0]

    # ---- who is told

    def _mail(self) -> Mail | None:
        where = "notices.mail"
        if self.get(where) is None:
            return None
        found = _MAIL_SERVER.fullmatch(self.text(f"{where}.server", ""))
        if found is None or not 0 < int(found[3]) < 65536:
            mend = "smtps://HOST:PORT, or smtp://HOST:PORT for STARTTLS"
            self.bad(f"{where}.server", "no mail server that speaks TLS is named", mend)
            return None
        sender, to = self.text(f"{where}.from", ""), self.words(f"{where}.to")
        for address in (sender, *(to or ("",))):
            if not _MAIL_ADDRESS.fullmatch(address):
                self.bad(where, f"{address[:64]!r} is no mail address", 'from = "...", to = ["name@hospital.example"]')
        password = reference_to_secret(self, where, "password") if self.get(f"{where}.password") else ""
        authority = self.text(f"{where}.authority", "")
        user = self.text(f"{where}.user", "")
        return Mail(found[2], int(found[3]), found[1] == "smtps", sender, to, user, password, authority)

    def _webhook(self) -> Webhook | None:
        where = "notices.webhook"
        if self.get(where) is None:
            return None
        url = self.text(f"{where}.url", "")
        if not re.fullmatch(r"https://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?", url):
            self.bad(
                f"{where}.url", f"{url[:64]!r} is no https address", "notices leave over TLS only: https://HOST/PATH"
            )
        secret = reference_to_secret(self, where, "secret") if self.get(f"{where}.secret") else ""
        return Webhook(url, secret, self.text(f"{where}.authority", ""))

    def _bounded(
        self, table: str, kind: type[Limits | SessionLimits], ranges: Mapping[str, tuple[float, float]]
    ) -> dict[str, Any]:
        """Of a table of numbers those that are given and within their bounds."""
        values: dict[str, int | float] = {}
        for known in fields(kind):
            key = f"{table}.{known.name}"
            value = self.get(key)
            low, high = ranges[known.name]
            if value is None:
                continue
            whole = known.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or math.isnan(value):
                self.bad(key, f"{key} is no limit", "a whole number" if whole else "a number")
            elif not low <= value <= high:
                self.bad(key, f"{key} is no limit: {value}", f"between {low:g} and {high:g}")
            else:
                values[known.name] = value if whole else float(value)
        return values
