"""The SP 1800-24 lab in namespaces with the real thing in it: `leadglass up` and `serve firewall` on archive's host, hosts that speak from theirs."""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadglass.lab import namespaces, network
from leadglass.site.load import SP1800_24, load
from leadglass.site.model import ARCHIVE
from tests.running import RunningSite

UID = 61_235
PATIENCE_SECONDS = 20.0
WAIT_SECONDS = 3.0

# Loaded as root, because the interpreter may lie where nobody else can read; then another user with CAP_NET_ADMIN and nothing else.
_SERVE = """
import ctypes, os, struct, sys
import leadglass.doors.processes.firewall
from leadglass.__main__ import assemble, main
from leadglass.doors.command.application import run_application
run_application(assemble, ["--site", "/", "serve", "nothing"])  # says so, and has loaded what a command needs
uid = int(sys.argv.pop(1))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
os.setgroups([]); os.setgid(uid); os.setuid(uid)
admin = 1 << 12  # CAP_NET_ADMIN
header, sets = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", admin, admin, admin, 0, 0, 0)
assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())
assert libc.prctl(47, 2, 12, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_CAP_AMBIENT_RAISE
sys.exit(main())
"""

_SAY = """
import os, socket, sys, encodings.idna
path, uid, line = sys.argv[1], int(sys.argv[2]), sys.stdin.read()
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sock = socket.socket(socket.AF_UNIX); sock.connect(path)
with sock, sock.makefile("rwb") as stream:
    stream.write(line.encode()); stream.flush()
    sys.stdout.write(stream.read().decode())
"""

# Says what every try to connect came to, one word a line: all at once, then waited for together.
_TRY = """
import errno, os, select, socket, sys, time
tries, told, poll = [], {}, select.poll()
for line in sys.stdin.read().split():
    host, port = line.rsplit(",", 1)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    code = sock.connect_ex((host, int(port)))
    tries.append(sock)
    if code != errno.EINPROGRESS:
        told[sock.fileno()] = "open" if code == 0 else os.strerror(code)
    else:
        poll.register(sock, select.POLLOUT)
end = time.monotonic() + float(sys.argv[1])
while len(told) < len(tries) and time.monotonic() < end:
    for number, _ in poll.poll(50):
        poll.unregister(number)
        code = next(each for each in tries if each.fileno() == number).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        told[number] = "open" if code == 0 else os.strerror(code)
for sock in tries:
    print(told.get(sock.fileno(), "dropped"))
"""

# Answers every line, for whoever connects.
_ANSWER = """
import socket, sys, threading
def answer(sock):
    with sock:
        while said := sock.recv(64):
            sock.sendall(said)
listener = socket.create_server(("", int(sys.argv[1])))
print("listening", flush=True)
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
"""

# Connects, then says something ten times a second; each answer is a line with its time.
_TALK = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
sock.settimeout(30)
while True:
    sock.sendall(b"still there?")
    if not sock.recv(64):
        break
    print(time.time(), flush=True)
    time.sleep(0.1)
