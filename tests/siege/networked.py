"""The SP 1800-24 lab in namespaces with the real thing in it: archive is the router between the zones, with `leadglass up` and `serve firewall` on
it; hosts of the zones speak from theirs."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leadglass.identity.people.passkeys import Origin
from leadglass.lab import namespaces, network
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import ARCHIVE
from tests.interop.test_people import command
from tests.programs import require
from tests.running import Bundle, RunningSite
from tests.siege import networked_programs as programs
from tests.staff import Staff

UID = 61_235
NAME = "leadglass.lab.example"
ADDRESSES = {4: "10.20.5.254", 6: "fd20:5::1"}  # the router's in zone pacs
DICOM, HTTPS, HL7, SSH = 2762, 443, 2575, 22
PATIENCE_SECONDS = 20.0
QUIET_SECONDS = 1.5  # whoever said something ten times a second and is not heard for so long is not heard any more
DEVICES = {"CT01": ("modalities", "10.20.1.11", "fd20:1::11"), "WS01": ("radiology", "10.20.2.21", "fd20:2::21")}


class LabStaff(Staff):
    """People of a site that is no loopback one: their passkeys belong to its name."""

    @property
    def console(self) -> str:
        return f"https://{NAME}"

    @property
    def origin(self) -> Origin:
        return Origin(self.console, NAME)


class Saying:
    """A program that says when it was answered, a line each time. `heard`: those times, Unix seconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.heard: list[float] = []
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def goes_on(self) -> bool:
        """It is answered again from now on."""
        now = time.time()
        return until_true(lambda: self.heard[-1] > now, PATIENCE_SECONDS)

    def _read(self) -> None:
        with contextlib.suppress(ValueError):  # it was ended
            for line in self.process.stdout or ():
                self.heard.append(float(line))


