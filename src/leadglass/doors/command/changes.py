"""How is a change done, once it is decided and its intent recorded? One function a kind; each is harmless to repeat.

The order is always: what must not be lost first (register, device file, proven policy), what makes it act last (the generation of the
containment state), so that a crash in between leaves an intent that recovery names and a repeat completes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from leadglass.doors.command import applying
from leadglass.doors.command.access_changes import ACCESS_KINDS
from leadglass.doors.command.enrolling import ENROLMENT_KINDS, EnrolmentParts, signed
from leadglass.doors.command.erasure_changes import ERASURE_KINDS, ErasureParts
from leadglass.doors.command.kit_changes import KIT_KINDS, KitParts
from leadglass.doors.command.people_changes import PEOPLE_KINDS, PeopleParts
from leadglass.doors.house import Backups, Standings
from leadglass.policy import containment
from leadglass.policy.proof import prove
from leadglass.site import network
from leadglass.site.model import Site
from leadglass.site.register import Register
from leadglass.site.write import (
    alone,
    apply,
    apply_device,
    device_file,
    load_proven,
    proven_directory,
    remove_device,
    repin_device,
    write_device,
)
from leadglass.terms import Caller, Change, ChangeKind, Containment, NotChanged, StoreFault

Result = Mapping[str, object]
Arguments = Mapping[str, Any]
REASON_LENGTH_MAX = 200  # characters of what an operator says of a loss, in each event of it
CONTAINING = frozenset(
    {ChangeKind.DEVICE_DISABLE, ChangeKind.DEVICE_REVOKE, ChangeKind.SITE_CONTAIN, ChangeKind.ZONE_CONTAIN}
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Changes:
    """What changes act on. The archive's parts come last, because the archive needs the stages that need this."""

    site_dir: Path
    register: Register
    standings: Callable[[], Standings]
    backups: Callable[[], Backups]
    recover_all: Callable[[], int]
    accept_loss: Callable[[str], Sequence[str]]
    people: PeopleParts
    enrolments: EnrolmentParts
    erasing: ErasureParts
    kits: KitParts

    async def perform(self, change: Change) -> Result:
        """The `perform` stage of the gateway. Raises Refused, Fault."""
        with self._unless_it_contains(change):
            self.register.change_intended(change.id, change.digest, change.kind, change.about)
        try:
            if change.kind in ACCESS_KINDS:
                result = ACCESS_KINDS[change.kind](self.people, change, change.arguments)
            elif change.kind in PEOPLE_KINDS:
                result = PEOPLE_KINDS[change.kind](self.people, change, change.arguments)
            elif change.kind in ENROLMENT_KINDS:
                result = ENROLMENT_KINDS[change.kind](self.enrolments, change, change.arguments)
            elif change.kind in ERASURE_KINDS:
                result = ERASURE_KINDS[change.kind](self.erasing, change, change.arguments)
            elif change.kind in KIT_KINDS:
                result = KIT_KINDS[change.kind](self.kits, change, change.arguments)
            else:
                result = _KINDS[change.kind](self, change, change.arguments)
        except OSError as error:
            with contextlib.suppress(StoreFault):
                self.register.change_settled(change.id, "abandoned")
            raise StoreFault(
                f"{change.kind} could not be done: {error}",
                hint="make room on that disk, look at its permissions; then again",
            ) from error
        except BaseException:
            self.register.change_settled(change.id, "abandoned")
            raise
        with self._unless_it_contains(change):
            self.register.change_settled(change.id, "completed")
        return result

    @contextlib.contextmanager
    def _unless_it_contains(self, change: Change) -> Iterator[None]:
        """What keeps somebody out acts where the register has no room for it; the journal has, and tells of it."""
        try:
            yield
        except StoreFault as fault:
            if change.kind not in CONTAINING:
                raise
            log.error("the register does not know of it", change=change.kind, about=change.about, reason=str(fault))

    # ---- devices

    def _enroll(self, change: Change, arguments: Arguments) -> Result:
        if "enrolment" in arguments:
            return signed(self.enrolments, change, arguments, self._put)
        site = load_proven(self.site_dir)
        if change.about in site.devices:
            raise NotChanged(
                f"{change.about} is enrolled already: `leadglass device renew {change.about}` gives it a new certificate"
            )
        if device_file(self.site_dir, change.about).exists():
            raise NotChanged(
                f"devices.d/{change.about}.toml exists but is not applied: `leadglass apply`, or remove it"
            )
        return self._put(change, arguments)

    def _put(self, change: Change, arguments: Arguments) -> Result:
        """Certificate, file, what serves, in this order."""
        certificate = arguments.get("certificate")
        if certificate:
            self._register(change.about, certificate, str(arguments.get("kind", "issued")))
        write_device(self.site_dir, change.about, arguments["device"], arguments.get("flow"))
        try:
            apply_device(self.site_dir, change.about, self._prove)
        except BaseException:
            remove_device(self.site_dir, change.about)
            raise
        self._generation(change, lambda state: state)
        return {"device": change.about, "enrolled": True}

    def _renew(self, change: Change, arguments: Arguments) -> Result:
        """The old certificate and the new one are both valid until the new one is first used."""
        self._known(change.about)
        if "enrolment" in arguments:
            return signed(self.enrolments, change, arguments, self._repin)
        return self._repin(change, arguments)

    def _repin(self, change: Change, arguments: Arguments) -> Result:
        """`pins`: where they are not said, what is good today, and the new one."""
        pins = arguments.get("pins") or self._pins_with(change.about, str(arguments["certificate"]["fingerprint"]))
        self._register(change.about, arguments["certificate"], str(arguments.get("kind", "issued")))
        repin_device(self.site_dir, change.about, [str(pin) for pin in pins])
        apply_device(self.site_dir, change.about, self._prove)
        self._generation(change, lambda state: state)
        return {"device": change.about, "renewed": True}

    def _pins_with(self, name: str, fingerprint: str) -> list[str]:
        pins = load_proven(self.site_dir).devices[name].certificates
        mine = [each for each in self.register.certificates() if each.device == name]
        good = {each.fingerprint for each in mine if each.state in ("issued", "active")} - {fingerprint}
        return [*(pin for pin in pins if pin.startswith("spki-") or pin in good), fingerprint]

    def _revoke(self, change: Change, arguments: Arguments) -> Result:
        self._known(change.about)
        reason = str(arguments["reason"])
        fingerprints = [str(each) for each in arguments["fingerprints"]]
        self._generation(change, lambda state: containment.revoke(state, fingerprints, reason))
        with self._unless_it_contains(change):
            for fingerprint in fingerprints:
                self.register.set_certificate_state(fingerprint, "revoked")
        return {"device": change.about, "revoked": fingerprints}

    def _supersede(self, change: Change, arguments: Arguments) -> Result:
        fingerprints = [str(each) for each in arguments["fingerprints"]]
        self._generation(change, lambda state: containment.supersede(state, fingerprints, str(arguments["reason"])))
        for fingerprint in fingerprints:
            self.register.set_certificate_state(fingerprint, "superseded")
        return {"device": change.about, "superseded": fingerprints}

    def _disable(self, change: Change, arguments: Arguments) -> Result:
        self._known(change.about)
        begun = (change.operator.actor, self.people.clock())
        self._generation(
            change, lambda state: containment.disable(state, change.about, str(arguments["reason"]), *begun)
        )
        return {"device": change.about, "disabled": True}

    def _enable(self, change: Change, arguments: Arguments) -> Result:
        self._known(change.about)
        self._same(change, arguments)
        self._generation(change, lambda state: containment.enable(state, change.about))
        return {"device": change.about, "disabled": False}

    def _waive(self, change: Change, arguments: Arguments) -> Result:
        self._known(change.about)
        until = dt.datetime.fromisoformat(str(arguments["until"]))
        for fingerprint in arguments["fingerprints"]:
            self.register.add_waiver(
                f"{change.id}:{str(fingerprint)[-8:]}",
                change.about,
                str(fingerprint),
                int(until.timestamp() * 1e9),
                str(arguments["reason"]),
                change.operator.name,
            )
        self._generation(change, lambda state: state)
        return {"device": change.about, "waived_until": until.isoformat()}

    # ---- the site

    def _contain_zone(self, change: Change, arguments: Arguments) -> Result:
        if change.about not in load_proven(self.site_dir).zones:
            raise NotChanged(f"there is no zone {change.about[:64]!r}: `leadglass.toml` names them")
        begun = (change.operator.actor, self.people.clock())
        self._generation(
            change, lambda state: containment.contain_zone(state, change.about, str(arguments["reason"]), *begun)
        )
        return {"zone": change.about, "contained": True}

    def _release_zone(self, change: Change, arguments: Arguments) -> Result:
        self._contained(change.about, containment.read(self.site_dir).zones)
        self._same(change, arguments)
        self._generation(change, lambda state: containment.release_zone(state, change.about))
        return {"zone": change.about, "contained": False}

    def _contain_site(self, change: Change, arguments: Arguments) -> Result:
        begun = (change.operator.actor, self.people.clock())
        self._generation(change, lambda state: containment.read_only(state, str(arguments["reason"]), *begun))
        return {"site": change.about, "read_only": True}

    def _release_site(self, change: Change, arguments: Arguments) -> Result:
        self._same(change, arguments)
        self._generation(change, lambda state: containment.read_only(state, ""))
        return {"site": change.about, "read_only": False}

    def _apply(self, change: Change, arguments: Arguments) -> Result:
        connection = str(arguments.get("connection", ""))

        def accept(site: Site) -> None:
            """Before it serves, whoever loads the kernel's table knows by which connection somebody applied it; what was confirmed once is
            confirmed anew when it comes back."""
            self._prove(site)
            if arguments.get("digest", site.digest) != site.digest:
                raise NotChanged("the files are others than those that were to be applied: look at them again")
            told, again = network.read(self.site_dir), site.digest == proven_directory(self.site_dir).name
            confirmed = told.confirmed if again else ""
            network.write(self.site_dir, network.NetworkState(confirmed, site.digest, connection))

        applied = apply(self.site_dir, accept)
        self.register.add_proven(applied.digest, change.operator.name)
        applying.settle(self.people.people, applied.digest, self.people.clock())
        self._generation(change, lambda state: state)
        return {"digest": applied.digest, "live": list(applied.live), "at_restart": list(applied.at_restart)}

    def _ask_site(self, change: Change, arguments: Arguments) -> Result:
        return applying.ask(self.people.people, self.site_dir, self._prove, change, self.people.clock())

    def _confirm_network(self, change: Change, arguments: Arguments) -> Result:
        """`about`: the digest of the site file that serves."""
        with alone(self.site_dir):  # or somebody applies in between, and from where is forgotten
            serving = proven_directory(self.site_dir).name
            if change.about != serving:
                raise NotChanged(f"another site file serves by now, {serving[:12]}: look at it, then confirm that")
            network.write(self.site_dir, replace(network.read(self.site_dir), confirmed=serving))
        return {"confirmed": serving}

    def _bump(self, change: Change, arguments: Arguments) -> Result:
        self._generation(change, lambda state: state)
        return {"about": change.about}

    # ---- the archive

    def _promote(self, change: Change, arguments: Arguments) -> Result:
        return self.standings().promote(change.about, int(arguments["version"]))

    def _dismiss(self, change: Change, arguments: Arguments) -> Result:
        return self.standings().dismiss(change.about, int(arguments["version"]))

    def _rebuild(self, change: Change, arguments: Arguments) -> Result:
        return self.standings().rebuild(lambda done, total: None)

    def _accept_loss(self, change: Change, arguments: Arguments) -> Result:
        """Of a site that does not run: nobody reads or stores meanwhile."""
        lost = self.accept_loss(str(arguments.get("reason", ""))[:REASON_LENGTH_MAX])
        if not lost:
            raise NotChanged("nothing that had settled is lost: `leadglass up`")
        return {"lost": list(lost)}

    def _backup(self, change: Change, arguments: Arguments) -> Result:
        return self.backups().run(Path(str(arguments["directory"])), change.id)

    def _restore(self, change: Change, arguments: Arguments) -> Result:
        """What a start after a crash does, on files that a restore laid down; the backup's own change cannot be completed in its own copy."""
        self.register.change_settled(str(arguments["backup_change"]), "completed")
        recovered = self.recover_all()
        rebuilt = self.standings().rebuild(
            lambda done, total: None
        )  # which also misses what a journal tells of and no segment has
        return {"writers_recovered": recovered, "records": rebuilt["records"]}

    # ---- shared

    def _same(self, change: Change, arguments: Arguments) -> None:
        """A person lets in again what was contained when somebody else approved that, and nothing that was contained since."""
        begun = containment.begun_of(containment.read(self.site_dir), change.kind, change.about)
        if isinstance(change.operator, Caller) and arguments.get("began_ns") != (begun.at_ns if begun else 0):
            raise NotChanged(f"{change.about} was contained anew meanwhile: look at it again")

    def _contained(self, name: str, there: Mapping[str, str]) -> None:
        """Whoever mistypes a name must not believe that it is let in again."""
        if name not in there:
            others = f"; {', '.join(sorted(there))} are" if there else "; nothing of that kind is"
            raise NotChanged(f"{name[:64]!r} is not contained{others}")

    def _known(self, name: str) -> None:
        if name not in load_proven(self.site_dir).devices:
            raise NotChanged(f"no device {name} is enrolled: `leadglass device list` shows who is")

    def _prove(self, site: Site) -> None:
        failures = prove(site)
        if failures:
            raise NotChanged(
                "the site file does not hold what it promises: " + "; ".join(str(each) for each in failures)
            )

    def _register(self, device: str, certificate: Arguments, kind: str) -> None:
        self.register.add_certificate(
            device=device,
            fingerprint=str(certificate["fingerprint"]),
            serial=str(certificate["serial"]),
            not_before_ns=_nanoseconds(certificate["not_before"]),
            not_after_ns=_nanoseconds(certificate["not_after"]),
            kind=kind,
            pem=str(certificate["pem"]),
        )

    def _generation(self, change: Change, edit: Callable[[Containment], Containment]) -> None:
        containment.replace(self.site_dir, lambda state: replace(edit(state), applied=change.id))


