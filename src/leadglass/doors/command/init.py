"""`leadglass init`: a new site, nothing enrolled, nothing open; and `leadglass key verify`."""

from __future__ import annotations

import datetime as dt
import os
import secrets
import socket
from pathlib import Path
from typing import Annotated

import typer

from leadglass.audit.journal.ends import Ends
from leadglass.audit.journal.read import JournalReader
from leadglass.doors.command.application import JSON, invocation, secret_from
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.identity.authority import Authority, write_file
from leadglass.identity.doors import issue_door
from leadglass.identity.people.passwords import Unsuitable, suitable
from leadglass.site.format import write_format
from leadglass.site.keyring import Keyring
from leadglass.site.kit import verify_kit, write_kit
from leadglass.site.layout import (
    CA_DIRECTORY,
    DEVICE_CA,
    DIRECTORIES,
    KEYS_DIRECTORY,
    KIT_DIRECTORY,
    SERVING_CA,
    SITE_KEY,
)
from leadglass.site.load import load
from leadglass.site.sitekey import SiteKey
from leadglass.site.template import new_site_file
from leadglass.site.write import apply
from leadglass.terms import Person

PORT = 2762  # dicom-tls, PS3.8 9.1.1


def register(app: typer.Typer) -> None:
    app.command("init")(_init)
    noun = typer.Typer(help="The site's keys and its recovery kit.", no_args_is_help=True)
    noun.command("verify")(_verify)
    app.add_typer(noun, name="key")


