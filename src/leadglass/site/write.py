"""What do commands write beside a person's file, and which policy serves? Device files of their own, and the proven copy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from leadglass.site.load import DEVICES_DIRECTORY, SITE_FILE, load_from
from leadglass.site.model import Site
from leadglass.terms import Fault

PROVEN_DIRECTORY = Path("state") / "proven"


@dataclass(frozen=True, slots=True)
class Applied:
    """The policy that serves from now on. `at_restart`: what changed but acts only when processes start again."""

    digest: str
    live: tuple[str, ...]
    at_restart: tuple[str, ...]


def device_file(site_dir: Path, name: str) -> Path:
    return site_dir / DEVICES_DIRECTORY / f"{name}.toml"


def write_device(site_dir: Path, name: str, device: Mapping[str, object], flow: Mapping[str, object] | None) -> None:
    """One file: the device's table and its one flow. Durable when it returns."""
    lines = [f"[devices.{name}]", *_assignments(device)]
    if flow is not None:
        lines += ["", "[[flows]]", *_assignments(flow)]
    _durably(device_file(site_dir, name), ("\n".join(lines) + "\n").encode())


def repin_device(site_dir: Path, name: str, pins: Sequence[str]) -> None:
    """Other certificates for a device that a command enrolled; one that a person wrote is theirs to edit."""
    path = device_file(site_dir, name)
    if not path.exists():
        raise Fault(
            f"{name} stands in {SITE_FILE}, which no command rewrites",
            hint=f"set certificate = {_value(list(pins))} there, then `leadglass apply`",
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("certificate ")]
    at = next(number for number, line in enumerate(kept) if line.startswith("[devices.")) + 1
    kept.insert(at, f"certificate = {_value(list(pins))}")
    _durably(path, ("\n".join(kept) + "\n").encode())


def remove_device(site_dir: Path, name: str) -> None:
    device_file(site_dir, name).unlink(missing_ok=True)
    _sync_directory(site_dir / DEVICES_DIRECTORY)


def _assignments(table: Mapping[str, object]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_value(value)}"


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(_value(each) for each in value) + "]"
        case _:
            raise TypeError(f"{type(value).__name__} has no place in a device file")


# ---- the proven copy


def apply(site_dir: Path) -> Applied:
    """Makes the files as they lie there the ones that serve. The caller has proven them."""
    old = _proven_or_none(site_dir)
    target = _copy(site_dir, site_dir)
    new = load_from(target, site_dir)
    _switch(site_dir, target)
    return Applied(target.name, *_effects(old, new))


def apply_device(site_dir: Path, name: str) -> str:
    """Adds or replaces one device file in the copy that serves, leaving a person's unproven edits where they are: the new digest."""
    serving = proven_directory(site_dir)
    target = _copy(serving, site_dir, replace=device_file(site_dir, name))
    load_from(target, site_dir)
    _switch(site_dir, target)
    return target.name


def proven_directory(site_dir: Path) -> Path:
    """Where the policy that serves lies. Raises Fault where none was ever proven."""
    try:
        return (site_dir / PROVEN_DIRECTORY / "current").resolve(strict=True)
    except OSError as error:
        raise Fault("no site file was ever proven here", hint="`leadglass apply`") from error


def load_proven(site_dir: Path) -> Site:
    """The last proven site: what serves."""
    return load_from(proven_directory(site_dir), site_dir)


def _proven_or_none(site_dir: Path) -> Site | None:
    try:
        return load_proven(site_dir)
    except Fault:
        return None


def _copy(source: Path, site_dir: Path, replace: Path | None = None) -> Path:
    """A directory named by the digest of what it holds."""
    files = {SITE_FILE: (source / SITE_FILE).read_bytes()}
    for path in sorted((source / DEVICES_DIRECTORY).glob("*.toml")):
        files[f"{DEVICES_DIRECTORY}/{path.name}"] = path.read_bytes()
    if replace is not None:
        files[f"{DEVICES_DIRECTORY}/{replace.name}"] = replace.read_bytes()
    digest = hashlib.sha256(b"".join(name.encode() + b"\0" + files[name] + b"\0" for name in sorted(files))).hexdigest()
    target = site_dir / PROVEN_DIRECTORY / digest
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        (part / DEVICES_DIRECTORY).mkdir(parents=True)
        for name, content in files.items():
            _durably(part / name, content)
        _sync_directory(part)
        part.rename(target)
        _sync_directory(target.parent)
    return target


def _switch(site_dir: Path, target: Path) -> None:
    link = site_dir / PROVEN_DIRECTORY / "current"
    part = link.with_name(f".current.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.symlink_to(target.name)
    part.replace(link)
    _sync_directory(link.parent)


def _effects(old: Site | None, new: Site) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if old is None:
        return ("everything",), ()
    parts = ("name", "objects", "index", "key", "doors", "limits")
    later = tuple(part for part in parts if getattr(old, part) != getattr(new, part))
    return tuple(
        part for part in ("devices", "flows", "zones", "services") if getattr(old, part) != getattr(new, part)
    ), later


def _durably(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
