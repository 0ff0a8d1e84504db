"""Who answers commands while the site runs? The keeper: one thread a command, one JSON object a line, the peer's uid from the kernel."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping

import structlog

from leadglass.doors.command.desk import LINE_LENGTH_MAX_BYTES, Row, answers, changed
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.house import House, Question
from leadglass.policy import containment
from leadglass.terms import ChangeKind, Fault

COMMANDS_MAX = 32  # at once
ACTS_WITHIN_SECONDS = 2.0
SAID_WITHIN_SECONDS = 30.0  # whoever connects and says nothing takes no place from the others
_CREDENTIALS = struct.Struct("3i")

log = structlog.get_logger()


def answer_commands(
    listener: socket.socket, house: House, questions: Mapping[str, Question], stop: threading.Event
) -> None:
    """Accepts until `stop`; the listener is the supervisor's, so no command is lost when this process ends."""
    room = threading.BoundedSemaphore(COMMANDS_MAX)
    listener.settimeout(0.2)
    while not stop.is_set():
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            continue
        sock.setblocking(True)
        room.acquire()
        threading.Thread(target=_one, args=(sock, house, questions, room), daemon=True).start()


def _one(
    sock: socket.socket, house: House, questions: Mapping[str, Question], room: threading.BoundedSemaphore
) -> None:
    try:
        with sock, sock.makefile("rwb") as stream:
            _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            sock.settimeout(SAID_WITHIN_SECONDS)
            line = stream.readline(LINE_LENGTH_MAX_BYTES)
            sock.settimeout(None)
            if not line:
                return  # a knock: somebody looked whether the site runs
            for answer in _answer(house, questions, uid, line):
                stream.write(json.dumps(answer, default=str).encode() + b"\n")
                stream.flush()
    except OSError:
        return  # the command went away
    finally:
        room.release()


def _until_it_acts(house: House) -> None:
    """Until every worker, and whoever performs the next command here, acts by what was changed last, or one is too late to wait for."""
    if house.serving is None:
        return
    workers = house.serving.workers
    try:
        wanted = containment.read(house.site_dir).generation
    except Fault:
        return  # status and the alarm say so
    end = time.monotonic() + ACTS_WITHIN_SECONDS

    def behind() -> list[int]:
        late = [each.pid for each in workers() if each.pid and each.generation < wanted]
        return late + ([os.getpid()] if house.containment().generation < wanted else [])

    while late := behind():
        if time.monotonic() > end:
            log.warning("processes do not act by the last change yet", pids=late)
            return
        time.sleep(0.01)


def _answer(house: House, questions: Mapping[str, Question], uid: int, line: bytes) -> Iterator[Row]:
    try:
        request = json.loads(line)
        if "change" in request:
            kind = ChangeKind(request["change"])
            yield {"row": changed(house, uid, kind, str(request["about"]), request["arguments"])}
        elif "wait" in request:
            _until_it_acts(house)
        else:
            for row in answers(house, questions, str(request["ask"]), request["arguments"], uid):
                yield {"row": row}
        yield {"end": True}
    except Stopped as stopped:
        yield {"stopped": str(stopped), "code": int(stopped.code), "hint": stopped.hint}
    except (ValueError, KeyError, TypeError) as error:
        yield {"stopped": f"the command cannot be read: {error}", "code": int(Exit.USAGE)}
    except Exception:
        log.exception("a command failed")
        yield {"stopped": "the site failed at this command; its service log says how", "code": int(Exit.FAILED)}
