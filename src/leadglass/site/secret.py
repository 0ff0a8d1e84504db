"""Where does a secret that others gave us lie? Behind a reference in the site file: `file:PATH` or `credential:NAME`."""

from __future__ import annotations

import os
from pathlib import Path

from leadglass.terms import KeyFault

SECRET_LENGTH_MAX_BYTES = 4096


def credential(name: str) -> Path | None:
    """The file of a systemd credential of this process; None where it was given none of that name."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path is not None and path.exists() else None


def read_secret(what: str, reference: str, site_dir: Path) -> str:
    """The text behind a reference, the line's end left out. `what` names it for an operator. Raises KeyFault."""
    scheme, _, rest = reference.partition(":")
    private = scheme == "file"
    if private and rest:
        path = site_dir / rest.removeprefix("//")
    elif scheme == "credential" and rest and "/" not in rest:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise KeyFault(
                f"{what}: no credential {rest}, for this process has none", hint="LoadCredential= in the unit"
            )
        path = Path(directory) / rest
    else:
        raise KeyFault(f"{what} is no reference", hint="file:PATH or credential:NAME")
    try:
        with path.open("rb") as file:
            if private and os.fstat(file.fileno()).st_mode & 0o077:
                raise KeyFault(f"{what}: others can read {path}", hint=f"chmod 600 {path}; if they did, change it")
            content = file.read(SECRET_LENGTH_MAX_BYTES + 1)
    except OSError as error:
        hint = "put it there, readable by the site's own user alone"
        raise KeyFault(f"{what}: {path} cannot be read: {error.strerror}", hint=hint) from error
    try:
        secret = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise KeyFault(f"{what}: {path} is not UTF-8", hint="one line of text") from None
    if not secret or len(content) > SECRET_LENGTH_MAX_BYTES or "\n" in secret or "\0" in secret:
        raise KeyFault(f"{what}: {path} holds no secret", hint=f"one line, at most {SECRET_LENGTH_MAX_BYTES} bytes")
    return secret
