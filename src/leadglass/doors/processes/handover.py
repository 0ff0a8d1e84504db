"""What does a child get from the supervisor? Descriptors and a few words in the environment; a pipe tells each whether the other lives."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import threading
from dataclasses import asdict, dataclass

from leadglass.doors.processes.memory import HEAPS

VARIABLE = "LEADGLASS_HANDOVER"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Handover:
    """Descriptor numbers (-1 where there is none). `further`: a second listener, of the console beside the web door. `report`: the child writes lines to it. `parent`: readable at its end when the parent died."""

    report: int
    parent: int
    listener: int = -1
    caps: int = -1
    rows: int = 1
    row: int = 0
    further: int = -1

    def environment(self) -> dict[str, str]:
        return {**HEAPS, **os.environ, VARIABLE: json.dumps(asdict(self))}

    def descriptors(self) -> tuple[int, ...]:
        return tuple(fd for fd in (self.report, self.parent, self.listener, self.caps, self.further) if fd >= 0)

    @classmethod
    def inherited(cls) -> Handover | None:
        """What the supervisor handed to this process; None where it was started alone."""
        text = os.environ.pop(VARIABLE, "")
        if not text:
            return None
        # First of all: a child that is still opening the site must not outlive its parent with the listener in its hands.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        return cls(**json.loads(text))

    def second_socket(self) -> socket.socket | None:
        return socket.socket(fileno=self.further) if self.further >= 0 else None

    def socket(self) -> socket.socket:
        return socket.socket(fileno=self.listener)

    def tell(self, **facts: object) -> None:
        """One line to the supervisor: `ready`, `writer`."""
        os.write(self.report, (json.dumps(facts) + "\n").encode())

    def die_with_parent(self, stop: threading.Event) -> None:
        """The kernel ends this process with its parent (since `inherited`); where the parent only closed its pipe, `stop` is set."""

        def watch() -> None:
            os.read(self.parent, 1)
            stop.set()

        threading.Thread(target=watch, name="parent", daemon=True).start()
