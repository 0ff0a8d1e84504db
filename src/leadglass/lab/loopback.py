"""The lab without root: the same site file on loopback networks of this machine, where the doors alone enforce it. It says what that cannot show.

Every host has an address of its own, `127.` in the place of the first octet; devices that speak DIMSE are enrolled and have certificates. What the
doors should let in is found by the names in the site file alone; the doors' own decision plays no part in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from leadglass.lab.corpus import Image
from leadglass.lab.network import Host, planned
from leadglass.lab.peers import (  # fmt: skip
    NATIVE,
    Identity,
    Session,
    TurnedAway,
    associated,
    committing,
    echoing,
    getting,
    querying,
    storing,
)
from leadglass.lab.site import READY_SECONDS, Enrolled, LabFailed, LabSite, free_port
from leadglass.policy.firewall.truth import allowed
from leadglass.policy.flows import zones_of
from leadglass.site.draft import Rewrite, draft
from leadglass.site.fitting import web_services
from leadglass.site.load import load
from leadglass.site.model import ARCHIVE, DIMSE_SERVICE, Flow, Network, Site
from leadglass.site.write import texts
from leadglass.terms import Action
from leadglass.wire import tags, uids
from leadglass.wire.elements import DataSet, Element, encode
from leadglass.wire.negotiation import RequestedContext

NOT_PERMITTED = 0x0124  # PS3.7 C.5.22
STOP_SECONDS, WEB_SECONDS = 30.0, 10.0
SAID, PID = Path("lab") / "up.out", Path("lab") / "up.pid"
ALIVE = "whether it is alive"
STORED, ELSE = "CTImageStorage", "RTPlanStorage"  # what is sent, and what most devices never make
CANNOT_SHOW = (
    "whether a kernel lets packets through: on loopback everybody reaches every port, and only the doors say no",
    "what devices say to each other: nothing of ours stands between them",
    "UDP, fragments and false source addresses, isolated zones and switches, IPv6 networks",
    "services that no door of ours speaks, and flows on demand in the kernel",
    "people: who signs in, leases a workstation or breaks the glass (`make demo` does)",
)

Address = str


@dataclass(frozen=True, slots=True)
class Knock:
    """One thing that a host tries at a door. `how`: "" as itself; else in whose place. `expected`: that it is let in and may."""

    host: str
    door: str
    what: str
    how: str
    expected: bool

    def __str__(self) -> str:
        return f"{self.host}{f' {self.how}' if self.how else ''}: {self.what} at the {self.door} door"


@dataclass(frozen=True, slots=True)
class Knocked:
    """What was found. `mismatches`: a knock and whether it was let in."""

    probes: int
    open: int
    mismatches: tuple[tuple[Knock, bool], ...]
    seconds: float


# ---- the site


def mapped(network: Network) -> IPv4Network | None:
    """On loopback; None for what has no place there."""
    if not isinstance(network, IPv4Network) or network.prefixlen < 9:
        return None
    return IPv4Network((int(network.network_address) & 0x00FFFFFF | 127 << 24, network.prefixlen))


class Loopback:
    """A site directory with the lab in it. `site`: the file that it was made of; `own`: as it is on loopback, once it was made."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site, self.lab = site, LabSite(directory)
        self.hosts = [each for each in planned(site, "").hosts if each.address(4) is not None]

    def make(self) -> None:
        """Raises LabFailed."""
        site, lab = self.site, self.lab
        at = self.address(ARCHIVE)
        lab.init()
        head = (lab.directory / "leadglass.toml").read_text(encoding="utf-8").partition("[zones.loopback]")[0]
        head = re.sub(r'(\[doors\.dimse\]\nlisten = )".*"', rf'\1"{at}:{free_port(at, 2762)}"', head)
        web = free_port(at)
        head = re.sub(r'(\[doors\.web\]\nlisten = )".*"', rf'\1"{at}:{web}"', head)
        base = head + "\n".join(self._base(web))
        lab.write(base)
        speakers = [
            each for each in site.devices.values() if each.ae_titles and each.name in {host.name for host in self.hosts}
        ]
        for device in speakers:
            lab.enroll(Enrolled(device.name, self.address(device.name), "echo", "it is one of the lab"))
        known = load(lab.directory)
        files, left = draft(texts(lab.directory), known, [Rewrite(flow.id, ()) for flow in known.flows])
        if left:
            raise LabFailed("what `device enroll` wrote is not understood")
        for name, text in files.items():
            (lab.directory / name).write_text(text, encoding="utf-8")
        others = [each for each in site.devices.values() if each not in speakers]
        devices = [f'[devices.{each.name}]\nzone = {json.dumps(each.zone)}\nnetwork = {json.dumps(self._networks(each.networks))}\n' for each in others if self._networks(each.networks)]  # fmt: skip
        lab.write("\n".join([base, *devices, *map(_flow_text, site.flows)]))

    def _base(self, web: int) -> Iterator[str]:
        site = self.site
        yield f'[firewall]\naddresses = ["{self.address(ARCHIVE)}/32"]\n'
        yield "[services]"
        door = site.doors.web
        for service in site.services.values():
            if service.name != DIMSE_SERVICE:
                own = door is not None and (service.protocol, service.port) == ("tcp", door.port)
                yield f'{service.name} = "{service.protocol}/{web if own else service.port}"'
        for zone in site.zones.values():
            tags = f"\ntags = {json.dumps(sorted(zone.tags))}" if zone.tags else ""
            isolated = "\nisolated = true" if zone.isolated else ""
            yield f"\n[zones.{zone.name}]\nnetworks = {json.dumps(self._networks(zone.networks))}{tags}{isolated}"
        yield ""

    def _networks(self, networks: Sequence[Network]) -> list[str]:
        return [str(found) for each in networks if (found := mapped(each)) is not None]

    def address(self, name: str) -> Address:
        """Raises LabFailed for a host that has no place on loopback."""
        host = next((each for each in self.hosts if each.name == name), None)
        found = str(host.address(4)) if host is not None else ""
        if not found:
            raise LabFailed(f"{name} has no IPv4 address of its own: it has no place on loopback")
        return re.sub(r"^\d+", "127", found)

    def identity(self, host: Host, *, source: str = "", ae_title: str = "", certificate: bool = True) -> Identity:
        """As the host, or in somebody's place. Who has no stick has no certificate."""
        address = self.address(source or host.name)
        stick = self.lab.sticks / host.name
        if certificate and self.lab.has_stick(host.name) and not host.stranger:
            return Identity(ae_title or host.name, address, stick)
        return Identity(ae_title or "STRANGER", address, None, self.anchors)

    def stick(self, name: str) -> str:
        """Where a device's certificate lies, "" for who has none."""
        return str(self.lab.sticks / name) if self.lab.has_stick(name) else ""

    @property
    def anchors(self) -> Path:
        """Whom a stranger believes: it wants to hear how it is refused."""
        return next(iter(sorted(self.lab.sticks.glob("*/ca.pem"))))


