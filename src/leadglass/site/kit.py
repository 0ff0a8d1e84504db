"""What does a restore start from? The recovery kit: site key and CA keys in one file, sealed by a passphrase or by t of n shares.

`init` writes it; the operator takes it off the machine. Every other key (register, index, journal, keyring) derives from the site key.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from leadglass.site.keyring import Keyring
from leadglass.site.layout import CA_DIRECTORY, KIT_DIRECTORY
from leadglass.site.register import Register
from leadglass.site.shares import Share, join, split
from leadglass.site.sitekey import SiteKey, seal, unseal
from leadglass.terms import KeyFault

KIT_FILE, SHEET_FILE = "recovery-kit.json", "recovery-kit.txt"
FORMAT = 1
_CONTEXT = b"leadglass/recovery-kit/1"
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}  # 32 MiB, about 0.1 s
_SECRET_LENGTH_BYTES = 32
_SHARE_MARK = "leadglass-share:1"


def write_kit(
    site_dir: Path,
    site_key: SiteKey,
    passphrase: bytes,
    *,
    device_ca_passphrase: bytes,
    shares: tuple[int, int] | None = None,
) -> tuple[str, ...]:
    """Into `kit/`: the sealed file and a sheet to print. With `shares` = (t, n) the n lines to hand out, which open it as the passphrase does."""
    salt, secret = os.urandom(16), os.urandom(_SECRET_LENGTH_BYTES)
    content = {
        "site_key": site_key.text(),
        "device_ca_passphrase": device_ca_passphrase.decode(),
        "authorities": {path.name: path.read_text() for path in sorted((site_dir / CA_DIRECTORY).iterdir())},
    }
    kit = {
        "format": FORMAT,
        "scrypt": {**_SCRYPT, "salt": base64.b64encode(salt).decode()},
        "opener": _text(seal(_stretched(passphrase, salt, _SCRYPT), secret, _CONTEXT)),
        "sealed": _text(seal(secret, json.dumps(content).encode(), _CONTEXT)),
    }
    directory = site_dir / KIT_DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    text = json.dumps(kit)
    _private(directory / KIT_FILE, text)
    _private(directory / SHEET_FILE, _sheet(text))
    if shares is None:
        return ()
    threshold, count = shares
    return tuple(
        f"{_SHARE_MARK}:{threshold}:{share.number}:{_text(share.data)}" for share in split(secret, threshold, count)
    )


def open_kit(directory: Path, *, passphrase: bytes = b"", shares: Sequence[str] = ()) -> dict[str, object]:
    """What the kit holds. Raises KeyFault."""
    try:
        kit = json.loads((directory / KIT_FILE).read_text())
        if kit["format"] != FORMAT:
            raise KeyFault(
                f"a recovery kit of format {kit['format']}; this program knows {FORMAT}", hint="upgrade the program"
            )
        if shares:
            secret = join(_shares(shares))
        else:
            parameters = kit["scrypt"]
            salt = base64.b64decode(parameters.pop("salt"))
            secret = unseal(_stretched(passphrase, salt, parameters), base64.b64decode(kit["opener"]), _CONTEXT)
        return dict(json.loads(unseal(secret, base64.b64decode(kit["sealed"]), _CONTEXT)))
    except FileNotFoundError as error:
        raise KeyFault(f"no recovery kit in {directory}", hint="name its directory with --kit") from error
    except KeyFault as error:
        raise KeyFault("the recovery kit does not open with this passphrase or these shares") from error
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise KeyFault(
            f"the recovery kit is damaged: {error}", hint="use the other copy, or the printed sheet"
        ) from error


def verify_kit(site_dir: Path, directory: Path, passphrase: bytes, site_key: SiteKey) -> Iterator[str]:
    """Proves that kit and keys open the store; what was opened, one by one. Raises KeyFault."""
    content = open_kit(directory, passphrase=passphrase)
    kept = SiteKey.parse(str(content["site_key"]))
    if kept.text() != site_key.text():
        raise KeyFault("the kit holds another site key than the site uses", hint="is it this site's kit?")
    yield "site key"
    Register.open(site_dir / "register.db", kept.derive("register")).close()
    yield "register"
    keyring = Keyring.open(site_dir, kept, None)
    yield f"keyring ({keyring.studies()} keys)"
    authorities = content["authorities"]
    assert isinstance(authorities, dict)
    for path in sorted((site_dir / CA_DIRECTORY).glob("*.key")):
        if authorities.get(path.name) != path.read_text():
            raise KeyFault(f"the kit lacks the present {path.name}", hint="write a new kit")
        yield path.name


def _shares(lines: Iterable[str]) -> Iterator[Share]:
    for line in lines:
        mark, _, rest = line.strip().partition(f"{_SHARE_MARK}:")
        _, number, data = rest.split(":")
        if mark:
            raise ValueError("no share")
        yield Share(int(number), base64.b64decode(data, validate=True))


def _stretched(passphrase: bytes, salt: bytes, parameters: dict[str, int]) -> bytes:
    return Scrypt(salt, _SECRET_LENGTH_BYTES, parameters["n"], parameters["r"], parameters["p"]).derive(passphrase)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _sheet(kit: str) -> str:
    lines = [
        "LEADGLASS  recovery kit",
        "=" * 72,
        "A restore starts from this sheet (or recovery-kit.json) and its passphrase, or enough shares.",
        "Keep it off the machine, and the passphrase apart from it.",
        "-" * 72,
        *textwrap.wrap(kit, 72, break_on_hyphens=False, drop_whitespace=False),
    ]
    return "\n".join(lines) + "\n"


def _private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
