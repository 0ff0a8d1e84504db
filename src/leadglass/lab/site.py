"""How does a site come up for the lab? The product's own commands, run as a person would run them, on loopback networks of their own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadglass.lab.peers import Archive, Identity

COMMAND_SECONDS = 60.0
LINK_SECONDS = 10.0
READY_SECONDS = 90.0
STOP_SECONDS = 60.0
PREFERRED_PORT = 2762
LOG_LINES_SHOWN = 15
DOOR_ADDRESS = "127.0.0.1"


class LabFailed(Exception):
    """The product did not do what the lab asked of it; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device the lab enrols: `may` as on the command line, `address` HOST:PORT where the archive may send to it."""

    name: str
    source: str
    may: str
    why: str
    address: str = ""
    sop_classes: tuple[str, ...] = ()


class LabSite:
    """A site directory, and the `leadglass up` that serves it. `devices`: where sticks lie, below the site."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.sticks = self.directory / "lab" / "sticks"
        self.log = self.directory / "lab" / "up.log"
        self.process: subprocess.Popen[str] | None = None
        self.archive = Archive(DOOR_ADDRESS, 0)
        self.console = ""
        self.administrator = ""  # the enrolment link, while nobody has followed it

    @property
    def exists(self) -> bool:
        return (self.directory / "leadglass.toml").exists()

    # ---- commands

    def init(self) -> None:
        self._run(["init", str(self.directory), "--loopback"])
        self.sticks.mkdir(parents=True, mode=0o700)

    def run(self, *arguments: str) -> list[dict[str, Any]]:
        """One command with --json: its rows. Raises LabFailed."""
        return [json.loads(line) for line in self._run([*arguments, "--json"]).splitlines()]

    def write(self, text: str) -> None:
        """Replaces the site file and makes it act."""
        (self.directory / "leadglass.toml").write_text(text, encoding="utf-8")
        self.run("apply")

    def enroll(self, device: Enrolled) -> None:
        """Once; a device that has its stick already is left alone."""
        if self.has_stick(device.name):
            return
        confined = [part for each in device.sop_classes for part in ("--sop-class", each)]
        arguments = ["device", "enroll", device.name, "--ae", device.name, "--network", f"{device.source}/32"]
        arguments += ["--may", device.may, "--why", device.why, "--out", str(self.sticks / device.name), *confined]
        self.run(*arguments, *(["--address", device.address] if device.address else []))

    def has_stick(self, name: str) -> bool:
        return (self.sticks / name / "client.pem").exists()

    def identity(self, device: Enrolled, *, ae_title: str = "") -> Identity:
        return Identity(ae_title or device.name, device.source, self.sticks / device.name)

    def events(self, since: str = "") -> list[dict[str, Any]]:
        """Events from `since` (ISO time) on."""
        return [event for event in self.run("events") if event["at"] >= since]

    def _run(self, arguments: list[str]) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - our own program, our own arguments
                _program(*arguments),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise LabFailed(f"`leadglass {' '.join(arguments)}` did not end within {COMMAND_SECONDS:.0f} s") from late
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise LabFailed(f"`leadglass {' '.join(arguments)}` ended with {done.returncode}: {said}")
        return done.stdout

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "LEADGLASS_SITE": str(self.directory)}

    # ---- serving

    def up(self) -> None:
        """Starts `leadglass up` and waits until every door answers. Raises LabFailed with the end of its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                _program("up"),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_lines, args=(self.process, said), daemon=True).start()
        try:
            line = said.get(timeout=READY_SECONDS)
        except queue.Empty:
            line = ""
        found = re.fullmatch(r"ready dimse=(\S+):(\d+)(?: \S+)*\s*", line)
        if found is None:
            self.down()
            raise LabFailed(f"`leadglass up` did not become ready; the end of {self.log}:\n{self.log_end()}")
        self.archive = Archive(found[1], int(found[2]))
        self.console = next((word.partition("=")[2] for word in line.split() if word.startswith("console=")), "")
        with contextlib.suppress(queue.Empty):  # said right behind, until the administrator has followed it
            self.administrator = said.get(timeout=LINK_SECONDS).partition("enrolment=")[2].split(" ")[0].strip()

    def down(self) -> int:
        """Stops it as an operator would; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.terminate()
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code

    def log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:])
        return ""


def _program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "leadglass", *arguments]


def _lines(process: subprocess.Popen[str], said: queue.Queue[str]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # closed by `down`
        for line in process.stdout:
            said.put(line)
    said.put("")


def free_port(host: str, preferred: int = 0) -> int:
    """The preferred port where it is free on that address, else another."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    raise LabFailed(f"no port is free on {host}")
