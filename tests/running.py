"""A running site for tests: made in a temporary directory, on a private port, started as an operator would, ended with the test."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 60.0


def free_port() -> int:
    """Below the range that the kernel gives to outgoing connections: a client that tries a dead port again and again can otherwise be
    given that very port as its own, and hold it when the site wants it back."""
    chance = random.SystemRandom()
    for _ in range(200):
        port = chance.randrange(15_000, 32_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@dataclass
class Bundle:
    """What `device enroll` wrote."""

    name: str
    directory: Path

    @property
    def key(self) -> str:
        return str(self.directory / "client.key")

    @property
    def certificate(self) -> str:
        return str(self.directory / "client.pem")

    @property
    def authority(self) -> str:
        return str(self.directory / "ca.pem")

    def dcmtk(self) -> list[str]:
        """For DCMTK's tools."""
        return ["+tls", self.key, self.certificate, "+cf", self.authority, "-aet", self.name, "-aec", "LEADGLASS"]

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass
class RunningSite:
    """A site directory, its commands, and `leadglass up` while it runs."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    bundles: dict[str, Bundle] = field(default_factory=dict)
    said: str = ""  # by `up`, on its standard output, as far as it was read
    before: tuple[str, ...] = ()  # what `up` is run under, e.g. a tracer that leaves it our child

    @classmethod
    def make(cls, place: Path, extra: str = "") -> RunningSite:
        """`leadglass init` on a free port; `extra` is appended to the site file."""
        site = cls(place / "site", free_port())
        site.command("init", str(site.directory), "--loopback", site=False)
        file = site.directory / "leadglass.toml"
        file.write_text(file.read_text().replace("127.0.0.1:2762", f"127.0.0.1:{site.port}") + extra)
        site.command("apply")
        return site

    def command(self, *words: str, check: bool = True, site: bool = True) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "leadglass", *(["--site", str(self.directory)] if site else []), *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, env=self._environment())
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}: {done.stderr}{done.stdout}\n{self.log()}")
        return done

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """A command's `--json` output."""
        return [json.loads(line) for line in self.command(*words, "--json").stdout.splitlines()]

    def rows_anyway(self, *words: str) -> list[dict[str, Any]]:
        """The same of a command that says by its exit code that something is wrong."""
        return [json.loads(line) for line in self.command(*words, "--json", check=False).stdout.splitlines()]

    def enroll(self, name: str, may: str, *options: str, network: str = "127.0.0.0/8") -> Bundle:
        out = self.directory.parent / f"stick-{name}"
        self.command(
            "device", "enroll", name, "--ae", name, "--network", network, "--may", may, "--out", str(out), *options
        )
        self.bundles[name] = Bundle(name, out)
        return self.bundles[name]

    def up(self) -> None:
        assert self.process is None
        with self._log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", "leadglass", "--site", str(self.directory), "up"],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
            )
        os.set_blocking(self.process.stdout.fileno(), False)  # type: ignore[union-attr]
        said, end = b"", time.monotonic() + START_SECONDS_MAX
        while b"ready dimse=" not in said:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the site did not become ready: {said!r}\n{self.log()}")
            said += self.process.stdout.read() or b""  # type: ignore[union-attr]
            time.sleep(0.02)
        self.said = said.decode()

    def hears(self, word: str, seconds: float = 15.0) -> str:
        """The rest of the line after a word that `up` prints."""
        end = time.monotonic() + seconds
        while word not in self.said or not self.said.partition(word)[2].count("\n"):
            assert self.process is not None and time.monotonic() < end, (
                f"{word!r} was not said: {self.said!r}\n{self.log()}"
            )
            self.said += (self.process.stdout.read() or b"").decode()  # type: ignore[union-attr]
            time.sleep(0.02)
        return self.said.partition(word)[2].partition("\n")[0].strip()

    def down(self) -> int:
        """SIGTERM; the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the site did not stop\n{self.log()}") from None
        finally:
            process.stdout.close()  # type: ignore[union-attr]
        return code

    def kill(self, *, at_once: bool = False) -> None:
        """SIGKILL to the supervisor; its children die with it. `at_once`: to all of them, so that nobody closes anything."""
        process, self.process = self.process, None
        assert process is not None
        children = self.children(process.pid)
        if at_once:
            for each in (signal.SIGSTOP, signal.SIGKILL):
                for pid in (process.pid, *children):
                    os.kill(pid, each)
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < end:
            time.sleep(0.01)

    @staticmethod
    def children(pid: int) -> list[int]:
        text = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(each) for each in text.read_text().split()] if text.exists() else []

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        return [row for row in self.rows("events") if not kind or row["kind"] == kind]

    def log(self) -> str:
        return self._log_file.read_text(errors="replace")[-4000:] if self._log_file.exists() else ""

    @property
    def _log_file(self) -> Path:
        return self.directory.parent / "up.log"

    @staticmethod
    def _environment() -> dict[str, str]:
        return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def running(place: Path, extra: str = "") -> Iterator[RunningSite]:
    """A made site, not started; ended with the block."""
    site = RunningSite.make(place, extra)
    try:
        yield site
    finally:
        site.down()


def until(condition: Any, seconds: float = 15.0) -> bool:
    """True as soon as it holds, False when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())