def _flow_text(flow: Flow) -> str:
    words: dict[str, object] = {
        "id": flow.id,
        "from": list(flow.sources),
        "to": list(flow.targets),
        "service": flow.service,
        "auth": flow.auth,
        "may": sorted([*flow.may, *flow.reserved]) or None,
        "sop_classes": sorted(flow.sop_classes) if flow.sop_classes is not None else None,
        "destinations": sorted(flow.destinations) if flow.destinations is not None else None,
        "require_user_identity": flow.require_user_identity or None,
        "why": flow.why,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in words.items() if value is not None]
    if flow.on_demand is not None:
        told = f'{{ approve = "{flow.on_demand.approve}", max = "{flow.on_demand.max_seconds // 60}m", record = true }}'
        lines.append(f"on_demand = {told}")
    return "\n".join(["[[flows]]", *lines, ""])


# ---- what the site file says of the doors, by its names alone


def permits(site: Site, name: str, action: Action | None, sop_class: str = "") -> bool:
    """Whether a device may do this at the DIMSE door by itself; None: whether it is let in at all."""
    device = site.devices.get(name)
    if device is None or not device.enabled:
        return False
    return any(
        ARCHIVE in flow.targets
        and (flow.service, flow.auth, flow.on_demand) == (DIMSE_SERVICE, "mtls", None)
        and not flow.require_user_identity
        and any(each == name or device.zone in (zones_of(site, each) if each not in site.devices else ()) for each in flow.sources)
        and (bool(flow.may) if action is None else action in flow.may)
        and (action is not Action.STORE or flow.sop_classes is None or uids.storage_class_of(sop_class) in flow.sop_classes)
        for flow in site.flows
    )  # fmt: skip


