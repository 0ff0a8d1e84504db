"""`leadglass device ...`: enrol, sign, renew, revoke, disable, enable, waive, list, import. The device CA's key is opened here and nowhere else."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from leadglass.doors.command.application import JSON, Invocation, invocation, secret_from
from leadglass.doors.command.desk import Desk
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.identity.authority import Authority, KeyKind, PrivateKey, write_file
from leadglass.identity.enrolment import AS_BEFORE, Issued, Sheet, bundle, enroll, foreign, sign
from leadglass.site.device_facts import device_table, flow_table, settled
from leadglass.site.layout import CA_DIRECTORY, DEVICE_CA, anchors
from leadglass.site.schema import RECORD
from leadglass.site.secret import credential
from leadglass.terms import ChangeKind

WAIVER_HOURS_MAX = 72

DEVICE_CA_CREDENTIAL = "leadglass-device-ca"

PassphraseFile = Annotated[Path | None, typer.Option("--passphrase-file", help="Holds the device CA's passphrase.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the event.")]


def register(app: typer.Typer) -> None:
    noun = typer.Typer(help="Devices and clinical systems.", no_args_is_help=True)
    for name, command in _COMMANDS.items():
        noun.command(name)(command)
    app.add_typer(noun, name="device")


def _enroll(
    context: typer.Context,
    name: str,
    network: Annotated[str, typer.Option(help="Where it may come from, CIDR.")],
    ae: Annotated[list[str] | None, typer.Option(help="Its AE title; none for a system that speaks no DIMSE.")] = None,
    may: Annotated[str, typer.Option(help="echo,store,find,get,move,commit")] = "echo",
    out: Annotated[Path | None, typer.Option(help="Where the bundle goes.")] = None,
    address: Annotated[str, typer.Option(help="HOST:PORT where the archive may send to it.")] = "",
    zone: Annotated[str, typer.Option(help="Its zone; else the one that holds the network.")] = "",
    sop_class: Annotated[list[str] | None, typer.Option(help="Confines what it may store and see.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="A certificate of the hospital's own PKI to pin.")] = None,
    rsa: Annotated[bool, typer.Option("--rsa", help="RSA-2048 instead of EC P-256.")] = False,
    why: Annotated[str, typer.Option(help="Why its flow exists.")] = "",
    owner: str = "",
    maker: str = "",
    model: str = "",
    software: str = "",
    location: str = "",
    criticality: str = "",
    end_of_support: str = "",
    passphrase_file: PassphraseFile = None,
    as_json: JSON = False,
) -> None:
    """Enrols a device and writes its bundle for a USB stick."""
    record = dict(zip(RECORD, (owner, maker, model, software, location, criticality, end_of_support), strict=True))
    facts = {
        "name": name, "ae": ae or [], "network": network, "may": _listed(may), "address": address, "zone": zone,
        "sop_class": sop_class or [], "why": why, "record": record,
    }  # fmt: skip
    call = invocation(context)
    desk = call.desk()
    try:
        issued, key = _certified(call, name, certificate, None, KeyKind.RSA if rsa else KeyKind.EC, passphrase_file)
        result = enrolled(desk, facts, issued, kind="pinned" if certificate else "issued")
        files = bundle(issued, key, anchors(call.site_dir()), result["sheet"])
        write_bundle(out or Path.cwd() / name, files)
    finally:
        desk.close()
    call.output(as_json).object(
        {
            "device": name,
            "fingerprint": issued.fingerprint,
            "bundle": str(out or Path.cwd() / name),
            "zone": result["zone"],
        },
        f"{name} is enrolled in zone {result['zone']}; its bundle is in {out or Path.cwd() / name} (print sheet.txt, then erase the stick)",
    )


def enrolled(desk: Desk, facts: Mapping[str, Any], issued: Issued, *, kind: str) -> Mapping[str, Any]:
    """Checks the words, finds the zone, makes the change; `zone` and `sheet` for the caller. Raises Stopped."""
    site = next(iter(desk.ask("site", {})))
    facts, wrong = settled(facts, site["zones"])
    if wrong:
        raise Stopped(Exit.USAGE, f"--{wrong[0].fact.replace('_', '-')}: {wrong[0].what}", hint=wrong[0].mend)
    name = facts["name"]
    arguments = {
        "device": device_table(facts, issued.fingerprint),
        "flow": flow_table(facts),
        "certificate": issued.facts(),
        "kind": kind,
    }
    desk.change(ChangeKind.DEVICE_ENROLL, name, arguments)
    return {"zone": facts["zone"], "sheet": sheet_of(facts, site)}


def sheet_of(facts: Mapping[str, Any], site: Mapping[str, Any]) -> Sheet:
    """Of settled facts, at a site (`ae_title`, `host`, `port`)."""
    titles, may = tuple(facts["ae"]), tuple(facts["may"])
    return Sheet(facts["name"], titles, site["ae_title"], site["host"], site["port"], facts["network"], may)


def _sign(
    context: typer.Context,
    name: str,
    csr: Path,
    network: Annotated[str, typer.Option()],
    ae: Annotated[list[str] | None, typer.Option()] = None,
    may: str = "echo",
    out: Path | None = None,
    address: str = "",
    zone: str = "",
    passphrase_file: PassphraseFile = None,
    as_json: JSON = False,
) -> None:
    """Enrols a device whose key never leaves it: signs its certificate request."""
    call = invocation(context)
    facts = {
        "name": name, "ae": ae or [], "network": network, "may": _listed(may), "address": address, "zone": zone,
        "sop_class": [], "why": "", "record": {},
    }  # fmt: skip
    desk = call.desk()
    try:
        issued, _ = _certified(call, name, None, csr, KeyKind.EC, passphrase_file)
        result = enrolled(desk, facts, issued, kind="issued")
        write_bundle(out or Path.cwd() / name, bundle(issued, None, anchors(call.site_dir()), result["sheet"]))
    finally:
        desk.close()
    call.output(as_json).object(
        {"device": name, "fingerprint": issued.fingerprint}, f"{name} is enrolled; its certificate is signed"
    )


def _renew(
    context: typer.Context,
    name: str,
    out: Path | None = None,
    certificate: Path | None = None,
    rsa: Annotated[bool, typer.Option("--rsa")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: JSON = False,
) -> None:
    """A new certificate; the old one stays valid until the new one is first used."""
    call = invocation(context)
    desk = call.desk()
    try:
        known = _device(desk, name)
        issued, key = _certified(call, name, certificate, None, KeyKind.RSA if rsa else KeyKind.EC, passphrase_file)
        valid = [each["fingerprint"] for each in known["certificates"] if each["state"] in ("issued", "active")]
        pins = [pin for pin in known["pins"] if pin.startswith("spki-") or pin in valid]
        arguments = {
            "pins": [*pins, issued.fingerprint],
            "certificate": issued.facts(),
            "kind": "pinned" if certificate else "issued",
        }
        desk.change(ChangeKind.DEVICE_RENEW, name, arguments)
        site = next(iter(desk.ask("site", {})))
        sheet = Sheet(
            name,
            tuple(known["ae_titles"]),
            site["ae_title"],
            site["host"],
            site["port"],
            ", ".join(known["networks"]),
            (AS_BEFORE,),
        )
        write_bundle(out or Path.cwd() / name, bundle(issued, key, anchors(call.site_dir()), sheet))
    finally:
        desk.close()
    call.output(as_json).object(
        {"device": name, "fingerprint": issued.fingerprint},
        f"{name} has a new certificate; both are valid until it is used",
    )


def _revoke(
    context: typer.Context,
    name: str,
    reason: Reason = "revoked by an operator",
    passphrase_file: PassphraseFile = None,
    as_json: JSON = False,
) -> None:
    """Takes a device's certificates away: refused and cut within a second, everywhere."""
    call = invocation(context)
    desk = call.desk()
    try:
        known = _device(desk, name)
        fingerprints = sorted({each["fingerprint"] for each in known["certificates"]} | set(known["pins"]))
        desk.change(ChangeKind.DEVICE_REVOKE, name, {"fingerprints": fingerprints, "reason": reason})
        _publish_crl(call, desk, passphrase_file)
    finally:
        desk.close()
    call.output(as_json).object({"device": name, "revoked": fingerprints}, f"{name} is revoked")