def raise_generation(site_dir: Path, change: Change) -> None:
    """Every process looks again at what it lets in, within a second."""
    containment.replace(site_dir, lambda state: replace(state, applied=change.id))


def _nanoseconds(text: object) -> int:
    return int(dt.datetime.fromisoformat(str(text)).timestamp()) * 1_000_000_000


_KINDS: Mapping[ChangeKind, Callable[[Changes, Change, Arguments], Result]] = {
    ChangeKind.CONFLICT_DISMISS: Changes._dismiss,
    ChangeKind.CONFLICT_PROMOTE: Changes._promote,
    ChangeKind.DEVICE_DISABLE: Changes._disable,
    ChangeKind.DEVICE_ENABLE: Changes._enable,
    ChangeKind.DEVICE_ENROLL: Changes._enroll,
    ChangeKind.DEVICE_RENEW: Changes._renew,
    ChangeKind.DEVICE_REVOKE: Changes._revoke,
    ChangeKind.DEVICE_SUPERSEDE: Changes._supersede,
    ChangeKind.DEVICE_WAIVE: Changes._waive,
    ChangeKind.DOOR_RENEW: Changes._bump,
    ChangeKind.INDEX_REBUILD: Changes._rebuild,
    ChangeKind.LOSS_ACCEPT: Changes._accept_loss,
    ChangeKind.NETWORK_CONFIRM: Changes._confirm_network,
    ChangeKind.SITE_APPLY: Changes._apply,
    ChangeKind.SITE_ASK: Changes._ask_site,
    ChangeKind.SITE_BACKUP: Changes._backup,
    ChangeKind.SITE_CONTAIN: Changes._contain_site,
    ChangeKind.SITE_RELEASE: Changes._release_site,
    ChangeKind.SITE_RESTORE: Changes._restore,
    ChangeKind.ZONE_CONTAIN: Changes._contain_zone,
    ChangeKind.ZONE_RELEASE: Changes._release_zone,
}