def comes(site: Site, host: Host, archive: Host) -> bool:
    """Whether a host may come to the web door at all: by a flow, where any leads there."""
    door, services = site.doors.web, web_services(site)
    leads = any(ARCHIVE in flow.targets and flow.service in services for flow in site.flows)
    return door is not None and (not leads or allowed(site, host, archive, "tcp", door.port))


def knocks(lab: Loopback) -> Iterator[Knock]:
    """Every host at both doors: enrolled ones with every action, and in others' places; everybody without a certificate, and without a sign-in."""
    site = lab.site
    enrolled = [host for host in lab.hosts if not host.stranger and lab.lab.has_stick(host.name)]
    archive = next(host for host in lab.hosts if host.name == ARCHIVE and not host.stranger)
    for host in enrolled:
        for action in Action:
            what = f"{action} {STORED}" if action is Action.STORE else str(action)
            yield Knock(host.name, "DIMSE", what, "", permits(site, host.name, action, STORED))
        yield Knock(host.name, "DIMSE", f"{Action.STORE} {ELSE}", "", permits(site, host.name, Action.STORE, ELSE))
        for other in enrolled:
            if other is not host:
                yield Knock(host.name, "DIMSE", "let in", f"from the address of {other.name}", False)
                yield Knock(host.name, "DIMSE", "let in", f"by the AE title of {other.name}", False)
    for host in lab.hosts:
        if host.name != ARCHIVE or host.stranger:
            yield Knock(host.name, "DIMSE", "let in", "without a certificate", False)
            yield Knock(host.name, "web", ALIVE, "", comes(lab.site, host, archive))
            yield Knock(host.name, "web", "a page", "without a sign-in", False)


# ---- knocking


def knock(lab: Loopback) -> Knocked:
    """Raises LabFailed where the site does not answer at all."""
    began = time.monotonic()
    planned_ = list(knocks(lab))
    hosts = {host.name: host for host in lab.hosts}
    results = [_let_in(lab, hosts[each.host], each) for each in planned_]
    wrong = tuple((each, found) for each, found in zip(planned_, results, strict=True) if found != each.expected)
    return Knocked(len(planned_), sum(results), wrong, time.monotonic() - began)


def _let_in(lab: Loopback, host: Host, each: Knock) -> bool:
    if each.door == "web":
        return _web(lab, host, "/healthz" if each.what == ALIVE else "/people")
    how, _, other = each.how.rpartition(" of ")
    identity = lab.identity(
        host,
        source=other if how == "from the address" else "",
        ae_title=other if how == "by the AE title" else "",
        certificate=each.how != "without a certificate",
    )
    word, _, sop_class = each.what.partition(" ")
    acts = word in tuple(Action)
    action = Action(word) if acts else Action.ECHO
    image = _image(sop_class if action is Action.STORE else STORED)
    try:
        with associated(identity, lab.lab.archive, _contexts(action, image)) as session:
            return not acts or _may(session, action, image, host.name)
    except TurnedAway:
        return False


def _contexts(action: Action, image: Image) -> list[RequestedContext]:
    match action:
        case Action.ECHO:
            return echoing()
        case Action.STORE:
            return storing([image])
        case Action.FIND | Action.MOVE:
            return querying()
        case Action.GET:
            return getting([(image.sop_class_uid, image.transfer_syntax_uid)])
        case Action.COMMIT:
            return committing()