@dataclass
class Place:
    """`networks`: what is up. Processes that were started in it are ended with it."""

    networks: network.Networks
    site: RunningSite
    state: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        return self.state.parent

    def namespace(self, host: str) -> str:
        if host == ARCHIVE:
            return self.networks.router
        return next(each.namespace for each in self.networks.hosts if each.name == host)

    def address(self, host: str, version: int = 4) -> str:
        if host == ARCHIVE:
            return ADDRESSES[version]
        return str(next(each.address(version) for each in self.networks.hosts if each.name == host))

    # ---- programs on hosts

    def start(self, host: str, code: str, *words: str, log: str = "said.log") -> subprocess.Popen[str]:
        """A Python program; its standard output is to be read."""
        line = ["ip", "netns", "exec", namespaces.full(self.namespace(host)), sys.executable, "-c", code, *words]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        with (self.directory / log).open("ab") as file:
            process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=file, text=True, env=environment)
        self.started.append(process)
        return process

    @contextmanager
    def listening(self, host: str, *ports: int) -> Iterator[None]:
        """Somebody answers there for the time of the block."""
        started = [self.start(host, programs.ANSWER, str(port)) for port in ports]
        try:
            for each in started:
                assert each.stdout is not None and each.stdout.readline() == "listening\n", self.said()
            yield
        finally:
            for each in started:
                self.end(each, signal.SIGKILL)

    def says(self, host: str, code: str, *words: str) -> Saying:
        """A program that says a line whenever it was answered; it was answered once."""
        saying = Saying(self.start(host, code, *words))
        assert until_true(lambda: saying.heard or saying.process.poll() is not None, PATIENCE_SECONDS), "nothing yet"
        assert saying.heard, self.said()
        return saying

    def last_heard(self, saying: Saying) -> float:
        """When it was answered last, Unix seconds, once it was not for a while, or ended. Fails the test where it goes on."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.time() - saying.heard[-1] < QUIET_SECONDS and saying.process.poll() is None:
            assert time.monotonic() < end, "it goes on"
            time.sleep(0.02)
        self.silence(saying)
        return saying.heard[-1]

    def silence(self, saying: Saying) -> None:
        if saying.process in self.started:
            self.end(saying.process, signal.SIGKILL)
            saying.reading.join(PATIENCE_SECONDS)

    def tries(self, host: str, *targets: tuple[str, int], seconds: float = 0.6) -> list[str]:
        """open, dropped, or what the other side said."""
        line = ["ip", "netns", "exec", namespaces.full(self.namespace(host)), sys.executable, "-S", "-c", programs.TRY]
        told = "\n".join(f"{address},{port}" for address, port in targets)
        done = subprocess.run(
            [*line, str(seconds)], input=told, capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout.splitlines()

    def tries_all(self, targets: list[tuple[str, int]]) -> dict[str, list[str]]:
        """The same from every host at once."""
        line = [sys.executable, "-S", "-c", programs.TRY, "1.5"]
        hosts = {each.name: namespaces.full(each.namespace) for each in self.networks.hosts}
        trying = {
            name: subprocess.Popen(
                ["ip", "netns", "exec", where, *line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for name, where in hosts.items()
        }
        for each in trying.values():
            assert each.stdin is not None
            each.stdin.write("\n".join(f"{address},{port}" for address, port in targets))
            each.stdin.close()
            each.stdin = None
        return {name: process.communicate(timeout=120)[0].splitlines() for name, process in trying.items()}

    def end(self, process: subprocess.Popen[str], how: int = signal.SIGTERM) -> int:
        process.send_signal(how)
        code = process.wait(PATIENCE_SECONDS)
        process.stdout.close()  # type: ignore[union-attr]
        self.started.remove(process)
        return code

    def said(self) -> str:
        logs = (self.directory / name for name in ("firewall.log", "said.log"))
        return "".join(each.read_text()[-3000:] for each in logs if each.exists()) + self.site.log()

    # ---- the firewall

    def firewall(self) -> subprocess.Popen[str]:
        """As its unit starts it: another user, with CAP_NET_ADMIN alone. Its `nft` is one that fails as `nft_does` says."""
        words = [str(UID), "--site", str(self.site.directory), "serve", "firewall", "--state", str(self.state)]
        wrapper = str(self.directory / "nft")
        process = self.start(ARCHIVE, programs.SERVE, wrapper, require("nft"), *words, log="firewall.log")
        assert process.stdout is not None and process.stdout.readline() == "ready firewall\n", self.said()
        return process

    def nft_does(self, what: str) -> None:
        """`well`; or `refuse` what is examined, be `missing`, `die-before` or `die-after` it loaded, with whoever asked."""
        (self.directory / "nft.does").write_text(what)

    def told(self) -> dict[str, Any]:
        """What `status` says of the kernel's table."""
        return dict(self.rows("status")[0]["network"])

    def serves(self) -> bool:
        """The kernel has the table of the site file that serves."""
        serving = (self.site.directory / "state" / "proven" / "current").resolve().name
        return bool(self.told().get("site") == serving)

    def asks(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the command socket answers to the user who loads the table."""
        line = [sys.executable, "-S", "-c", programs.ASK, str(self.site.directory / "run" / "leadglass.sock"), str(UID)]
        told = json.dumps(request) + "\n"
        done = subprocess.run(line, input=told, capture_output=True, text=True, check=True, timeout=60)
        return dict(json.loads(done.stdout.splitlines()[0]))

    def nft(self, *words: str, given: str = "") -> str:
        return namespaces.in_namespace(self.namespace(ARCHIVE), "nft", *words, given=given)

    def boots(self, namespace: str, closed: Path) -> None:
        """What leadglass-firewall-boot.service does, with the paths of this place."""
        unit = (Path(__file__).parents[2] / "deploy" / "leadglass-firewall-boot.service").read_text()
        line = next(each for each in unit.splitlines() if each.startswith("ExecStart=")).removeprefix("ExecStart=")
        line = line.replace("/var/lib/leadglass-firewall", str(self.state))
        line = line.replace("/etc/leadglass/closed.nft", str(closed))
        namespaces.in_namespace(namespace, *shlex.split(line))

    # ---- the site

    def commands(self, *words: str, code: int = 0) -> tuple[str, str]:
        """A command, in this process: what it said, and what it complained of."""
        return command(self.site, *words, code=code)

    def rows(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.commands(*words, "--json")[0].splitlines()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [row for row in self.rows("events") if row["kind"] == kind]

    def changed(self, kind: str) -> float:
        """When the last change of a kind was done, Unix seconds."""
        rows = [row for row in self.events("change:completed") if row["action"] == kind]
        return dt.datetime.fromisoformat(rows[-1]["at"]).timestamp()

    @contextmanager
    def edited(self, *edits: tuple[str, str]) -> Iterator[None]:
        """The site file says something else; not applied."""
        file = self.site.directory / "leadglass.toml"
        before = file.read_text()
        file.write_text(_edited(before, *edits))
        try:
            yield
        finally:
            file.write_text(before)

    def flow(self, name: str) -> str:
        """Of the site file, as it stands there."""
        text = (self.site.directory / "leadglass.toml").read_text()
        begin = text.index(f'[[flows]]\nid = "{name}"')
        return text[begin : text.find("[[flows]]", begin + 1)]


@contextmanager
def place() -> Iterator[Place]:
    """The lab is up, the site runs on its router; no table is in force there yet."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o711)  # another user of the site's reaches its socket
        with _place(Path(directory)) as found:
            yield found


@contextmanager
def _place(directory: Path) -> Iterator[Place]:
    planned = network.planned(load(SP1800_24), f"siege{os.getpid()}")
    networks = replace(planned, hosts=tuple(each for each in planned.hosts if each.name != ARCHIVE))
    site = RunningSite(directory / "site", DICOM)
    state = directory / "state"
    state.mkdir(mode=0o700)
    os.chown(state, UID, UID)
    found = Place(networks, site, state)
    found.nft_does("well")
    (directory / "nft").write_text(programs.NFT.format(does=directory / "nft.does", nft=directory / "nft.real"))
    (directory / "nft").chmod(0o755)
    shutil.copy2(require("nft"), directory / "nft.real")
    try:
        network.up(networks)
        namespaces.in_namespace(networks.router, "nft", "flush", "ruleset")
        _make(site)
        site.before = ("ip", "netns", "exec", namespaces.full(networks.router))
        site.up()
        yield found
    finally:
        site.down()
        for process in found.started:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]
        network.down(networks)