def _publish_crl(call: Invocation, desk: Desk, passphrase_file: Path | None) -> None:
    """A by-product for others: our own list acts already. Skipped where the CA's key needs a passphrase that nobody gave."""
    try:
        authority = device_authority(call.site_dir(), passphrase_file, ask=False)
    except Stopped:
        return
    revoked = {int(row["serial"], 16): dt.datetime.fromisoformat(row["at"]) for row in desk.ask("revoked", {})}
    write_file(
        call.site_dir() / CA_DIRECTORY / "crl.pem", authority.revocation_list(revoked, dt.datetime.now(dt.UTC)), 0o644
    )


def _contain(kind: ChangeKind, done: str) -> Any:
    def command(context: typer.Context, name: str, reason: Reason = "by an operator", as_json: JSON = False) -> None:
        call = invocation(context)
        desk = call.desk()
        try:
            _device(desk, name)
            desk.change(kind, name, {"reason": reason})
        finally:
            desk.close()
        call.output(as_json).object({"device": name, "state": done}, f"{name} is {done}")

    command.__doc__ = f"The device is {done} until it is said otherwise; its certificate stays."
    return command


def _waive(
    context: typer.Context,
    name: str,
    hours: Annotated[float, typer.Option(help=f"For how long, at most {WAIVER_HOURS_MAX}.")] = 12,
    reason: Annotated[str, typer.Option(help="Why; recorded.")] = "",
    as_json: JSON = False,
) -> None:
    """Lets a device in whose certificate has expired, for some hours: care goes on while it is renewed."""
    if not reason or not 0 < hours <= WAIVER_HOURS_MAX:
        raise Stopped(Exit.USAGE, f"a waiver needs --reason and between 0 and {WAIVER_HOURS_MAX} --hours")
    call = invocation(context)
    until = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    desk = call.desk()
    try:
        known = _device(desk, name)
        fingerprints = [each["fingerprint"] for each in known["certificates"] if each["state"] in ("issued", "active")]
        desk.change(
            ChangeKind.DEVICE_WAIVE, name, {"until": until.isoformat(), "reason": reason, "fingerprints": fingerprints}
        )
    finally:
        desk.close()
    call.output(as_json).object(
        {"device": name, "until": until.isoformat()}, f"{name} is let in until {until:%Y-%m-%d %H:%M} UTC"
    )


