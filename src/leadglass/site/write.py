"""What do commands write beside a person's file, and which policy serves? Device files of their own, and the proven copy."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leadglass.site import since
from leadglass.site.document import FILE_LENGTH_MAX_BYTES
from leadglass.site.load import DEVICES_DIRECTORY, SITE_FILE, load_from
from leadglass.site.model import Site, name_problem
from leadglass.terms import Fault, NotChanged

PROVEN_DIRECTORY = Path("state") / "proven"
PROVEN_LOCK = Path("state") / "proven.lock"
PROVEN_KEPT_MAX = 8  # the one that serves and those before it: a process may still be reading an older one
LIVE = ("devices", "flows", "zones", "services", "tests", "never", "operators", "roles", "firewall", "backups")
AT_RESTART = ("name", "loopback", "objects", "index", "key", "doors", "limits", "notices", "enroller", "filterer")

Accept = Callable[[Site], None]


@dataclass(frozen=True, slots=True)
class Applied:
    """The policy that serves from now on. `at_restart`: what changed but acts only when processes start again."""

    digest: str
    live: tuple[str, ...]
    at_restart: tuple[str, ...]


# ---- device files


def device_file(site_dir: Path, name: str) -> Path:
    """Where a command keeps a device. Raises NotChanged for a name that could lead anywhere else."""
    if problem := name_problem(name):
        raise NotChanged(f"{name[:64]!r} cannot name a device: {problem}")
    return site_dir / DEVICES_DIRECTORY / f"{name}.toml"


def write_device(site_dir: Path, name: str, device: Mapping[str, object], flow: Mapping[str, object] | None) -> None:
    """One file: the device's table and its one flow. Durable when it returns. Raises NotChanged."""
    path = device_file(site_dir, name)
    lines = [f"[devices.{_key(name)}]", *_assignments(device)]
    if flow is not None:
        lines += ["", "[[flows]]", *_assignments(flow)]
    durably(path, ("\n".join(lines) + "\n").encode())


def repin_device(site_dir: Path, name: str, pins: Sequence[str]) -> None:
    """Other certificates for a device that a command enrolled; one that a person wrote, or wrote in, is theirs to edit. Raises Fault."""
    path = device_file(site_dir, name)
    by_hand = f"set certificate = {_value(list(pins))} there, then `leadglass apply`"
    if not path.exists():
        raise Fault(f"{name} stands in {SITE_FILE}, which no command rewrites", hint=by_hand)
    try:
        text = path.read_text(encoding="utf-8")
        wanted = tomllib.loads(text)
        wanted["devices"][name]["certificate"] = list(pins)
        kept = [line for line in text.split("\n") if not re.match(r"certificate\s*=", line)]
        kept.insert(kept.index(f"[devices.{_key(name)}]") + 1, f"certificate = {_value(list(pins))}")
        edited = "\n".join(kept)
        exact = tomllib.loads(edited) == wanted
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fault(f"{path.name} is not as a command wrote it: {error}", hint=by_hand) from error
    if not exact:
        raise Fault(f"{path.name} is not as a command wrote it", hint=by_hand)
    durably(path, edited.encode())


def remove_device(site_dir: Path, name: str) -> None:
    path = device_file(site_dir, name)
    if path.exists():
        path.unlink()
        _sync_directory(path.parent)