"""


@dataclass
class Place:
    """`networks`: what is up. Processes that were started in it are ended with it."""

    networks: network.Networks
    site: RunningSite
    state: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def namespace(self, host: str) -> str:
        return next(each.namespace for each in self.networks.hosts if each.name == host)

    def address(self, host: str, version: int = 4) -> str:
        return str(next(each.address(version) for each in self.networks.hosts if each.name == host))

    def start(self, host: str, code: str, *words: str, log: str = "") -> subprocess.Popen[str]:
        """A Python program on a host; its standard output is to be read."""
        line = ["ip", "netns", "exec", namespaces.full(self.namespace(host)), sys.executable, "-c", code, *words]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        with (self.state.parent / (log or "said.log")).open("ab") as file:
            process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=file, text=True, env=environment)
        self.started.append(process)
        return process

    def listens(self, host: str, port: int) -> None:
        assert self.start(host, _ANSWER, str(port)).stdout.readline() == "listening\n"  # type: ignore[union-attr]

    def talks(self, host: str, to: str, port: int) -> subprocess.Popen[str]:
        """A connection on which something is said until nobody answers."""
        process = self.start(host, _TALK, to, str(port))
        assert process.stdout is not None and process.stdout.readline(), self.said()
        return process

    def tries(self, host: str, *targets: tuple[str, int], seconds: float = 0.6) -> list[str]:
        """open, dropped, or what the other side said."""
        line = ["ip", "netns", "exec", namespaces.full(self.namespace(host)), sys.executable, "-c", _TRY, str(seconds)]
        told = "\n".join(f"{address},{port}" for address, port in targets)
        done = subprocess.run(line, input=told, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout.splitlines()

    def firewall(self) -> subprocess.Popen[str]:
        process = self.start(
            ARCHIVE,
            _SERVE,
            str(UID),
            "--site",
            str(self.site.directory),
            "serve",
            "firewall",
            "--state",
            str(self.state),
            log="firewall.log",
        )
        assert process.stdout is not None and process.stdout.readline() == "ready firewall\n", self.said()
        return process

    def told(self) -> dict[str, Any]:
        """What `status` says of the kernel's table."""
        return dict(self.site.rows("status")[0]["network"])

    def says(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the command socket answers to the user who loads the table."""
        line = [sys.executable, "-c", _SAY, str(self.site.directory / "run" / "leadglass.sock"), str(UID)]
        told = json.dumps(request) + "\n"
        done = subprocess.run(line, input=told, capture_output=True, text=True, check=True, timeout=60)
        return dict(json.loads(done.stdout.splitlines()[0]))

    def changed(self, kind: str) -> float:
        """When the last change of a kind was done, Unix seconds."""
        rows = [row for row in self.site.events("change:completed") if row["action"] == kind]
        return dt.datetime.fromisoformat(rows[-1]["time"]).timestamp()

    def last_heard(self, talking: subprocess.Popen[str]) -> float:
        """When somebody answered last, once nobody did for a while; Unix seconds."""
        time.sleep(WAIT_SECONDS)
        talking.kill()
        said = talking.stdout.read().split()  # type: ignore[union-attr]
        self.end(talking, signal.SIGKILL)
        assert said and time.time() - float(said[-1]) > WAIT_SECONDS / 2, "it goes on"
        return float(said[-1])

    @contextmanager
    def edited(self, *edits: tuple[str, str]) -> Iterator[None]:
        """The site file says something else; not applied."""
        file = self.site.directory / "leadglass.toml"
        before = file.read_text()
        try:
            self.edits(*edits)
            yield
        finally:
            file.write_text(before)

    def edits(self, *edits: tuple[str, str]) -> None:
        file = self.site.directory / "leadglass.toml"
        text = file.read_text()
        for old, new in edits:
            assert old in text
            text = text.replace(old, new, 1)
        file.write_text(text)

    def boots(self, namespace: str, closed: Path) -> None:
        """What leadglass-firewall-boot.service does, with the paths of this place."""
        unit = (Path(__file__).parents[2] / "deploy" / "leadglass-firewall-boot.service").read_text()
        line = next(each for each in unit.splitlines() if each.startswith("ExecStart=")).removeprefix("ExecStart=")
        line = line.replace("/var/lib/leadglass-firewall", str(self.state)).replace(
            "/etc/leadglass/closed.nft", str(closed)
        )
        namespaces.in_namespace(namespace, *shlex.split(line))

    def nft(self, *words: str, given: str = "") -> str:
        return namespaces.in_namespace(self.namespace(ARCHIVE), "nft", *words, given=given)

    def end(self, process: subprocess.Popen[str], how: int = signal.SIGTERM) -> int:
        process.send_signal(how)
        code = process.wait(PATIENCE_SECONDS)
        process.stdout.close()  # type: ignore[union-attr]
        self.started.remove(process)
        return code

    def said(self) -> str:
        logs = (self.state.parent / name for name in ("firewall.log", "said.log"))
        return "".join(each.read_text() for each in logs if each.exists()) + self.site.log()


@contextmanager
def place(edit: str = "") -> Iterator[Place]:
    """The lab is up, the site runs on archive's host; no table is in force there yet. `edit`: appended to the site file."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o711)  # another user of the site's reaches its socket
        with _place(Path(directory), edit) as found:
            yield found


@contextmanager
def _place(directory: Path, edit: str) -> Iterator[Place]:
    networks = network.planned(load(SP1800_24), f"siege{os.getpid()}")
    site = RunningSite(directory / "site", 2762)
    state = directory / "state"
    state.mkdir(mode=0o700)
    os.chown(state, UID, UID)
    found = Place(networks, site, state)
    try:
        network.up(networks)
        namespaces.in_namespace(found.namespace(ARCHIVE), "nft", "flush", "ruleset")
        _make(site, edit)
        site.before = ("ip", "netns", "exec", namespaces.full(found.namespace(ARCHIVE)))
        site.up()
        yield found
    finally:
        site.down()
        for process in found.started:
            process.kill()
            process.wait()
            process.stdout.close()  # type: ignore[union-attr]
        network.down(networks)


def _make(site: RunningSite, edit: str) -> None:
    site.command("init", str(site.directory), "--loopback", site=False)
    text = (SP1800_24 / "leadglass.toml").read_text()
    text = text.replace('key = "credential:site.key"', 'key = "file:keys/site.key"')
    text = text.replace("[firewall]\n", f'[firewall]\nuser = "{UID}"\n')
    (site.directory / "leadglass.toml").write_text(text + edit)
    site.command("apply")
    for path, mode in ((site.directory, 0o710), (site.directory / "run", 0o2710)):
        shutil.chown(path, 0, UID)
        path.chmod(mode)


def until(condition: object, seconds: float) -> float:
    """How long it took until it holds; fails the test where it does not."""
    began = time.monotonic()
    assert callable(condition)
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come about in time"
        time.sleep(0.05)
    return time.monotonic() - began
