"""How is a device enrolled, or its certificate renewed, that somebody asked for at the console? Asked for, signed by whoever holds the device CA's
key, collected once.

The order at the signing: the bundle first, then the device, then the state. A crash in between leaves the request asked, with what was issued
beside it, so that a repeat completes it and nothing that is registered is signed twice.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadglass.doors.house import House
from leadglass.identity.enrolment import AS_BEFORE, requested_key
from leadglass.site.device_facts import Facts, Misstated, settled
from leadglass.site.document import SiteInvalid
from leadglass.site.enrolments import Enrolment, Enrolments
from leadglass.site.model import Site
from leadglass.site.write import device_file
from leadglass.terms import Change, ChangeKind, NotChanged, Refused, Unenrollable

Result = Mapping[str, object]
Arguments = Mapping[str, Any]
CSR_CHARACTERS_MAX = 16_384
BUNDLE_LENGTH_MAX_BYTES = 256 << 10
REASON_CHARACTERS_MAX = 300
NO_ENROLLER = "nobody signs for the console here: [enrolment] user in leadglass.toml names who does, and `leadglass serve enroll` runs as them"


@dataclass(frozen=True, slots=True)
class EnrolmentParts:
    """What these changes act on. `site`: the one that serves. `clock`: Unix nanoseconds."""

    site_dir: Path
    site: Callable[[], Site]
    enrolments: Enrolments
    clock: Callable[[], int] = time.time_ns


def problems(site: Site, site_dir: Path, facts: Facts, csr: str) -> tuple[dict[str, Any], list[Misstated]]:
    """The facts settled, and everything that is wrong with what somebody asks for."""
    found, wrong = settled(facts, {name: [str(each) for each in zone.networks] for name, zone in site.zones.items()})
    name = str(facts["name"])
    if not any(each.fact == "name" for each in wrong):
        twins = [each for each in (*site.devices, *site.zones) if each.casefold() == name.casefold()]
        if twins or device_file(site_dir, name).exists():
            wrong.append(
                Misstated(
                    "name",
                    f"{(twins or [name])[0]} is there already",
                    "another name; a device gets a new certificate by `leadglass device renew`",
                )
            )
    if csr and (problem := csr_problem(csr)):
        wrong.append(Misstated("csr", problem, "the file that the device itself wrote, in PEM"))
    return found, wrong


# ---- what people do


def _ask(parts: EnrolmentParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the device's name; `facts` and `csr` as in `Enrolment`, or `renewal`: of one that is enrolled, with `csr` where it made its own key."""
    caller = change.caller
    site, csr = parts.site(), str(arguments.get("csr", ""))
    if not site.enroller:
        raise NotChanged(NO_ENROLLER)
    if arguments.get("renewal"):
        return _ask_renewal(parts, change, csr)
    try:
        facts, wrong = problems(site, parts.site_dir, arguments["facts"], csr)
    except (KeyError, TypeError, AttributeError) as error:
        raise NotChanged(f"what is said of the device cannot be read: {error}") from error
    if facts.get("name") != change.about:
        raise NotChanged("the facts are another device's")
    if wrong:
        raise NotChanged("; ".join(f"{each.what}: {each.mend}" for each in wrong))
    parts.enrolments.ask(Enrolment(change.id, change.about, caller.person.id, parts.clock(), facts, csr))
    return {"enrolment": change.id, "state": "asked"}


def _ask_renewal(parts: EnrolmentParts, change: Change, csr: str) -> Result:
    device = parts.site().devices.get(change.about)
    if device is None:
        raise NotChanged(f"no device {change.about[:64]!r} is enrolled")
    if csr and (problem := csr_problem(csr)):
        raise NotChanged(problem)
    facts = {
        "name": device.name,
        "renewal": True,
        "ae": list(device.ae_titles),
        "network": ", ".join(str(each) for each in device.networks),
        "may": [AS_BEFORE],
    }
    parts.enrolments.ask(Enrolment(change.id, device.name, change.caller.person.id, parts.clock(), facts, csr))
    return {"enrolment": change.id, "state": "asked"}


def csr_problem(csr: str) -> str:
    """What is wrong with a certificate request; "" where nothing is."""
    try:
        if len(csr) > CSR_CHARACTERS_MAX:
            return f"a certificate request of more than {CSR_CHARACTERS_MAX} characters"
        requested_key(csr.encode())
    except (Unenrollable, UnicodeEncodeError) as refusal:
        return str(refusal)
    return ""