def _make(site: RunningSite) -> None:
    """The lab's site file, with archive on the router; CT01 and WS01 with certificates."""
    site.command("init", str(site.directory), "--loopback", "--name", NAME, site=False)
    file = site.directory / "leadglass.toml"
    text = (SP1800_24 / "leadglass.toml").read_text()
    text = text.replace('key = "credential:site.key"', 'key = "file:keys/site.key"').replace(
        "10.20.5.10:", "10.20.5.254:"
    )
    own = f'addresses = ["{ADDRESSES[4]}/32", "{ADDRESSES[6]}/128"]\nforwards = true\nuser = "{UID}"\nconfirm_seconds = 5\n'
    text = re.sub(r"addresses = .*\n", own, text)
    text = text.replace("require_user_identity = true\n", "")  # who sits there is another subject
    for name in DEVICES:
        text = re.sub(rf"\[devices\.{name}\]\n(?:\w.*\n)+\n", "", text)
    without = re.sub(r'\[\[flows\]\]\nid = "workstations"\n(?:\w.*\n)+\n', "", text)
    assert without != text
    file.write_text(without)
    command(site, "apply")
    for name, (zone, four, six) in DEVICES.items():
        stick = site.directory.parent / f"stick-{name}"
        words = ("--ae", name, "--network", f"{four}/32", "--zone", zone, "--may", "echo", "--out", str(stick))
        command(site, "device", "enroll", name, *words)
        site.bundles[name] = Bundle(name, stick)
        own_file = site.directory / "devices.d" / f"{name}.toml"
        both = own_file.read_text().replace(f'"{four}/32"', f'["{four}/32", "{six}/128"]')
        own_file.write_text(both)
    file.write_text(text)
    command(site, "apply")
    for path, mode in ((site.directory, 0o710), (site.directory / "run", 0o2710)):
        shutil.chown(path, 0, UID)
        path.chmod(mode)


def _edited(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def until(condition: Callable[[], object], seconds: float) -> float:
    """How long it took until it holds; fails the test where it does not."""
    began = time.monotonic()
    assert until_true(condition, seconds), "it did not come about in time"
    return time.monotonic() - began


def until_true(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