def _list(context: typer.Context, as_json: JSON = False) -> None:
    """Enrolled devices and whoever called without being enrolled."""
    call = invocation(context)
    desk = call.desk()
    columns = {"name": "device", "state": "state", "zone": "zone", "ae_titles": "AE titles", "networks": "networks",
               "last_seen": "last seen", "software_seen": "software", "address_seen": "from"}  # fmt: skip
    try:
        call.output(as_json).table(
            desk.ask("devices", {}), columns, empty="no device is enrolled: `leadglass device enroll`"
        )
    finally:
        desk.close()


def _import(
    context: typer.Context,
    file: Path,
    out: Annotated[Path, typer.Option(help="A directory; one bundle a device goes below it.")],
    passphrase_file: PassphraseFile = None,
    as_json: JSON = False,
) -> None:
    """Enrols every row of a CSV: name,ae,network,may and optionally address,zone,sop_class,why,owner,maker,model,..."""
    call = invocation(context)
    desk, output = call.desk(), call.output(as_json)
    failed = 0
    try:
        authority = device_authority(call.site_dir(), passphrase_file)
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for number, row in enumerate(csv.DictReader(lines), start=2):
                try:
                    name = _one(desk, authority, row, out, anchors(call.site_dir()))
                    output.object(
                        {"device": name, "line": number, "enrolled": True}, f"line {number}: {name} is enrolled"
                    )
                except Stopped as stopped:
                    failed += 1
                    output.object(
                        {"line": number, "enrolled": False, "reason": str(stopped)}, f"line {number}: {stopped}"
                    )
    finally:
        desk.close()
    if failed:
        raise Stopped(
            Exit.FAILED,
            f"{failed} rows were not enrolled",
            hint="mend them and import again: enrolled ones are refused as such",
        )


