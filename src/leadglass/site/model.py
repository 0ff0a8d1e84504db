"""What is this place? The frozen `Site`: everything that `leadglass.toml` and `devices.d/` say, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from leadglass.terms import Action, Device, Role

Network = IPv4Network | IPv6Network
ARCHIVE = "archive"  # the name of Leadglass itself in flows, tests and never rules
DIMSE_SERVICE = "dicom-tls"  # what the DIMSE door speaks; defined without being written
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_-])?")


def name_problem(name: str) -> str:
    """Why this cannot name a device, zone, service, tag or flow; "" where it can. Such a name is safe in a path and in an expression."""
    if not _NAME.fullmatch(name):
        return "1 to 64 letters, digits, dots, dashes or underscores; the first a letter or digit, the last no dot"
    if name == ARCHIVE:
        return f"{ARCHIVE} is the name of Leadglass itself"
    return ""


def plain_address(address: str) -> IPv4Address | IPv6Address | None:
    """An address without its scope, an IPv4 one as such; None for none."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def within(inner: Network, outer: Network) -> bool:
    """True where every address of `inner` is one of `outer`."""
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network) and inner.subnet_of(outer)


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound of the site, with its unit in its name; `docs/site-file.md` says what each protects."""

    associations_max: int = 1000
    associations_per_address_max: int = 64
    associations_per_zone_max: int = 600
    associations_of_strangers_max: int = 64
    handshake_seconds: float = 10.0
    artim_seconds: float = 30.0
    idle_seconds: float = 600.0
    stall_seconds: float = 30.0
    slowest_bytes_per_second: int = 1024
    pdu_length_max_bytes: int = 131_072
    arrival_memory_max_bytes: int = 33_554_432
    instance_length_max_bytes: int = 4_294_967_296
    disk_reserve_bytes: int = 268_435_456
    segment_length_max_bytes: int = 268_435_456
    segment_age_max_seconds: float = 900.0
    claim_wait_seconds: float = 5.0
    certificate_warning_days: int = 30
    web_connections_max: int = 512
    web_connections_per_address_max: int = 64
    exported_patients_per_day_max: int = 20
    exported_patients_of_all_per_day_max: int = 200
    erased_studies_per_day_max: int = 20
    erasure_delay_hours: int = 72


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long people's sign-ins last. `provider_hours`: of one that a provider vouched for, which may have ended the account meanwhile."""

    idle_lock_minutes: int = 10
    session_hours: int = 12
    provider_hours: int = 8
    step_up_seconds: int = 300