def _withdraw(parts: EnrolmentParts, change: Change, arguments: Arguments) -> Result:
    """`enrolment`: its id."""
    parts.enrolments.withdraw(str(arguments.get("enrolment")), change.caller.name, parts.clock())
    return {"device": change.about, "state": "withdrawn"}


def _collect(parts: EnrolmentParts, change: Change, arguments: Arguments) -> Result:
    """`enrolment`: its id. The bundle stands in the answer alone."""
    return {"device": change.about, "bundle": parts.enrolments.collect(str(arguments.get("enrolment")), parts.clock())}


# ---- what is done about it


def _decline(parts: EnrolmentParts, change: Change, arguments: Arguments) -> Result:
    reason = " ".join(str(arguments.get("reason", "")).split())[:REASON_CHARACTERS_MAX]
    parts.enrolments.fail(str(arguments.get("enrolment")), reason or "it was declined", parts.clock())
    return {"device": change.about, "state": "failed"}


def _lapse(parts: EnrolmentParts, change: Change, arguments: Arguments) -> Result:
    parts.enrolments.lapse(str(arguments.get("enrolment")), parts.clock())
    return {"device": change.about, "state": "lapsed"}


def signed(
    parts: EnrolmentParts, change: Change, arguments: Arguments, put: Callable[[Change, Arguments], Result]
) -> Result:
    """Enrols or renews what was asked for. `put`: writes the device and makes it act; harmless to repeat. Raises NotChanged, Fault."""
    enrolment = parts.enrolments.get(str(arguments["enrolment"]))
    if enrolment is None or enrolment.state != "asked":
        raise NotChanged(f"the enrolment of {change.about} does not wait to be signed")
    try:
        if not enrolment.renewal:
            _free(parts, enrolment)
        if not enrolment.certificate:
            parts.enrolments.begin(enrolment.id, arguments["certificate"], _bundle(arguments))
        result = put(change, arguments)
    except (Refused, SiteInvalid) as refusal:
        parts.enrolments.fail(enrolment.id, str(refusal)[:REASON_CHARACTERS_MAX], parts.clock())
        raise
    parts.enrolments.sign(enrolment.id, parts.clock())
    return result


def _free(parts: EnrolmentParts, enrolment: Enrolment) -> None:
    """Nobody else has the name meanwhile; what this enrolment wrote itself, before a crash, is its own. Raises NotChanged."""
    begun = str(enrolment.certificate.get("fingerprint", ""))
    device = parts.site().devices.get(enrolment.name)
    if device is not None and (not begun or begun not in device.certificates):
        raise NotChanged(f"{enrolment.name} was enrolled by somebody else meanwhile")
    path = device_file(parts.site_dir, enrolment.name)
    if path.exists() and (not begun or begun not in path.read_text(encoding="utf-8", errors="replace")):
        raise NotChanged(f"devices.d/{enrolment.name}.toml was written by somebody else meanwhile")


def _bundle(arguments: Arguments) -> bytes:
    try:
        bundle = base64.b64decode(str(arguments["bundle"]), validate=True)
    except (KeyError, binascii.Error) as error:
        raise NotChanged("an enrolment that was asked for comes with its bundle") from error
    if not 0 < len(bundle) <= BUNDLE_LENGTH_MAX_BYTES:
        raise NotChanged(f"a bundle has at most {BUNDLE_LENGTH_MAX_BYTES} bytes")
    return bundle


ENROLMENT_KINDS: Mapping[ChangeKind, Callable[[EnrolmentParts, Change, Arguments], Result]] = {
    ChangeKind.DEVICE_ASK: _ask,
    ChangeKind.DEVICE_COLLECT: _collect,
    ChangeKind.DEVICE_DECLINE: _decline,
    ChangeKind.DEVICE_LAPSE: _lapse,
    ChangeKind.DEVICE_WITHDRAW: _withdraw,
}


# ---- what is asked


def enrolments(house: House, arguments: Arguments) -> Iterator[Mapping[str, object]]:
    """What waits to be signed, oldest first, with what a sheet says of the site."""
    door = house.site().doors.dimse
    for each in house.enrolments.asked():
        yield {
            "id": each.id,
            "name": each.name,
            "facts": each.facts,
            "renewal": each.renewal,
            "csr": each.csr,
            "digest": each.digest,
            "certificate": each.certificate,
            "ae_title": door.ae_title,
            "host": door.host,
            "port": door.port,
        }
