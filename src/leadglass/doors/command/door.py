"""`leadglass door ...`: the web door's certificate. From the hospital's CA by a request, or the site's own with a sheet that says how browsers come to trust it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.identity.authority import write_file
from leadglass.identity.doors import installed, requested
from leadglass.site.layout import CA_DIRECTORY, SERVING_CA
from leadglass.site.load import load
from leadglass.site.ports import web_address
from leadglass.terms import Refused

_SHEET = """\
Leadglass at {name}: how browsers come to trust it

Two ways. The first is better wherever the hospital has a certificate authority of its own.

1. A certificate from the hospital's CA
   leadglass door csr --out web.csr          the key stays here, in doors/web-hospital.key
   hand web.csr to the CA; it must name {name}
   leadglass door install web.crt chain.crt  the certificate, then its intermediates
   [doors.web] certificate = "doors/web-hospital.pem"   then leadglass apply, and restart

2. The site's own authority, installed in browsers
   File         {path}
   SHA-256      {fingerprint}
   It can vouch for {name} and this machine's private networks only, and ends {ends}.
   Windows      certutil -addstore -enterprise Root serving-ca.pem   (or by group policy: Trusted Root Certification Authorities)
   macOS        security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain serving-ca.pem
   Debian       cp serving-ca.pem /usr/local/share/ca-certificates/leadglass.crt && update-ca-certificates
   Firefox      follows the system with security.enterprise_roots.enabled; else Settings, Certificates, Authorities, Import
   Compare the SHA-256 above with what the browser shows before you trust it.

People then open {address}. A passkey belongs to that name: whoever opens an address, or another name, cannot use one.
"""


def register(app: typer.Typer) -> None:
    noun = typer.Typer(help="The web door's certificate.", no_args_is_help=True)
    noun.command("csr")(_csr)
    noun.command("install")(_install)
    noun.command("sheet")(_sheet)
    app.add_typer(noun, name="door")


def _csr(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Where the request goes.")],
    as_json: JSON = False,
) -> None:
    """A fresh key, which stays here, and a request for a certificate of the hospital's CA."""
    call = invocation(context)
    site = load(call.site_dir())
    write_file(out.resolve(), requested(site), 0o644)
    words = f"hand {out} to the CA; then: leadglass door install CERTIFICATE [INTERMEDIATE ...]"
    call.output(as_json).object({"csr": str(out), "name": site.name}, words)


def _install(
    context: typer.Context,
    certificates: Annotated[list[Path], typer.Argument(help="The certificate, then its intermediates, PEM.")],
    as_json: JSON = False,
) -> None:
    """Puts what the CA signed beside the key that asked for it; nothing is served by it before the site file names it."""
    call = invocation(context)
    try:
        pem = b"\n".join(each.read_bytes().strip() for each in certificates) + b"\n"
        path, ends = installed(load(call.site_dir()), pem, dt.datetime.now(dt.UTC))
    except OSError as error:
        raise Stopped(Exit.FAILED, f"{error.filename} cannot be read: {error.strerror}") from error
    except Refused as refusal:
        raise Stopped(Exit.FAILED, refusal.reason) from refusal
    named = path.relative_to(call.site_dir())
    call.output(as_json).object(
        {"certificate": str(named), "until": ends.isoformat()},
        f'good until {ends:%Y-%m-%d}; now [doors.web] certificate = "{named}", `leadglass apply`, and restart',
    )


def _sheet(context: typer.Context, as_json: JSON = False) -> None:
    """What whoever runs the workstations needs to know."""
    call = invocation(context)
    site = load(call.site_dir())
    path = call.site_dir() / CA_DIRECTORY / f"{SERVING_CA}.pem"
    authority = x509.load_pem_x509_certificate(path.read_bytes())
    fingerprint = authority.fingerprint(hashes.SHA256()).hex(":").upper()
    facts = {
        "name": site.name,
        "path": str(path),
        "fingerprint": fingerprint,
        "address": web_address(site) or "https://" + site.name,
    }
    ends = f"{authority.not_valid_after_utc:%Y-%m-%d}"
    call.output(as_json).object({**facts, "ends": ends}, _SHEET.format(**facts, ends=ends).rstrip())
