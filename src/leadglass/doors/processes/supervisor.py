"""`leadglass up`: owns the listening sockets, starts the workers and the keeper, restarts what dies, recovers what it left, stops gracefully.

Children die with it. A worker that ends loses no queued connection, because the listening socket is not its own.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from leadglass.doors.processes.caps import SharedCaps
from leadglass.doors.processes.handover import Handover
from leadglass.doors.processes.notify import notify
from leadglass.site.model import Limits
from leadglass.terms import Detection, EventKind, Severity

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
BACKOFF_SECONDS_MAX = 10.0
BACKLOG = 256

log = structlog.get_logger()


@dataclass(slots=True)
class Child:
    """One process and what it said of itself. `role`: `dimse`, `web` or `keeper`."""

    role: str
    row: int
    process: subprocess.Popen[bytes] | None = None
    report: int = -1
    heard: bytes = b""
    ready: bool = False
    writer: str = ""
    failures: int = 0
    due: float = 0.0
    started: float = field(default=0.0)


class Supervisor:
    """`listeners`: of each role, one or two. `workers`: how many processes of a role there are; the keeper is one.

    `recover(writer_hex)` is called for each writer that a dead child left behind.
    """

    def __init__(
        self,
        site_dir: Path,
        listeners: Mapping[str, Sequence[socket.socket]],
        *,
        workers: Mapping[str, int],
        recover: Callable[[str], None],
        happened: Callable[[Detection], None],
    ) -> None:
        self._site_dir, self._listeners, self._recover, self._happened = site_dir, listeners, recover, happened
        self._rows = workers
        self._caps_fds = {role: SharedCaps.create(rows) for role, rows in workers.items()}
        self._caps = {role: SharedCaps(self._caps_fds[role], rows, 0, Limits()) for role, rows in workers.items()}
        self._children = [Child("keeper", -1)]
        self._children += [Child(role, row) for role, rows in workers.items() for row in range(rows)]
        self._parent_read, self._parent_write = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._announced = False

    def run(self, announce: Callable[[], None]) -> int:
        """Blocks until SIGTERM or SIGINT; 0 after a graceful stop, 1 where the site never became ready."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: self._stop())
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        begun = time.monotonic()
        while not self._stopping:
            self._start_what_is_due()
            for key, _ in self._selector.select(0.5):
                if key.data is None:
                    os.read(wake_read, 512)
                else:
                    self._hear(key.data)
            self._reap()
            if not self._announced and all(child.ready for child in self._children):
                self._announced = True
                announce()
                notify("READY=1")
            if all(child.process is not None for child in self._children):
                notify("WATCHDOG=1")
            if not self._announced and time.monotonic() - begun > READY_SECONDS_MAX:
                log.error("the site did not become ready", seconds=READY_SECONDS_MAX)
                self._end_children()
                return 1
        notify("STOPPING=1")
        self._end_children()
        return 0

    def _stop(self) -> None:
        self._stopping = True

    # ---- children

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None and child.due <= now:
                self._start(child)

    def _start(self, child: Child) -> None:
        report_read, report_write = os.pipe()
        first, *further = self._listeners[child.role]
        counted = "dimse" if child.role == "keeper" else child.role  # the keeper looks at what the DIMSE workers say
        handover = Handover(
            report=report_write,
            parent=self._parent_read,
            listener=first.fileno(),
            caps=self._caps_fds[counted],
            rows=self._rows[counted],
            row=max(child.row, 0),
            further=further[0].fileno() if further else -1,
        )
        child.process = subprocess.Popen(  # noqa: S603 - our own program, our own arguments
            [sys.executable, "-m", "leadglass", "--site", str(self._site_dir), "serve", child.role],
            env=handover.environment(),
            pass_fds=handover.descriptors(),
            stdin=subprocess.DEVNULL,
            close_fds=True,
        )
        os.close(report_write)
        child.report, child.heard, child.ready, child.started = report_read, b"", False, time.monotonic()
        self._selector.register(report_read, selectors.EVENT_READ, child)

    def _hear(self, child: Child) -> None:
        said = os.read(child.report, 4096)
        if not said:
            self._selector.unregister(child.report)
            return
        child.heard += said
        *lines, child.heard = child.heard.split(b"\n")
        for line in lines:
            facts = json.loads(line)
            child.writer = facts.get("writer", child.writer)
            child.ready = facts.get("ready", child.ready)

    def _reap(self) -> None:
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            code = child.process.returncode
            self._forget(child)
            log.error("a process ended", role=child.role, code=code)
            child.failures = 0 if time.monotonic() - child.started > 60 else child.failures + 1
            child.due = time.monotonic() + min(BACKOFF_SECONDS_MAX, 0.1 * 2**child.failures)
            self._happened(
                Detection(
                    EventKind.PROCESS_ENDED,
                    Severity.WARNING,
                    child.role,
                    f"exit code {code}",
                    {"pid": child.process.pid},
                )
            )
            child.process = None
            if child.writer:
                self._recover(child.writer)
                child.writer = ""

    def _forget(self, child: Child) -> None:
        self._drain(child)
        if child.report in self._selector.get_map():
            self._selector.unregister(child.report)
        os.close(child.report)
        if child.row >= 0:
            self._caps[child.role].clear(child.row)

    def _drain(self, child: Child) -> None:
        """The last words of a child that died before we listened: its writer's id is among them."""
        while child.report in self._selector.get_map():
            self._hear(child)

    def _end_children(self) -> None:
        """Workers first, so that the keeper still writes what they left; then SIGKILL for whoever stays."""
        workers = [child for child in self._children if child.role != "keeper"]
        keepers = [child for child in self._children if child.role == "keeper"]
        for group in (workers, keepers):
            living = [child.process for child in group if child.process is not None]
            for process in living:
                process.terminate()
            end = time.monotonic() + STOP_SECONDS_MAX
            for process in living:
                try:
                    process.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