@dataclass(frozen=True, slots=True)
class DimseDoor:
    """`listen` of [doors.dimse], and how many processes serve it."""

    host: str
    port: int
    ae_title: str = "LEADGLASS"
    workers: int = 2
    tls_minimum: str = "1.2"
    private_sop_classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricsDoor:
    """Health and Prometheus metrics, loopback only."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class WebDoor:
    """`listen` of [doors.web] (HTTPS). `certificate`: a PEM file with key and chain, "" for one of the site's own serving CA."""

    host: str
    port: int
    workers: int = 1
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class ConsoleDoor:
    """The console without TLS, on loopback, of a loopback site alone: browsers count `http://localhost` as secure."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Doors:
    dimse: DimseDoor
    metrics: MetricsDoor | None = None
    web: WebDoor | None = None
    console: ConsoleDoor | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """Where notices go by mail. `tls_at_once`: smtps; else STARTTLS is demanded. `password`: a reference. `authority`: PEM file, "" for public CAs."""

    host: str
    port: int
    tls_at_once: bool
    sender: str
    to: tuple[str, ...]
    user: str = ""
    password: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where notices are posted. `secret`: reference of the key that signs them, "" where none does."""

    url: str
    secret: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Notices:
    """Who is told at once of what cannot wait."""

    mail: Mail | None = None
    webhook: Webhook | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a person wrote it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Zone:
    """Networks that belong together. `isolated`: its members do not see each other. `interface`: the router's way to it, "" where not said."""

    name: str
    networks: tuple[Network, ...]
    tags: frozenset[str] = frozenset()
    isolated: bool = False
    interface: str = ""

    def holds(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class Service:
    """A transport protocol and its port."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class OnDemand:
    """A flow that is closed until somebody with the role approves it, for at most so long."""

    approve: str
    max_seconds: int
    record: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """Who may say what to whom. `sources`, `targets`: zones, devices, `#tags` or `archive`. `may`: what the doors allow.

    `reserved`: words of `may` that have no effect yet. `sop_classes`, `destinations`: None where the flow is not confined.
    """

    id: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    service: str
    auth: str
    may: frozenset[Action]
    why: str
    origin: Origin = field(compare=False)
    reserved: frozenset[str] = frozenset()
    sop_classes: frozenset[str] | None = None
    destinations: frozenset[str] | None = None
    require_user_identity: bool = False
    on_demand: OnDemand | None = None


@dataclass(frozen=True, slots=True)
class Test:
    """A promise in the file: `accept` and `deny` hold expressions such as `archive:store CTImageStorage`."""

    who: str
    accept: tuple[str, ...]
    deny: tuple[str, ...]
    why: str
    origin: Origin = field(compare=False)


@dataclass(frozen=True, slots=True)
class Never:
    """No chain of flows leads from any of these to any of those."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    origin: Origin = field(compare=False)


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """An OpenID provider that vouches for people. `client_secret`: a reference. `roles`: group → role. `authority`: PEM file, "": the system's.

    `acr`: any one of them must be said. `amr`: any one of them, `pwd+otp` where several must be said together. Both where both are given.
    `max_age_seconds`: a sign-in there that is older does not count here.
    """

    name: str
    issuer: str
    client_id: str
    client_secret: str
    acr: frozenset[str]
    amr: frozenset[str]
    roles: Mapping[str, Role]
    label: str = ""
    scopes: tuple[str, ...] = ("profile", "email")
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    authority: str = ""
    max_age_seconds: int = 28_800
    end_session: bool = True


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """An LDAP directory that vouches for people. `password`: a reference. `roles`: distinguished name of a group → role.

    `tls_first`: ldaps; else StartTLS is the first word on the connection. `nested`: groups of groups count (a matching rule of AD's).
    """

    name: str
    host: str
    port: int
    tls_first: bool
    base: str
    bind: str
    password: str
    roles: Mapping[str, Role]
    label: str = ""
    user: str = "sAMAccountName"
    nested: bool = True
    authority: str = ""
    poll_seconds: int = 60


CONFIRM_SECONDS, CONFIRM_SECONDS_MIN, CONFIRM_SECONDS_MAX = 60, 5, 3600


@dataclass(frozen=True, slots=True)
class Firewall:
    """What the kernel must know. `addresses`: those of archive. `forwards`: its host routes between the zones. `confirm_seconds`: until a table that
    closes something is taken back, unless confirmed."""

    addresses: tuple[Network, ...]
    forwards: bool = False
    confirm_seconds: int = CONFIRM_SECONDS


@dataclass(frozen=True, slots=True)
class Site:
    """The whole place. `key`: reference of the site key. `operators`: uids or user names that may change the site.

    `enroller`: user name or uid of who signs what people ask for at the console, `filterer`: of who loads the kernel's table; "" for nobody.
    `digest`: of the proven files it was read from, "" where they were not proven.
    `backups`: absolute paths that people may have backups made into.
    """

    path: Path
    name: str
    loopback: bool
    objects: str
    index: str
    key: str
    doors: Doors
    zones: Mapping[str, Zone]
    devices: Mapping[str, Device]
    services: Mapping[str, Service]
    flows: tuple[Flow, ...]
    tests: tuple[Test, ...]
    never: tuple[Never, ...]
    limits: Limits
    sessions: SessionLimits = SessionLimits()
    operators: tuple[str, ...] = ()
    roles: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    notices: Notices = Notices()
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    directories: Mapping[str, DirectorySettings] = field(default_factory=dict)
    firewall: Firewall | None = None
    enroller: str = ""
    filterer: str = ""
    digest: str = field(default="", compare=False)
    backups: tuple[str, ...] = ()

    def zone_of(self, address: str) -> str:
        """The zone whose networks hold an address, "" where none does."""
        found = plain_address(address)
        return next((zone.name for zone in self.zones.values() if found and zone.holds(found)), "")

    @property
    def key_beside_data(self) -> bool:
        """True where whoever takes the disk has the key too."""
        scheme, _, rest = self.key.partition(":")
        if scheme != "file":
            return False
        path = (self.path / rest).resolve()
        try:
            return path.stat().st_dev == self.path.stat().st_dev
        except OSError:
            return True