def _may(session: Session, action: Action, image: Image, destination: str) -> bool:
    """Whatever the answer is, unless it is that this may not be."""
    study = {tags.STUDY_INSTANCE_UID: image.study_instance_uid}
    match action:
        case Action.ECHO:
            answer = session.echo()
        case Action.STORE:
            answer = session.store(image)
        case Action.FIND:
            answer, _ = session.find("STUDY", study)
        case Action.GET:
            answer = session.get("STUDY", study, lambda instance: 0)
        case Action.MOVE:
            answer = session.move("STUDY", study, destination)
        case Action.COMMIT:
            reference = (image.sop_class_uid, image.sop_instance_uid)
            answer = session.commit(uids.uid_from(os.urandom(16)), [reference])
            if not answer.status:
                session.report()
    return answer.status != NOT_PERMITTED


def _image(sop_class: str) -> Image:
    """The smallest that an archive takes; a study of its own."""
    found = uids.storage_class_of(sop_class)
    assert found is not None
    instance, study, series = (uids.uid_from(os.urandom(16)) for _ in range(3))
    words = {
        tags.SOP_CLASS_UID: ("UI", found),
        tags.SOP_INSTANCE_UID: ("UI", instance),
        tags.PATIENT_NAME: ("PN", "Lab^Loopback"),
        tags.PATIENT_ID: ("LO", "LAB"),
        tags.STUDY_INSTANCE_UID: ("UI", study),
        tags.SERIES_INSTANCE_UID: ("UI", series),
    }
    data = encode(DataSet([Element(tag, vr, text.encode()) for tag, (vr, text) in words.items()]), NATIVE[0])
    return Image("lab", found, instance, NATIVE[0], study, series, "LAB", "", data)


def _web(lab: Loopback, host: Host, path: str) -> bool:
    """Whether the web door gives somebody at this host the page itself. Raises LabFailed where it says nothing."""
    site = load(lab.lab.directory)
    assert site.doors.web is not None
    address, port = site.doors.web.host, site.doors.web.port
    context = ssl.create_default_context(cafile=str(lab.anchors))
    try:
        with (
            socket.create_connection((address, port), WEB_SECONDS, (lab.address(host.name), 0)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode())
            status = tls.recv(64).split(b" ")[1:2]
    except (OSError, IndexError) as error:
        raise LabFailed(f"the web door does not answer {host.name}: {error}") from error
    return status == [b"200"]


# ---- up and down, for as long as somebody tries things


def standing() -> Path:
    """Where the lab of this user stands between `lab up` and `lab down`."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"leadglass-lab-{os.geteuid()}"


def stay_up(lab: Loopback) -> None:
    """Serves until `end`, whoever started it. Raises LabFailed."""
    said = lab.lab.directory / SAID
    environment = {**os.environ, "LEADGLASS_SITE": str(lab.lab.directory)}
    with said.open("wb") as out, lab.lab.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "leadglass", "up"], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True
        )  # fmt: skip
    (lab.lab.directory / PID).write_text(str(process.pid))
    end_at = time.monotonic() + READY_SECONDS
    while not said.read_text().startswith("ready dimse="):
        if process.poll() is not None or time.monotonic() > end_at:
            raise LabFailed(f"`leadglass up` did not become ready; the end of {lab.lab.log}:\n{lab.lab.log_end()}")
        time.sleep(0.05)


def end(directory: Path) -> bool:
    """Takes away what `stay_up` left; False where there is nothing. Raises LabFailed for what no lab of this user made: it is left alone."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    made = (directory / "leadglass.toml").exists() and (directory / "lab").is_dir()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or (not made and any(directory.iterdir())):
        raise LabFailed(f"{directory} is there, and no lab of this user made it")
    try:
        pid = int((directory / PID).read_text())
    except (OSError, ValueError):
        pid = 0
    if pid and _is_ours(pid, directory):
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while _is_ours(pid, directory) and time.monotonic() < until:
            time.sleep(0.05)
    shutil.rmtree(directory)
    return True


def _is_ours(pid: int, directory: Path) -> bool:
    """A process that serves this directory: the number may be somebody else's by now."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        return f"LEADGLASS_SITE={directory}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, IndexError):
        return False
