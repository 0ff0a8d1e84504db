"""What does a restore start from? The recovery kit: site key and CA keys in one file, sealed by a passphrase or by t of n shares.

`init` writes one; the operator takes it off the machine. People make further ones at the console, in shares. Every other key (register, index, journal,
keyring) derives from the site key.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from leadglass.site.keyring import Keyring
from leadglass.site.layout import CA_DIRECTORY, DEVICE_CA, KIT_DIRECTORY
from leadglass.site.register import Register
from leadglass.site.shares import Share, join, split
from leadglass.site.sitekey import SiteKey, seal, unseal
from leadglass.terms import KeyFault

KIT_FILE, SHEET_FILE = "recovery-kit.json", "recovery-kit.txt"
FORMAT = 1
_CONTEXT = b"leadglass/recovery-kit/1"
_SCRYPT = {"n": 1 << 17, "r": 8, "p": 1}  # RFC 7914: 128 MiB, half a second
_SCRYPT_BYTES_MAX = 1 << 30  # what a kit may ask of the machine that opens it
_SHEET_LINE = re.compile(r"([0-9]{2,4}) +([A-Za-z0-9+/=]+) +([0-9a-f]{4})")
_SHEET_COLUMNS = 60
_SECRET_LENGTH_BYTES = 32
_SHARE_MARK = "leadglass-share:1"
_NEW_KIT = "make a new one: Keys, at the console"


@dataclass(frozen=True, slots=True)
class Kit:
    """`text`: the sealed file. `shares`: lines to hand out. `lacks`: what a restore of everything needs besides, kept wherever it is kept."""

    text: str = field(repr=False)
    shares: tuple[str, ...] = field(repr=False)
    lacks: str

    @property
    def sheet(self) -> str:
        """The same, to print."""
        return sheet_of(self.text)


def write_kit(
    site_dir: Path,
    site_key: SiteKey,
    passphrase: bytes,
    *,
    device_ca_passphrase: bytes,
    shares: tuple[int, int] | None = None,
) -> tuple[str, ...]:
    """Into `kit/`: the sealed file and a sheet to print; the shares."""
    kit = make_kit(site_dir, site_key, passphrase, device_ca_passphrase=device_ca_passphrase, shares=shares)
    directory = site_dir / KIT_DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    _private(directory / KIT_FILE, kit.text)
    _private(directory / SHEET_FILE, kit.sheet)
    return kit.shares


def make_kit(
    site_dir: Path,
    site_key: SiteKey,
    passphrase: bytes,
    *,
    device_ca_passphrase: bytes = b"",
    shares: tuple[int, int] | None = None,
) -> Kit:
    """With `shares` = (t, n) the n lines to hand out, any t of which open it as the passphrase does."""
    salt, secret = os.urandom(16), os.urandom(_SECRET_LENGTH_BYTES)
    content = {
        "site_key": site_key.text(),
        "device_ca_passphrase": device_ca_passphrase.decode(errors="surrogateescape"),
        "authorities": dict(_authorities(site_dir)),
    }
    kit = {
        "format": FORMAT,
        "scrypt": {**_SCRYPT, "salt": base64.b64encode(salt).decode()},
        "opener": _text(seal(_stretched(passphrase, salt, _SCRYPT), secret, _CONTEXT)),
        "sealed": _text(seal(secret, json.dumps(content).encode(), _CONTEXT)),
    }
    threshold, count = shares or (0, 0)
    lines = tuple(_share_line(threshold, each) for each in split(secret, threshold, count)) if shares else ()
    return Kit(json.dumps(kit), lines, _lacking(site_dir, device_ca_passphrase))


def _authorities(site_dir: Path) -> Iterator[tuple[str, str]]:
    """What this process may read of them: the device CA's key may belong to whoever signs enrolments."""
    for path in sorted((site_dir / CA_DIRECTORY).iterdir()):
        with contextlib.suppress(PermissionError):
            yield path.name, path.read_text()


def _lacking(site_dir: Path, device_ca_passphrase: bytes) -> str:
    path = site_dir / CA_DIRECTORY / f"{DEVICE_CA}.key"
    try:
        _open_authority(path, device_ca_passphrase)
    except OSError:
        return "the device CA's key"
    except KeyFault:
        return "the passphrase of the device CA's key"
    return ""


def open_kit(directory: Path, *, passphrase: bytes = b"", shares: Sequence[str] = ()) -> dict[str, object]:
    """What the kit holds, read from its file, or from the sheet where only that is left. Raises KeyFault."""
    return opened(_read(directory), passphrase=passphrase, shares=shares)


def opened(text: str, *, passphrase: bytes = b"", shares: Sequence[str] = ()) -> dict[str, object]:
    """What the kit holds. Raises KeyFault."""
    try:
        kit = json.loads(text)
        if kit["format"] != FORMAT:
            raise KeyFault(
                f"a recovery kit of format {kit['format']}; this program knows {FORMAT}", hint="upgrade the program"
            )
        scrypt, salt = kit["scrypt"], base64.b64decode(kit["scrypt"]["salt"])
        opener, sealed = base64.b64decode(kit["opener"]), base64.b64decode(kit["sealed"])
        if 128 * scrypt["n"] * scrypt["r"] * scrypt["p"] > _SCRYPT_BYTES_MAX:
            raise ValueError("it asks for too much memory")
        held = list(_shares(shares))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyFault(
            f"the recovery kit or a share is damaged: {error}", hint="use the other copy, or the printed sheet"
        ) from error
    try:
        secret = join(held) if held else unseal(_stretched(passphrase, salt, scrypt), opener, _CONTEXT)
        return dict(json.loads(unseal(secret, sealed, _CONTEXT)))
    except (KeyFault, ValueError) as error:
        what = f"these {len(held)} shares" if held else "this passphrase"
        raise KeyFault(
            f"the recovery kit does not open with {what}",
            hint="fewer shares than were asked for, or one of another kit, open nothing"
            if held
            else "is it this kit's?",
        ) from error


