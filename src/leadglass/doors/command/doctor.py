"""What is wrong with this host and this site? Looks only, changes nothing; each finding says how to mend it."""

from __future__ import annotations

import datetime as dt
import os
import pwd
import resource
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509

from leadglass.audit.journal.ends import Ends
from leadglass.doors.kernel import nft
from leadglass.identity.doors import door_certificate
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.lookup import Lookup
from leadglass.policy.proof import prove
from leadglass.site.document import SiteInvalid
from leadglass.site.layout import CA_DIRECTORY, KIT_DIRECTORY, device_authorities
from leadglass.site.load import load
from leadglass.site.model import DirectorySettings, ProviderSettings, Site
from leadglass.site.network import own_connection
from leadglass.site.sitekey import SiteKey
from leadglass.terms import Fault, KeyFault
from leadglass.watch.clock import read_clock

DESCRIPTORS_MIN = 4096
BUILT = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)  # a clock before this is wrong
EXPIRY_WARNING = dt.timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Finding:
    """`state`: ok, amber (works, weaker than it could be), red (mend it first)."""

    about: str
    state: str
    text: str
    mend: str = ""


def examine(site_dir: Path) -> Iterator[Finding]:
    """Every check; one that fails itself is a red finding, never an exception."""
    site: Site | None = None
    try:
        site = load(site_dir)
    except SiteInvalid as invalid:
        yield Finding("site file", "red", f"{len(invalid.problems)} problems", "`leadglass check` names them")
    except (Fault, OSError) as fault:
        yield Finding("site file", "red", str(fault), "`leadglass init` makes a site")
    checks: list[Callable[[], Iterator[Finding]]] = [_python, _clock, _descriptors, lambda: _permissions(site_dir)]
    if site is not None:
        known = site
        checks += [
            lambda: _policy(known),
            lambda: _key(known, site_dir),
            lambda: _disk(known, site_dir),
            lambda: _journals(known, site_dir),
            lambda: _port(known),
            lambda: _certificates(site_dir),
            lambda: _kit(known, site_dir),
            lambda: _vouching(known, site_dir),
            lambda: _firewall(known),
        ]
    for check in checks:
        try:
            yield from check()
        except (Fault, OSError, ValueError) as error:
            yield Finding("check", "red", f"could not be made: {error}", "mend this first, then ask again")


def _firewall(site: Site) -> Iterator[Finding]:
    """Of who loads the kernel's table, where somebody does."""
    if not site.filterer:
        return
    about = "kernel's table"
    if shutil.which("nft", path=nft.PATH) is None:
        yield Finding(about, "red", "nft is not installed", "apt install nftables")
    elif not _known_user(site.filterer):
        mend = f"useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {site.filterer}"
        yield Finding(about, "red", f"{site.filterer} is no user of this host", mend)
    elif Lookup(ruleset(site)).opens_tcp(own := own_connection()) is False:
        yield Finding(about, "amber", f"no flow opens your own connection ({own})", "a flow of ssh from where you are")
    else:
        yield Finding(about, "ok", f"loaded by {site.filterer}")


def _known_user(name: str) -> bool:
    try:
        return name.isdecimal() or bool(pwd.getpwnam(name))
    except KeyError:
        return False


def _journals(site: Site, site_dir: Path) -> Iterator[Finding]:
    ends = Ends(site_dir, SiteKey.open(site.key, site_dir))
    lost = [each.fault for each in ends.lost()]
    for fault in lost:
        yield Finding("journals", "red", str(fault), fault.hint)
    if not lost:
        yield Finding("journals", "ok", f"{len(ends.noted() or {})} hold what they held")


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "python",
        "ok" if sys.version_info >= (3, 11) else "red",
        version,
        "" if sys.version_info >= (3, 11) else "3.11 or newer",
    )


def _clock() -> Iterator[Finding]:
    now = dt.datetime.now(dt.UTC)
    if now < BUILT:
        yield Finding(
            "clock",
            "red",
            f"{now:%Y-%m-%d} lies before this program was made",
            "set it, and keep it with chrony or NTP",
        )
        return
    clock = read_clock()
    yield Finding(
        "clock",
        "ok" if clock.kept else "amber",
        f"{now:%Y-%m-%d %H:%M} UTC, {clock}",
        "" if clock.kept else "run chrony or systemd-timesyncd; certificates and events need it",
    )


def _descriptors() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft >= DESCRIPTORS_MIN or hard >= DESCRIPTORS_MIN
    yield Finding(
        "file descriptors",
        "ok" if enough else "amber",
        f"{soft} of {hard}",
        "" if enough else f"LimitNOFILE={DESCRIPTORS_MIN} in the unit",
    )


