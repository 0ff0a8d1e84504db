"""`leadglass zones probe --live`: real packets from this host to the site file's other hosts, held against its truth table. For any make of firewall."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from leadglass.doors.command.application import JSON, invocation
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.doors.command.zones_reach import read
from leadglass.doors.probing.hosts import Host, NotHere, here, hosts, stranger
from leadglass.doors.probing.listener import Arrival, Listener
from leadglass.doors.probing.prober import Probe, Prober
from leadglass.policy.firewall.truth import Heard, Judged, Target, allowed, judge, probed_ports
from leadglass.site.model import Site

WAIT_SECONDS, RATE = 2.0, 300.0
UNKNOWN_TOLD_MAX = 20
EVERYBODY = "all"

Row = Mapping[str, Any]


def register(zones: typer.Typer) -> None:
    zones.command("probe")(_probe)


def _probe(
    context: typer.Context,
    live: Annotated[bool, typer.Option("--live", help="Real packets on real networks; demanded")] = False,
    name: Annotated[str, typer.Option("--as", help="Which host of the site file this machine is")] = "",
    address: Annotated[
        str, typer.Option("--address", help="Of this machine, where it is nobody in the site file")
    ] = "",
    listen: Annotated[bool, typer.Option("--listen", help="Answer probes here, and judge what arrives")] = False,
    to: Annotated[list[str] | None, typer.Option("--to", help="Only these hosts; may be repeated")] = None,
    listening: Annotated[
        list[str] | None, typer.Option("--listening", help="Hosts where --listen runs now, or `all`; may be repeated")
    ] = None,
    opened: Annotated[
        list[str] | None, typer.Option("--open", help="A flow on demand that is open now; may be repeated")
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=0.1, max=60.0, help="Seconds for an answer")] = WAIT_SECONDS,
    rate: Annotated[float, typer.Option("--rate", min=1.0, max=10_000.0, help="Probes a second")] = RATE,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Listen for so long; without, until Ctrl-C")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send them without asking")] = False,
    as_json: JSON = False,
) -> None:
    """Sends a packet from here to every port of the site file's hosts, and compares. It sends to them alone, and only when told to twice."""
    if not live:
        hint = "`leadglass lab probe` tries it in namespaces of this machine; --live sends real packets"
        raise Stopped(Exit.USAGE, "a probe of real networks is asked for by --live", hint=hint)
    call = invocation(context)
    site, output = read(call.site_dir()), call.output(as_json)
    own = _own(site, name, address)
    if unknown := sorted({*(opened or ())} - {flow.id for flow in site.flows if flow.on_demand is not None}):
        raise Stopped(Exit.USAGE, f"{unknown[0][:64]!r} is no flow on demand")
    if listen:
        _listen(site, own, output, seconds, frozenset(opened or ()))
        return
    probes = list(_planned(site, own, to or [], frozenset(opened or ())))
    _told_first(output, own, probes, yes=yes)
    _send(site, output, probes, _named(site, listening or []), wait, rate)


def _own(site: Site, name: str, address: str) -> Host:
    """Raises Stopped."""
    if bool(name) == bool(address):
        hint = "--as NAME for a host of the site file, --address A for a stranger in one of its zones"
        raise Stopped(Exit.USAGE, "who is this machine?", hint=hint)
    try:
        return here(site, name) if name else stranger(site, address)
    except NotHere as error:
        raise Stopped(Exit.USAGE, str(error), hint="run it on that host, with the site file that serves") from error


def _named(site: Site, names: Sequence[str]) -> frozenset[str]:
    known = hosts(site)
    if EVERYBODY in names:
        return frozenset(known)
    if unknown := [each for each in names if each not in known]:
        raise Stopped(Exit.USAGE, f"{unknown[0][:64]!r} is no host of the site file with an address of its own")
    return frozenset(names)


# ---- sending


def _planned(site: Site, own: Host, to: Sequence[str], opened: frozenset[str]) -> Iterator[Probe]:
    """Every port of every host, TCP and UDP, over each IP version that both have."""
    only = _named(site, to) if to else frozenset(hosts(site))
    for target in hosts(site).values():
        if target.name == own.name or target.name not in only:
            continue
        for address in target.addresses:
            if own.address(address.version) is None:
                continue
            for port in probed_ports(site):
                for protocol in ("tcp", "udp"):
                    expected = allowed(site, own, target, protocol, port, opened)
                    yield Probe(own, target, address, protocol, port, expected)


def _told_first(output: Output, own: Host, probes: Sequence[Probe], *, yes: bool) -> None:
    """What would be sent; then a yes. Raises Stopped."""
    if not probes:
        raise Stopped(
            Exit.USAGE, f"from {own.name} there is nobody to be probed", hint="devices with a /32 or /128 are"
        )
    names = Counter(each.target.name for each in probes)
    text = f"{len(probes)} probes from {own.name} to {len(names)} hosts: {', '.join(names)}"
    if yes:
        output.say(text)
        return
    if output.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Stopped(
            Exit.USAGE, f"{text}: nothing was sent", hint="--yes sends them; tell who watches the network first"
        )
    output.say(
        f"{text}\nDecoy ports are among them: old devices may not like that, and whoever watches the network will see it."
    )
    if not typer.confirm("Send them?", default=False):
        raise Stopped(Exit.INTERRUPTED, "nothing was sent")