def _init(
    context: typer.Context,
    directory: Path,
    loopback: Annotated[bool, typer.Option("--loopback", help="For this machine only; keys stay inside.")] = False,
    name: Annotated[str, typer.Option(help="The site's host name.")] = "",
    key: Annotated[Path | None, typer.Option(help="Where the site key goes: not beside the data.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Seals the device CA's key and the recovery kit.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """A new site directory: site file, certificate authorities, keys, stores. Nothing is enrolled, so nobody may do anything."""
    call = invocation(context)
    site_dir = directory.resolve()
    if site_dir.exists() and any(site_dir.iterdir()):
        raise Stopped(
            Exit.FAILED, f"{directory} is not empty", hint="choose a new directory; a site is never made over another"
        )
    host = name or ("localhost" if loopback else socket.getfqdn())
    passphrase = secret_from(passphrase_file, "Passphrase for the device CA and the recovery kit")
    if not passphrase and not loopback:
        raise Stopped(
            Exit.USAGE,
            "a passphrase is needed",
            hint="give it with --passphrase-file (or use --loopback to try things out)",
        )
    if passphrase:
        _hard_to_guess(passphrase, host)
    listen = _lay_out(site_dir, host, key, passphrase, loopback=loopback)
    warning = "\n  amber: the keys lie beside the data, good for trying things out only" if loopback else ""
    call.output(as_json).object(
        {
            "site": str(site_dir),
            "name": host,
            "loopback": loopback,
            "listen": listen,
            "kit": str(site_dir / KIT_DIRECTORY),
        },
        f"A new site is in {directory}: nothing enrolled, nothing open.{warning}\n"
        f"  next: leadglass --site {directory} device enroll NAME --ae AET --network CIDR --may echo,store --out STICK\n"
        f"        leadglass --site {directory} up\n"
        f"  move {site_dir / KIT_DIRECTORY} to a safe place: a restore starts from it alone",
    )


def _hard_to_guess(passphrase: bytes, host: str) -> None:
    """As a person's password, which it is to whoever finds the kit. Raises Stopped."""
    try:
        suitable(passphrase.decode(errors="replace"), Person("", host, host, frozenset()))
    except Unsuitable as refusal:
        why = str(refusal).replace("a password", "a passphrase")
        raise Stopped(Exit.USAGE, why, hint="a few words that nobody would guess") from None


def _lay_out(site_dir: Path, host: str, key: Path | None, passphrase: bytes | None, *, loopback: bool) -> str:
    """Everything below the directory, the site file proven; where the door will listen."""
    site_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in DIRECTORIES:
        (site_dir / each).mkdir(mode=0o700, exist_ok=True)
    write_format(site_dir)
    key_path = _key_path(site_dir, key, loopback=loopback)
    SiteKey.create(key_path)
    key_reference = f"file:{key_path.relative_to(site_dir) if loopback else key_path}"
    listen = f"127.0.0.1:{PORT}" if loopback else f"0.0.0.0:{PORT}"
    write_file(
        site_dir / "leadglass.toml",
        new_site_file(host, loopback=loopback, listen=listen, key=key_reference).encode(),
        0o644,
    )
    _authorities(site_dir, host, loopback=loopback, passphrase=passphrase)
    kit_phrase = passphrase
    if not kit_phrase:
        kit_phrase = secrets.token_urlsafe(18).encode()
        write_file(site_dir / KIT_DIRECTORY / "passphrase.txt", kit_phrase + b"\n", 0o600)
    site_key = SiteKey.open(key_reference, site_dir)
    write_kit(site_dir, site_key, kit_phrase, device_ca_passphrase=passphrase or b"")
    Ends(site_dir, site_key).note({})
    load(site_dir)
    apply(site_dir)
    return listen


def _key_path(site_dir: Path, key: Path | None, *, loopback: bool) -> Path:
    if loopback:
        return site_dir / KEYS_DIRECTORY / SITE_KEY
    if key is not None:
        return key.resolve()
    base = Path("/etc/leadglass") if os.geteuid() == 0 else Path.home() / ".config" / "leadglass"
    path = base / f"{site_dir.name}-{secrets.token_hex(4)}.key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _authorities(site_dir: Path, host: str, *, loopback: bool, passphrase: bytes | None) -> None:
    now = dt.datetime.now(dt.UTC)
    Authority.create(f"{host} device CA", now).save(site_dir / CA_DIRECTORY, DEVICE_CA, passphrase)
    names = [host, "localhost", "127.0.0.0/8", "::1/128"]
    if not loopback:
        names += ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]
    Authority.create(f"{host} serving CA", now, names=names).save(site_dir / CA_DIRECTORY, SERVING_CA, None)
    issue_door(site_dir, host, now)


def _verify(
    context: typer.Context,
    kit: Annotated[Path | None, typer.Option(help="The kit's directory.")] = None,
    passphrase_file: Annotated[Path | None, typer.Option(help="Opens the kit.")] = None,
    shares_file: Annotated[Path | None, typer.Option(help="Opens the kit: its shares, one a line.")] = None,
    as_json: JSON = False,
) -> None:
    """Proves that the recovery kit and the keys open this site's store."""
    call = invocation(context)
    site_dir = call.site_dir()
    directory = kit or site_dir / KIT_DIRECTORY
    shares = [line for line in shares_file.read_text().splitlines() if line.strip()] if shares_file else []
    phrase = None if shares else secret_from(passphrase_file or _beside(directory), "Passphrase of the kit")
    if not phrase and not shares:
        hint = "give it with --passphrase-file, or shares with --shares-file"
        raise Stopped(Exit.USAGE, "the kit's passphrase is needed", hint=hint)

    def journal(key: SiteKey) -> None:
        next(JournalReader.open(site_dir, Keyring.open(site_dir, key, None)).read(), None)

    site_key = SiteKey.open(load(site_dir).key, site_dir)
    proved = tuple(
        verify_kit(site_dir, directory, phrase or b"", site_key, shares=shares, further={"journal": journal})
    )
    call.output(as_json).object({"kit": str(directory), "opens": list(proved)}, "the kit opens: " + ", ".join(proved))


def _beside(directory: Path) -> Path | None:
    path = directory / "passphrase.txt"
    return path if path.exists() else None