def _permissions(site_dir: Path) -> Iterator[Finding]:
    wide = [
        str(path.relative_to(site_dir))
        for pattern in ("ca/*.key", "doors/*.pem", "keys/*", "kit/*")
        for path in site_dir.glob(pattern)
        if path.stat().st_mode & 0o077
    ]
    if wide:
        yield Finding(
            "permissions", "red", f"others can read {', '.join(wide)}", f"chmod 600 them, and chmod 700 {site_dir}"
        )
    else:
        yield Finding("permissions", "ok", "keys are readable by their owner alone")
    if os.geteuid() == 0:
        yield Finding("user", "amber", "this is root", "run the site as a user of its own (deploy/ has units that do)")


def _policy(site: Site) -> Iterator[Finding]:
    failures = prove(site)
    if failures:
        yield Finding("policy", "red", f"{len(failures)} promises do not hold", "`leadglass check` names them")
    else:
        yield Finding("policy", "ok", f"{len(site.flows)} flows, {len(site.tests)} tests hold")


def _key(site: Site, site_dir: Path) -> Iterator[Finding]:
    SiteKey.open(site.key, site_dir)
    if site.key_beside_data:
        yield Finding(
            "site key",
            "amber",
            "lies on the file system of the data",
            "name one elsewhere in [site] key, or use a credential",
        )
    else:
        yield Finding("site key", "ok", "opens, and lies apart from the data")


def _disk(site: Site, site_dir: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(site_dir).free
    reserve = site.limits.disk_reserve_bytes
    state = "red" if free < reserve else "amber" if free < 10 * reserve else "ok"
    mend = "" if state == "ok" else f"stores stop at {reserve >> 20} MiB free: add space"
    yield Finding("disk", state, f"{free >> 20} MiB free", mend)


def _port(site: Site) -> Iterator[Finding]:
    door = site.doors.dimse
    family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((door.host, door.port))
        except OSError as error:
            yield Finding(
                "dimse port",
                "amber",
                f"{door.host}:{door.port}: {error.strerror}",
                "fine where the site runs; else free it or change [doors.dimse]",
            )
            return
    yield Finding("dimse port", "ok", f"{door.host}:{door.port} is free")


def _certificates(site_dir: Path) -> Iterator[Finding]:
    door = door_certificate(site_dir)
    yield _expiry("door certificate", door, "it renews itself while the site runs: start it")
    for authority in device_authorities(site_dir):
        yield _expiry("device CA", authority, "start a roll-over: a second device CA may be trusted beside it")
    if not (site_dir / CA_DIRECTORY).is_dir():
        yield Finding("authorities", "red", "no ca directory", "restore it from the recovery kit")


def _expiry(about: str, certificate: x509.Certificate, mend: str) -> Finding:
    left = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    state = "red" if left < dt.timedelta(0) else "amber" if left < EXPIRY_WARNING else "ok"
    return Finding(about, state, f"ends {certificate.not_valid_after_utc:%Y-%m-%d}", "" if state == "ok" else mend)


def _kit(site: Site, site_dir: Path) -> Iterator[Finding]:
    if any((site_dir / KIT_DIRECTORY).glob("*")) and not site.loopback:
        yield Finding(
            "recovery kit",
            "amber",
            "still lies in the site's own directory",
            "move it to a safe place, off this machine",
        )
    else:
        yield Finding(
            "recovery kit",
            "ok",
            "not beside the data" if not site.loopback else "beside the data, as in every loopback site",
        )


def _vouching(site: Site, site_dir: Path) -> Iterator[Finding]:
    """Other people's directories: one that is silent keeps its people from this way in, and nobody from a passkey."""
    checks: list[tuple[str, Callable[[], object]]] = [
        *((f"provider {name}", partial(_provider, each, site_dir)) for name, each in site.providers.items()),
        *((f"directory {name}", partial(_directory, each, site_dir)) for name, each in site.directories.items()),
    ]
    for about, check in checks:
        try:
            check()
        except Fault as fault:
            yield Finding(about, "red" if isinstance(fault, KeyFault) else "amber", str(fault), fault.hint)
        else:
            yield Finding(about, "ok", "answers")


def _provider(settings: ProviderSettings, site_dir: Path) -> None:
    from leadglass.identity.people.oidc import examine  # with what it takes to ask one: no other command waits for that

    examine(settings, site_dir)


def _directory(settings: DirectorySettings, site_dir: Path) -> None:
    from leadglass.identity.people.directory import Directory

    Directory.open(settings, site_dir).examine()
