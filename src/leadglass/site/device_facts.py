"""What is said of a device that is to be enrolled, and is it fit to stand in a device file? The same at a shell and at the console.

Facts are JSON-able: `name`, `ae` and `may` and `sop_class` (lists), `network`, `zone`, `address`, `why` and `record` (texts by key of `RECORD`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leadglass.site.document import AE_TITLE, AE_TITLE_MEND
from leadglass.site.load import ADDRESS, RESERVED_ACTIONS
from leadglass.site.model import DIMSE_SERVICE, Network, name_problem, within
from leadglass.site.schema import RECORD
from leadglass.terms import Action
from leadglass.wire.uids import storage_class_of, uid_problem

TEXT_CHARACTERS_MAX = 200
WORDS_MAX = 64  # AE titles, or SOP classes, of one device
MAY = tuple(sorted({str(action) for action in Action} | RESERVED_ACTIONS))
Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Misstated:
    """Which fact will not do, why, and what to do instead."""

    fact: str
    what: str
    mend: str


def settled(facts: Facts, zones: Mapping[str, Iterable[str]]) -> tuple[dict[str, Any], list[Misstated]]:
    """The facts with network and zone as they will stand there, and everything that is wrong with them. `zones`: name → CIDR networks."""
    wrong = [*_names(facts), *_words(facts)]
    network: Network | None = None
    try:
        network = ipaddress.ip_network(str(facts["network"]))
    except ValueError as error:
        wrong.append(Misstated("network", str(error), "CIDR such as 10.20.1.11/32"))
    zone = str(facts["zone"])
    if zone and zone not in zones:
        wrong.append(Misstated("zone", f"there is no zone {zone[:64]!r}", f"one of {', '.join(zones) or 'none yet'}"))
    if network is not None:
        holding = [
            name for name, networks in zones.items() if any(within(network, _network(each)) for each in networks)
        ]
        if not holding:
            mend = "add it to a zone in leadglass.toml and `leadglass apply`"
            wrong.append(Misstated("network", f"no zone holds {network}", mend))
        elif zone in zones and zone not in holding:
            wrong.append(
                Misstated("network", f"{network} is not inside zone {zone}", "another network, or another zone")
            )
        zone = zone or next(iter(holding), "")
    return {**facts, "network": str(network or facts["network"]), "zone": zone}, wrong


def device_table(facts: Facts, fingerprint: str) -> dict[str, object]:
    """`[devices.NAME]` of settled facts, with the certificate it presents (`sha256:<hex>`)."""
    return {
        "zone": facts["zone"],
        "network": facts["network"],
        "ae_titles": list(facts["ae"]),
        "certificate": [fingerprint],
        **({"address": facts["address"]} if facts["address"] else {}),
        **{key: value for key, value in facts["record"].items() if value},
    }


def flow_table(facts: Facts) -> dict[str, object] | None:
    """Its one flow, None where it may do nothing or speaks no DIMSE."""
    if not facts["may"] or not facts["ae"]:
        return None
    return {
        "id": f"{facts['name']}-enrolled",
        "from": [facts["name"]],
        "to": ["archive"],
        "service": DIMSE_SERVICE,
        "auth": "mtls",
        "may": list(facts["may"]),
        "why": facts["why"] or f"{facts['name']} was enrolled to {', '.join(facts['may'])}",
        **({"sop_classes": list(facts["sop_class"])} if facts["sop_class"] else {}),
    }


def _names(facts: Facts) -> Iterator[Misstated]:
    name, titles = str(facts["name"]), facts["ae"]
    if problem := name_problem(name):
        yield Misstated("name", f"{name[:64]!r} cannot name a device", problem)
    for title in titles:
        if not AE_TITLE.fullmatch(title):
            yield Misstated("ae", f"{title[:64]!r} is no AE title", AE_TITLE_MEND)
    if len(titles) > WORDS_MAX or len(facts["sop_class"]) > WORDS_MAX:
        yield Misstated("ae", f"more than {WORDS_MAX} words", "a device has few AE titles and SOP classes")


def _words(facts: Facts) -> Iterator[Misstated]:
    if unknown := [word for word in facts["may"] if word not in MAY]:
        yield Misstated("may", f"nobody may {', '.join(unknown)[:64]}", "it knows " + ",".join(MAY))
    for word in facts["sop_class"]:
        if storage_class_of(word) is None and uid_problem(word):
            yield Misstated(
                "sop_class", f"{word[:64]!r} is no Storage SOP class", "a keyword such as CTImageStorage, or a UID"
            )
    address = str(facts["address"])
    if address and not ((found := ADDRESS.fullmatch(address)) and 0 < int(found[2]) < 65536):
        yield Misstated("address", f"{address[:64]!r} is no address", "HOST:PORT")
    told = {"why": facts["why"], **{key: facts["record"].get(key, "") for key in RECORD}}
    for fact, text in told.items():
        if len(text) > TEXT_CHARACTERS_MAX or not text.isprintable():
            yield Misstated(
                fact, f"{fact} is no line of text", f"at most {TEXT_CHARACTERS_MAX} characters, no line's end"
            )


def _network(text: str) -> Network:
    return ipaddress.ip_network(text)