def _one(
    desk: Desk, authority: Authority, row: Mapping[str, str | None], out: Path, trusted: list[x509.Certificate]
) -> str:
    words = {key: (value or "").strip() for key, value in row.items() if key}
    if missing := [key for key in ("name", "network") if not words.get(key)]:
        raise Stopped(Exit.USAGE, f"no {' and no '.join(missing)}")
    name = words["name"]
    issued, key = enroll(
        authority, name, KeyKind.RSA if words.get("key") == "rsa" else KeyKind.EC, dt.datetime.now(dt.UTC)
    )
    facts = {
        "name": name,
        "ae": words.get("ae", "").split(),
        "network": words["network"],
        "may": _listed(words.get("may", "echo").replace(" ", ",")),
        "address": words.get("address", ""),
        "zone": words.get("zone", ""),
        "sop_class": words.get("sop_class", "").split(),
        "why": words.get("why", ""),
        "record": {each: words.get(each, "") for each in RECORD},
    }
    result = enrolled(desk, facts, issued, kind="issued")
    write_bundle(out / name, bundle(issued, key, trusted, result["sheet"]))
    return name


# ---- shared


def write_bundle(directory: Path, files: Mapping[str, bytes]) -> None:
    """Private keys and the sheet with 0600."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_file(directory / name, content, 0o644 if name in ("client.pem", "ca.pem") else 0o600)


def _certified(
    call: Invocation, name: str, certificate: Path | None, csr: Path | None, kind: KeyKind, passphrase_file: Path | None
) -> tuple[Issued, PrivateKey | None]:
    if certificate is not None:
        return foreign(_read(certificate)), None
    authority = device_authority(call.site_dir(), passphrase_file)
    now = dt.datetime.now(dt.UTC)
    return (sign(authority, name, _read(csr), now), None) if csr is not None else enroll(authority, name, kind, now)


def device_authority(site_dir: Path, passphrase_file: Path | None, *, ask: bool = True) -> Authority:
    """The device CA, open: its key from the systemd credential `leadglass-device-ca` where there is one, else from the site. Raises Stopped, KeyFault."""
    directory = site_dir / CA_DIRECTORY
    key_file = credential(DEVICE_CA_CREDENTIAL) or directory / f"{DEVICE_CA}.key"
    sealed = b"ENCRYPTED" in _read(key_file)
    secret = (
        secret_from(passphrase_file, "Passphrase of the device CA") if sealed and (ask or passphrase_file) else None
    )
    if sealed and not secret:
        raise Stopped(Exit.USAGE, "the device CA's key is sealed", hint="give its passphrase with --passphrase-file")
    return Authority.open(directory, DEVICE_CA, secret, key_file)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Stopped(Exit.FAILED, f"{path} cannot be read: {error.strerror}") from error


def _device(desk: Desk, name: str) -> Mapping[str, Any]:
    for row in desk.ask("device", {"name": name}):
        return row
    raise Stopped(Exit.FAILED, f"no device {name} is enrolled", hint="`leadglass device list` shows who is")


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


_COMMANDS = {
    "enroll": _enroll,
    "sign": _sign,
    "renew": _renew,
    "revoke": _revoke,
    "disable": _contain(ChangeKind.DEVICE_DISABLE, "disabled"),
    "enable": _contain(ChangeKind.DEVICE_ENABLE, "enabled"),
    "waive": _waive,
    "list": _list,
    "import": _import,
}