def verify_kit(
    site_dir: Path,
    directory: Path,
    passphrase: bytes,
    site_key: SiteKey,
    *,
    shares: Sequence[str] = (),
    further: Mapping[str, Callable[[SiteKey], object]] = MappingProxyType({}),
) -> Iterator[str]:
    """Proves that kit and keys open the store; what was opened, one by one. `further`: proofs of who knows more files. Raises KeyFault."""
    content = open_kit(directory, passphrase=passphrase, shares=shares)
    kept = SiteKey.parse(str(content["site_key"]))
    if kept.text() != site_key.text():
        raise KeyFault("the kit holds another site key than the site uses", hint="is it this site's kit?")
    yield "site key"
    Register.open(site_dir / "register.db", kept.derive("register")).close()
    yield "register"
    yield f"keyring ({Keyring.open(site_dir, kept, None).studies()} keys)"
    for name, proof in further.items():
        proof(kept)
        yield name
    authorities = content["authorities"]
    assert isinstance(authorities, dict)
    for path in sorted((site_dir / CA_DIRECTORY).glob("*.key")):
        if authorities.get(path.name) != path.read_text():
            raise KeyFault(f"the kit lacks the present {path.name}", hint=_NEW_KIT)
        passphrase = str(content["device_ca_passphrase"]).encode(errors="surrogateescape")
        try:
            _open_authority(path, passphrase)
        except KeyFault:
            if passphrase:
                raise
            yield f"{path.name} (its passphrase is kept elsewhere)"
        else:
            yield path.name


def _open_authority(path: Path, passphrase: bytes) -> None:
    for given in (None, passphrase):
        with contextlib.suppress(TypeError, ValueError):  # sealed without a passphrase given, or open with one
            load_pem_private_key(path.read_bytes(), given or None)
            return
    raise KeyFault(f"the kit's passphrase does not open {path.name}", hint=_NEW_KIT)


def _read(directory: Path) -> str:
    file, sheet = directory / KIT_FILE, directory / SHEET_FILE
    try:
        return file.read_text() if file.exists() else read_sheet(sheet.read_text())
    except FileNotFoundError as error:
        raise KeyFault(f"no recovery kit in {directory}", hint="name its directory with --kit") from error
    except OSError as error:
        raise KeyFault(f"the recovery kit cannot be read: {error.strerror}", hint="check its permissions") from error


def _shares(lines: Iterable[str]) -> Iterator[Share]:
    for line in lines:
        mark, _, rest = line.strip().partition(f"{_SHARE_MARK}:")
        text, _, check = rest.rpartition(":")
        _, number, data = text.split(":")
        if mark or check != _check(text):
            raise ValueError(f"share {number} has a slip in it")
        yield Share(int(number), base64.b64decode(data, validate=True))


def _share_line(threshold: int, share: Share) -> str:
    text = f"{threshold}:{share.number}:{_text(share.data)}"
    return f"{_SHARE_MARK}:{text}:{_check(text)}"


def _check(text: str) -> str:
    """Four hexadecimal digits that notice a slip of whoever types."""
    return f"{zlib.crc32(text.encode()) & 0xFFFF:04x}"


def _stretched(passphrase: bytes, salt: bytes, parameters: dict[str, int]) -> bytes:
    return Scrypt(salt, _SECRET_LENGTH_BYTES, parameters["n"], parameters["r"], parameters["p"]).derive(passphrase)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sheet_of(kit: str) -> str:
    body = _text(kit.encode())
    pieces = [body[start : start + _SHEET_COLUMNS] for start in range(0, len(body), _SHEET_COLUMNS)]
    lines = [
        "LEADGLASS  recovery kit",
        "=" * 72,
        f"A restore starts from {KIT_FILE}, or from this sheet typed or scanned into {SHEET_FILE},",
        "and its passphrase, or enough shares. Keep it off the machine, and the passphrase apart from it.",
        "Each line: its number, 60 characters, a check value that finds a slip.",
        "-" * 72,
        *(
            f"{number:02d} {piece:{_SHEET_COLUMNS}} {_check(f'{number}:{piece}')}"
            for number, piece in enumerate(pieces, 1)
        ),
    ]
    return "\n".join(lines) + "\n"


def read_sheet(sheet: str) -> str:
    """The kit's file from its sheet. Raises KeyFault that names the line with a slip in it."""
    pieces: list[str] = []
    for line in sheet.splitlines():
        found = _SHEET_LINE.fullmatch(line.strip())
        if found is None:
            continue
        number, piece, check = int(found[1]), found[2], found[3]
        if number != len(pieces) + 1 or check != _check(f"{number}:{piece}"):
            raise KeyFault(
                f"line {len(pieces) + 1} of the recovery sheet has a slip in it", hint="type that line again"
            )
        pieces.append(piece)
    try:
        return base64.b64decode("".join(pieces), validate=True).decode()
    except ValueError:
        raise KeyFault("the recovery sheet is not all there", hint="type every line of it") from None


def _private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