def _send(
    site: Site, output: Output, probes: Sequence[Probe], listening: frozenset[str], wait: float, rate: float
) -> None:
    began = time.monotonic()
    prober = Prober(tuple(hosts(site).values()), wait_seconds=wait, rate=rate)
    with output.progress("probing") as done:
        heard = prober.probe(probes, done)
    known = _targets(probes, heard, listening)
    differs: list[Row] = []
    unknown: Counter[tuple[str, str]] = Counter()
    through = 0
    for each, what in zip(probes, heard, strict=True):
        judged, why = judge(each.expected, what, each.protocol, known[each.target.name])
        through += what in (Heard.ECHO, Heard.ANSWER)
        if judged is Judged.DIFFERS:
            said = "no flow opens it" if not each.expected else "a flow opens it"
            row = {"mismatch": str(each), "expected": each.expected, "heard": str(what), "why": why}
            differs.append(row)
            output.object(row, f"{each}: {why}, and {said}")
        elif judged is Judged.UNKNOWN:
            unknown[each.target.name, why] += 1
    for (name, why), many in unknown.most_common(UNKNOWN_TOLD_MAX):
        output.object({"unknown": many, "host": name, "why": why}, f"? {many} probes of {name} are not known: {why}")
    taken = time.monotonic() - began
    _end(output, len(probes), through, len(differs), sum(unknown.values()), taken)


def _targets(probes: Sequence[Probe], heard: Sequence[Heard], listening: frozenset[str]) -> Mapping[str, Target]:
    """Where a listener of ours is, and who is there at all."""
    echoed = {each.target.name for each, what in zip(probes, heard, strict=True) if what is Heard.ECHO}
    alive = {each.target.name for each, what in zip(probes, heard, strict=True) if what in (Heard.ECHO, Heard.ANSWER)}
    names = {each.target.name for each in probes}
    return {name: Target(name in echoed | listening, name in alive | listening) for name in names}


def _end(output: Output, probes: int, through: int, mismatches: int, unknown: int, seconds: float) -> None:
    row = {
        "probes": probes,
        "open": through,
        "mismatches": mismatches,
        "unknown": unknown,
        "seconds": round(seconds, 2),
    }
    text = f"{probes} probes, {through} got through, {mismatches} mismatches, {unknown} not known, {seconds:.1f} s"
    output.object(row, text)
    if mismatches:
        raise Stopped(Exit.PROBLEMS, "the network and the site file disagree: each difference is named above")


# ---- listening


def _listen(site: Site, own: Host, output: Output, seconds: float | None, opened: frozenset[str]) -> None:
    stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    listener = Listener(site, own, probed_ports(site))
    began = time.monotonic()
    arrived: set[Arrival] = set()  # a datagram may come twice
    wrong = 0
    try:
        listener.open()
        left = [f"{protocol}/{port}" for protocol, port in listener.left]
        ready: Row = {"listening": own.name, "addresses": list(map(str, own.addresses)), "left": left}
        text = f"listening as {own.name} on {', '.join(map(str, own.addresses))}"
        output.object(ready, text + (f"; left to who has them: {', '.join(left)}" if left else ""))
        for arrival in listener.until(stop, seconds):
            if arrival not in arrived:
                arrived.add(arrival)
                wrong += not _judged(site, own, arrival, output, opened)
    finally:
        listener.close()
    told = {"arrived": len(arrived), "mismatches": wrong, "seconds": round(time.monotonic() - began, 2)}
    output.object(told, f"{len(arrived)} probes arrived, {wrong} of them against the site file")
    if wrong:
        raise Stopped(Exit.PROBLEMS, "the network and the site file disagree: each difference is named above")


def _judged(site: Site, own: Host, arrival: Arrival, output: Output, opened: frozenset[str]) -> bool:
    """Whether it may arrive, by who it says it is from, and whether it comes from where that one is."""
    source = _source(site, arrival)
    if source is None:
        why = f"it says that it is from {arrival.name[:64]!r}, who is nobody"
    elif arrival.address not in source.addresses:
        why = f"it says that it is from {source.name}, and comes from {arrival.address}"
    elif allowed(site, source, own, arrival.protocol, arrival.port, opened):
        return True
    else:
        why = "no flow opens it"
    service = f"{arrival.protocol}/{arrival.port}"
    row = {"mismatch": f"{arrival.name} to {own.name}, {service}", "address": str(arrival.address), "why": why}
    output.object(row, f"{arrival.name} ({arrival.address}) to {own.name}, {service}: it arrived, and {why}")
    return False


def _source(site: Site, arrival: Arrival) -> Host | None:
    """A member, or a stranger in the zone that the address lies in."""
    known = hosts(site).get(arrival.name)
    zone = site.zones.get(site.zone_of(str(arrival.address)))
    if known is not None or zone is None or arrival.name != f"stranger in {zone.name}":
        return known
    return Host(arrival.name, zone, (arrival.address,), stranger=True)
