"""How does a command reach its site? Through the socket of the one that runs, or, where none runs, by opening it under the site lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from leadglass import gateway
from leadglass.doors.blocking import run
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.house import Assemble, House, Question
from leadglass.site.write import PROVEN_DIRECTORY
from leadglass.terms import Change, ChangeKind, Fault, NotPermitted, Operator, Refused

SOCKET = Path("run") / "leadglass.sock"
SITE_LOCK = Path("state") / "site.lock"
LINE_LENGTH_MAX_BYTES = 16 << 20

Row = Mapping[str, Any]


class Desk(Protocol):
    """Asks questions, which answer in rows, and makes changes, which go through the gateway."""

    running: bool

    def ask(self, question: str, arguments: Row) -> Iterator[Row]: ...
    def change(self, kind: ChangeKind, about: str, arguments: Row) -> Row: ...
    def close(self) -> None: ...


def open_desk(site_dir: Path, assemble: Assemble, questions: Mapping[str, Question]) -> Desk:
    """Raises Stopped where there is no site, or it runs but does not answer. A site whose file somebody moved away goes on, by the proven copy."""
    if not (site_dir / "leadglass.toml").exists() and not (site_dir / PROVEN_DIRECTORY).is_dir():
        raise Stopped(
            Exit.FAILED,
            f"{site_dir} is no site: it has no leadglass.toml",
            hint="name it with --site DIR, or `leadglass init DIR`",
        )
    try:
        return RemoteDesk(site_dir)
    except OSError:
        return LocalDesk(site_dir, assemble, questions)


class RemoteDesk:
    """The site runs: its keeper answers on a Unix socket, which knows our uid."""

    running = True

    def __init__(self, site_dir: Path) -> None:
        self._path = str(site_dir / SOCKET)
        self._changed = False
        self._connect().close()

    def ask(self, question: str, arguments: Row) -> Iterator[Row]:
        yield from self._rows({"ask": question, "arguments": arguments})

    def change(self, kind: ChangeKind, about: str, arguments: Row) -> Row:
        self._changed = True
        rows = list(self._rows({"change": kind, "about": about, "arguments": arguments}))
        return rows[-1] if rows else {}

    def close(self) -> None:
        """Whoever changed something leaves when every process acts by it."""
        if self._changed:
            self._changed = False
            with contextlib.suppress(Stopped):  # the change is done all the same
                list(self._rows({"wait": "until it acts"}))

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(self._path) as path:
                sock.connect(path)
        except OSError:
            sock.close()
            raise
        return sock

    def _rows(self, request: Row) -> Iterator[Row]:
        try:
            sock = self._connect()
        except OSError as error:
            raise Stopped(Exit.UNREACHABLE, f"the site stopped answering: {error}") from error
        with sock, sock.makefile("rwb") as stream:
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            while (line := stream.readline(LINE_LENGTH_MAX_BYTES)).endswith(b"\n"):
                answer = json.loads(line)
                if "row" in answer:
                    yield answer["row"]
                elif "stopped" in answer:
                    raise Stopped(Exit(answer["code"]), answer["stopped"], hint=answer.get("hint", ""))
                else:
                    return
        raise Stopped(
            Exit.UNREACHABLE, "the site stopped answering in the middle", hint="`leadglass status` says how it is"
        )


class LocalDesk:
    """Nothing runs: this process takes the site lock and opens the site itself, for the time of one command."""

    running = False

    def __init__(self, site_dir: Path, assemble: Assemble, questions: Mapping[str, Question]) -> None:
        self._lock = take_site_lock(site_dir)
        self._questions = questions
        try:
            self._house = assemble(site_dir)
        except BaseException:
            self._lock.close()
            raise

    def ask(self, question: str, arguments: Row) -> Iterator[Row]:
        yield from answers(self._house, self._questions, question, arguments, os.getuid())

    def change(self, kind: ChangeKind, about: str, arguments: Row) -> Row:
        return changed(self._house, os.getuid(), kind, about, arguments)

    def close(self) -> None:
        self._house.close()
        self._lock.close()


def take_site_lock(site_dir: Path) -> Any:
    """The open, locked file; closing it lets the lock go. Raises Stopped."""
    path = site_dir / SITE_LOCK
    path.parent.mkdir(exist_ok=True)
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise Stopped(
            Exit.UNREACHABLE,
            f"{site_dir} is in use, and does not answer on its socket",
            hint="another command may be at work: try again",
        ) from None
    return lock


def answers(house: House, questions: Mapping[str, Question], question: str, arguments: Row, uid: int) -> Iterator[Row]:
    """The rows of one question; who asks stands in its arguments as `operator_uid`, whatever they said there. Raises Stopped."""
    answer = questions.get(question)
    if answer is None:
        raise Stopped(Exit.USAGE, f"this site does not know the question {question!r}")
    operator = Operator(uid, user_name(uid))
    try:
        house.answers(operator, question)
    except NotPermitted as refusal:
        refusal.subject = operator
        with stopping():
            run(gateway.turn_away(house.do, operator.peer, refusal))
            raise
    with stopping():
        yield from answer(house, {**arguments, "operator_uid": uid})


def changed(house: House, uid: int, kind: ChangeKind, about: str, arguments: Row) -> Row:
    """One change by an operator, through the gateway. Raises Stopped."""
    with stopping():
        return ordered(house.do, uid, kind, about, arguments)


def ordered(do: gateway.Stages, uid: int, kind: ChangeKind, about: str, arguments: Row) -> Row:
    """The same where there is no command. Raises Refused, Fault."""
    return run(gateway.change(do, Change(uuid.uuid4().hex, Operator(uid, user_name(uid)), kind, about, arguments)))


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Refused and Fault become a message and an exit code."""
    try:
        yield
    except NotPermitted as refusal:
        raise Stopped(Exit.NOT_ALLOWED, refusal.reason) from refusal
    except Refused as refusal:
        raise Stopped(Exit.FAILED, refusal.reason) from refusal
    except Fault as fault:
        raise Stopped(Exit.FAILED, str(fault), hint=fault.hint) from fault


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """A socket path within the kernel's 107 bytes: a long one is reached through the directory's descriptor."""
    if len(path.encode()) < 100:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def listen(site_dir: Path, *, others: bool = False) -> socket.socket:
    """The command socket, for the site's own user and root only; a stale one is replaced. `others`: for the group of its directory too, whoever
    that is (deploy/README.md); what a member may there is for policy to say."""
    path = site_dir / SOCKET
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o117 if others else 0o177)
    try:
        with _short(str(path)) as short:
            sock.bind(short)
    finally:
        os.umask(old)
    sock.listen(32)
    return sock
