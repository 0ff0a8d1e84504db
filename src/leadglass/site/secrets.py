"""Where is a secret that the site file only names? In a file of its own, or with the service manager; never in the site file."""

from __future__ import annotations

import os
from pathlib import Path

from leadglass.terms import Fault

SECRET_LENGTH_MAX_BYTES = 4096


def reference_problem(reference: str) -> str:
    """Why this is no reference; "" where it is."""
    scheme, _, rest = reference.partition(":")
    if scheme not in ("file", "credential") or not rest or (scheme == "credential" and "/" in rest):
        return "a reference is needed, never the secret itself"
    return ""


def read_secret(reference: str, site_dir: Path) -> str:
    """`file:PATH` (relative to the site, mode 0600) or `credential:NAME` (systemd); without the line's end. Raises Fault."""
    scheme, _, rest = reference.partition(":")
    if scheme == "credential":
        path = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / Path(rest).name
    else:
        path = site_dir / rest.removeprefix("//")
    try:
        with path.open("rb") as file:
            if scheme == "file" and os.fstat(file.fileno()).st_mode & 0o077:
                raise Fault(f"others can read the secret {path}", hint=f"chmod 600 {path}, and give it a new value")
            return file.read(SECRET_LENGTH_MAX_BYTES).decode("utf-8", "replace").rstrip("\r\n")
    except OSError as error:
        raise Fault(f"the secret {path} cannot be read: {error.strerror}", hint="check path and owner") from error