def _assignments(table: Mapping[str, object]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise NotChanged(f"{value[:64]!r} is no text: {error}") from error
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(_value(each) for each in value) + "]"
        case _:
            raise NotChanged(f"{type(value).__name__} has no place in a device file")


# ---- the proven copy


def apply(site_dir: Path, accept: Accept = lambda site: None) -> Applied:
    """Makes the files as they lie there the ones that serve. `accept` proves exactly what was copied, which has its digest already, and raises where
    it may not serve.

    Durable when it returns; a crash before leaves what served before. Raises SiteInvalid, Fault.
    """
    with alone(site_dir):
        old = _proven_or_none(site_dir)
        target, new = _prepared(site_dir, _contents(site_dir), accept)
        _since(site_dir, new)
        _switch(site_dir, target)
    return Applied(target.name, *_effects(old, new))


def apply_device(site_dir: Path, name: str, accept: Accept = lambda site: None) -> str:
    """Adds or replaces one device file in the copy that serves, leaving a person's unproven edits where they are: the new digest.

    Raises SiteInvalid, Fault, NotChanged.
    """
    path = device_file(site_dir, name)
    with alone(site_dir):
        files = {**_contents(proven_directory(site_dir)), f"{DEVICES_DIRECTORY}/{path.name}": _bounded(path)}
        target, new = _prepared(site_dir, files, accept)
        _since(site_dir, new)
        _switch(site_dir, target)
    return target.name


def proven_directory(site_dir: Path) -> Path:
    """Where the policy that serves lies. Raises Fault where none was ever proven."""
    try:
        return (site_dir / PROVEN_DIRECTORY / "current").resolve(strict=True)
    except OSError as error:
        raise Fault("no site file was ever proven here", hint="`leadglass apply`") from error


def load_proven(site_dir: Path) -> Site:
    """The last proven site: what serves. Raises Fault where there is none, or where it is not what was proven."""
    directory = proven_directory(site_dir)
    if _digest(_contents(directory)) != directory.name:
        raise Fault("the proven site file is not the one that was proven", hint="`leadglass check`, `leadglass apply`")
    return replace(load_from(directory, site_dir), digest=directory.name)


def _proven_or_none(site_dir: Path) -> Site | None:
    try:
        return load_proven(site_dir)
    except Fault:
        return None


def draft_digest(site_dir: Path) -> str:
    """Of the files as they lie there, proven or not: the name they would have if they served. Raises Fault."""
    return _digest(_contents(site_dir))


@contextlib.contextmanager
def alone(site_dir: Path) -> Iterator[None]:
    """Two that apply at once would take each other's device file back out. Whoever looks at what serves, then writes by it, does both here."""
    path = site_dir / PROVEN_LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _contents(source: Path) -> dict[str, bytes]:
    """Every file of a site's policy. Raises Fault."""
    files = {SITE_FILE: _bounded(source / SITE_FILE)}
    for path in sorted((source / DEVICES_DIRECTORY).glob("*.toml")):
        files[f"{DEVICES_DIRECTORY}/{path.name}"] = _bounded(path)
    return files


def texts(source: Path) -> dict[str, str]:
    """Every file of a policy that was proven, by name. Raises Fault."""
    return {name: content.decode() for name, content in _contents(source).items()}


def _bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_LENGTH_MAX_BYTES + 1)
    except OSError as error:
        raise Fault(f"{path.name} cannot be read: {error}", hint="`leadglass check`") from error
    if len(content) > FILE_LENGTH_MAX_BYTES:
        raise Fault(f"{path.name} is larger than {FILE_LENGTH_MAX_BYTES} bytes", hint="split devices into devices.d")
    return content


def _digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over each name and content, each ended by a NUL, which neither holds: TOML knows none."""
    parts = (part + b"\0" for name in sorted(files) for part in (os.fsencode(name), files[name]))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _prepared(site_dir: Path, files: Mapping[str, bytes], accept: Accept) -> tuple[Path, Site]:
    """A directory named by the digest of what it holds, parsed and accepted; it serves only once it is switched to."""
    target = site_dir / PROVEN_DIRECTORY / _digest(files)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / DEVICES_DIRECTORY).mkdir(parents=True)
    try:
        _fill(part, files, site_dir / PROVEN_DIRECTORY / "current")
        site = replace(load_from(part, site_dir), digest=target.name)
        accept(site)
        if not _holds(target, files):
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
        os.utime(target)  # the newest are kept
        _sync_directory(target.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target, site


def _fill(part: Path, files: Mapping[str, bytes], serving: Path) -> None:
    """What serves already is linked: enrolling the thousandth device costs one sync of a file, not a thousand."""
    try:
        known = _contents(serving)
    except Fault:
        known = {}
    for name, content in files.items():
        if known.get(name) == content:
            os.link(serving / name, part / name)
        else:
            _synced(part / name, content)
    _sync_directory(part / DEVICES_DIRECTORY)
    _sync_directory(part)


def _holds(target: Path, files: Mapping[str, bytes]) -> bool:
    try:
        return _contents(target) == files
    except Fault:
        return False


def _since(site_dir: Path, new: Site) -> None:
    """Before the switch: a crash in between makes something younger than it is, never older."""
    old, applied_ns = None, 0
    if not (site_dir / since.FILE).exists() and (old := _proven_or_none(site_dir)) is not None:
        applied_ns = proven_directory(site_dir).stat().st_mtime_ns
    durably(site_dir / since.FILE, since.remembered(site_dir, old, applied_ns, new, time.time_ns()))


def _switch(site_dir: Path, target: Path) -> None:
    link = site_dir / PROVEN_DIRECTORY / "current"
    part = link.with_name(".current.part")
    part.unlink(missing_ok=True)
    part.symlink_to(target.name)
    part.replace(link)
    _sync_directory(link.parent)
    former = [each for each in link.parent.iterdir() if each.is_dir() and not each.is_symlink() and each != target]
    for each in sorted(former, key=lambda each: each.stat().st_mtime_ns, reverse=True)[PROVEN_KEPT_MAX - 1 :]:
        shutil.rmtree(each, ignore_errors=True)


def _effects(old: Site | None, new: Site) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if old is None:
        return ("everything",), ()
    live, later = (
        tuple(part for part in parts if getattr(old, part) != getattr(new, part)) for parts in (LIVE, AT_RESTART)
    )
    return live, later


def durably(path: Path, content: bytes) -> None:
    """The old content or the new one, whenever the power goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    _synced(part, content)
    part.replace(path)
    _sync_directory(path.parent)


def _synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
