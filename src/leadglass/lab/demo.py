"""What does Leadglass do, in a minute? A site on loopback, real images in and out over mutual TLS, then six attacks that are refused."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from leadglass.lab.attacks import Targets, attacks, carry_out
from leadglass.lab.corpus import Image, corpus
from leadglass.lab.peers import (
    NATIVE,
    Received,
    TurnedAway,
    associated,
    committing,
    echoing,
    getting,
    querying,
    storing,
)
from leadglass.lab.reader import Reader
from leadglass.lab.report import Report
from leadglass.lab.site import DOOR_ADDRESS, PREFERRED_PORT, Enrolled, LabFailed, LabSite, free_port
from leadglass.lab.workstation import Workstation
from leadglass.wire import tags, uids
from leadglass.wire.dimse import Status
from leadglass.wire.elements import DataSet

WORKSTATION_ADDRESS, WORKSTATION_PORT = "127.20.2.10", 11112
MOVED_STUDIES = 5
READER = "demo-reader"
X_RAY = ("CT", "EnhancedCT", "ComputedRadiography", "DigitalXRay", "RT", "SecondaryCapture", "Segmentation")

SITE_FILE = """\
# The lab's site: three zones of a small hospital, all of them on this machine.
schema = 1

[site]
name = "localhost"
loopback = true
objects = "file:objects"
index = "sqlite:index/index.db"
key = "file:keys/site.key"

[doors.dimse]
listen = "{host}:{port}"
ae_title = "LEADGLASS"

[doors.web]
listen = "127.0.0.1:0"

[doors.console]
listen = "127.0.0.1:0"

[zones.modalities]
networks = ["127.20.1.0/24"]
tags = ["phi", "legacy"]

[zones.clinical]
networks = ["127.20.2.0/24"]
tags = ["phi"]

[zones.guest]
networks = ["127.20.66.0/24"]

[[never]]
from = ["guest"]
to = ["#phi", "archive"]
"""

PROMISES = """
[[tests]]
who = "CT1"
accept = ["archive:store CTImageStorage", "archive:commit"]
deny = ["archive:find", "archive:get", "archive:move", "archive:store MRImageStorage", "clinical:*", "guest:*"]
why = "a stolen scanner must not become a query station"

[[tests]]
who = "MR1"
accept = ["archive:store MRImageStorage"]
deny = ["archive:find", "archive:get", "archive:move", "archive:store CTImageStorage"]
why = "each room stores what it makes"

[[tests]]
who = "WS1"
accept = ["archive:find", "archive:get", "archive:move"]
deny = ["archive:store CTImageStorage", "modalities:*", "guest:*"]
why = "who reads does not write"

[[tests]]
who = "guest"
deny = ["archive:*", "modalities:*", "clinical:*"]
why = "the waiting room's network leads nowhere"
"""


def demo(directory: Path, *, check: bool) -> int:
    """Makes or reuses the site, shows what it does, stays up until Ctrl-C (or ends with `check`); the exit code."""
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell that started it in the background has it ignore the first
        signal.signal(each, signal.default_int_handler)
    report, site, begun = Report(), LabSite(directory), time.monotonic()
    workstation: Workstation | None = None
    code = 130
    try:
        images = corpus()
        if not images:
            raise LabFailed("no images: the packages pydicom and pydicom-data are missing; `make demo` installs them")
        lab = _Lab(site, report, images)
        workstation = lab.open()
        lab.send()
        lab.query()
        lab.retrieve(workstation)
        lab.commit()
        lab.attack()
        lab.people()
        code = report.verdict()
        report.say(f"  {time.monotonic() - begun:.0f} s")
        if not check:
            _stay(report, site)
    except (LabFailed, TurnedAway) as failed:
        report.say(f"\n  The demo failed: {failed}")
        code = 1
    except KeyboardInterrupt:
        report.say("\n  stopping")
    finally:
        if workstation is not None:
            workstation.close()
        stopped = site.down()
    if stopped and code == 0:
        report.say(f"  the site did not stop as promised: exit code {stopped}")
        return 1
    return code


def _stay(report: Report, site: LabSite) -> None:
    command = f"leadglass --site {site.directory}"
    if site.administrator:
        report.say(f"\n  You are the administrator, with a passkey of your browser's: open {site.administrator}")
    else:
        report.say(f"\n  The console: {site.console}")
    report.say(
        f"\n  The site stays up at {site.archive.host}:{site.archive.port} until Ctrl-C. In another terminal (. .venv/bin/activate):\n"
        f"    {command} events --follow\n    {command} status\n    {command} device list\n    {command} conflicts list"
    )
    while site.process is not None and site.process.poll() is None:
        threading.Event().wait(1)
    raise LabFailed(f"the site ended by itself; the end of {site.log}:\n{site.log_end()}")


class _Lab:
    """The hospital: two rooms that make images, a workstation that reads them, a loaner that gets lost."""

    def __init__(self, site: LabSite, report: Report, images: Sequence[Image]) -> None:
        self.site, self.report, self.images = site, report, images
        self.x_ray = [image for image in images if image.sop_class.startswith(X_RAY)]
        self.other = [image for image in images if not image.sop_class.startswith(X_RAY)]
        self.sent = {each.sop_instance_uid: hashlib.sha256(each.data_set).hexdigest() for each in images}
        self.ct = Enrolled(
            "CT1", "127.20.1.10", "echo,store,commit", "the X-ray rooms store what they make", "", _classes(self.x_ray)
        )
        self.mr = Enrolled(
            "MR1", "127.20.1.11", "echo,store", "MR and ultrasound store what they make", "", _classes(self.other)
        )
        self.loaner = Enrolled("LOANER", "127.20.1.99", "echo,store", "a loaner for a week")
        self.reader = Enrolled("WS1", WORKSTATION_ADDRESS, "echo,find,get,move", "radiologists read here")
        self.devices = (self.ct, self.mr, self.reader, self.loaner)

    # ---- the site

    def open(self) -> Workstation:
        """Makes or reuses the site, enrols who is not, and brings everything up."""
        known = self.site.exists
        self.report.title(f"Leadglass demo{', again' if known else ''}: {self.site.directory}")
        if not known:
            self.site.init()
        station = (WORKSTATION_ADDRESS, free_port(WORKSTATION_ADDRESS, WORKSTATION_PORT))
        with self.report.progress("making", 6) as advance:
            self._enroll(f"{station[0]}:{station[1]}", advance)
            self.site.up()
            advance(1)
        workstation = Workstation(station, self.site.identity(self.reader).credentials())
        sound = self.site.run("check")[-1]
        where = f"{self.site.archive.host}:{self.site.archive.port}"
        self.report.fact(
            "site", f"{where}, mutual TLS, {sound['flows']} flows, {sound['tests']} tests of its file hold"
        )
        for device in self.devices:
            self.report.fact("", f"{device.name:<7} at {device.source:<12} may {device.may}")
        return workstation

    def _enroll(self, station: str, advance: Callable[[int], None]) -> None:
        """What is missing only: the second time there is little to do."""
        text = SITE_FILE.format(host=DOOR_ADDRESS, port=free_port(DOOR_ADDRESS, PREFERRED_PORT))
        file = self.site.directory / "leadglass.toml"
        if not all(self.site.has_stick(device.name) for device in self.devices):
            self.site.write(text)  # its promises are about devices that are not there yet
        else:  # it was reported lost the last time
            self.site.run("device", "renew", self.loaner.name, "--out", str(self.site.sticks / self.loaner.name))
        for device in self.devices:
            self.site.enroll(replace(device, address=station) if device is self.reader else device)
            advance(1)
        moved = self._moved(station)
        if moved or file.read_text(encoding="utf-8") != text + PROMISES:
            self.site.write(text + PROMISES)
        advance(1)

    def _moved(self, station: str) -> bool:
        """The workstation listens somewhere else than the last time: its device file says so from now on."""
        path = self.site.directory / "devices.d" / f"{self.reader.name}.toml"
        old = path.read_text(encoding="utf-8")
        new = re.sub(r'(?m)^address = ".*"$', f'address = "{station}"', old)
        if new == old:
            return False
        path.write_text(new, encoding="utf-8")
        return True

    # ---- what it is for

    def send(self) -> None:
        """Both rooms send what they have, at the same time."""
        begun, refused = time.monotonic(), list[str]()
        with self.report.progress("sending", len(self.images)) as advance:
            rooms = ((self.ct, self.x_ray), (self.mr, self.other))
            with ThreadPoolExecutor(len(rooms)) as pool:
                for answers in pool.map(lambda room: self._store(room[0], room[1], advance), rooms):
                    refused += answers
        seconds = time.monotonic() - begun
        size = sum(len(image.data_set) for image in self.images) / 1e6
        text = f"{len(self.images)} images, {size:.0f} MB, from two rooms at once in {seconds:.1f} s"
        self.report.check("stored", "; ".join([text, *refused[:3]]), holds=not refused)

    def _store(self, device: Enrolled, images: Sequence[Image], advance: Callable[[int], None]) -> list[str]:
        refused = []
        with associated(self.site.identity(device), self.site.archive, storing(images)) as session:
            for image in images:
                answer = session.store(image)
                if answer.status != Status.SUCCESS:
                    refused.append(f"{image.name}: {answer}")
                advance(1)
        return refused

    def query(self) -> None:
        keys = dict.fromkeys((tags.STUDY_INSTANCE_UID, tags.PATIENT_ID, tags.PATIENT_NAME, tags.STUDY_DATE), "")
        with associated(self.site.identity(self.reader), self.site.archive, [*querying(), *echoing()]) as session:
            alive = session.echo()
            answer, rows = session.find("STUDY", keys)
        wanted = {image.study_instance_uid for image in self.images}
        found = {row.get(tags.STUDY_INSTANCE_UID, "") for row in rows}
        patients = {row.get(tags.PATIENT_ID, "") for row in rows}
        holds = answer.status == alive.status == Status.SUCCESS and wanted <= found
        self.report.check(
            "queried", f"{len(rows)} studies of {len(patients)} patients, all that were sent", holds=holds
        )

    def retrieve(self, workstation: Workstation) -> None:
        """Everything by C-GET, some studies by C-MOVE; each compared with what was sent."""
        studies = sorted({image.study_instance_uid for image in self.images})
        came: dict[str, str] = {}

        def take(instance: Received) -> int:
            came[instance.sop_instance_uid] = hashlib.sha256(instance.data_set).hexdigest()
            advance(1)
            return Status.SUCCESS

        pairs = [(image.sop_class_uid, image.transfer_syntax_uid) for image in self.images]
        identity = self.site.identity(self.reader)
        with (
            self.report.progress("retrieving", len(self.images)) as advance,
            associated(identity, self.site.archive, getting(pairs)) as session,
        ):
            for study in studies:
                session.get("STUDY", {tags.STUDY_INSTANCE_UID: study}, take)
        same = sum(came.get(uid) == digest for uid, digest in self.sent.items())
        text = f"{same} of {len(self.sent)} by C-GET, byte for byte as they were sent"
        self.report.check("retrieved", text, holds=same == len(self.sent))
        moved = {uid for image in self.images if image.study_instance_uid in studies[:MOVED_STUDIES]
                 for uid in [image.sop_instance_uid]}  # fmt: skip
        with associated(identity, self.site.archive, querying()) as session:
            for study in studies[:MOVED_STUDIES]:
                session.move("STUDY", {tags.STUDY_INSTANCE_UID: study}, self.reader.name)
        same = sum(workstation.digests.get(uid) == self.sent[uid] for uid in moved)
        text = f"{same} of {len(moved)} by C-MOVE to {self.reader.name} over its own TLS, byte for byte"
        self.report.check("", text, holds=same == len(moved))

    def commit(self) -> None:
        """Storage commitment: may the room delete its copies?"""
        references = [(image.sop_class_uid, image.sop_instance_uid) for image in self.x_ray]
        with associated(self.site.identity(self.ct), self.site.archive, committing()) as session:
            answer = session.commit(uids.uid_from(os.urandom(16)), references)
            report = session.report() if answer.status == Status.SUCCESS else DataSet()
        kept, failed = (report.get(tag) for tag in (tags.REFERENCED_SOP_SEQUENCE, tags.FAILED_SOP_SEQUENCE))
        count = len(kept.value) if kept is not None and isinstance(kept.value, tuple) else 0
        text = f"{count} of {len(references)} confirmed to {self.ct.name}, which may delete its copies now"
        self.report.check("committed", text, holds=count == len(references) and failed is None)

    def people(self) -> None:
        """Somebody who reads: sees their own patients, nobody else's, and anybody in an emergency, at the price of a review."""
        self.report.title("A simulated radiologist, at the console")
        patients = sorted({(image.patient_id, image.study_instance_uid) for image in self.images if image.patient_id})
        mine = patients[0]
        relations = self.site.directory / "lab" / "relations.csv"
        relations.write_text(f"person,relation,patient_id\n{READER},care-team,{mine[0]}\n", encoding="utf-8")
        link = self._link()
        self.site.run("relations", "import", str(relations))
        with Reader(self.site.console) as reader:
            self.report.check("enrolled", "with a passkey, by a link that is good once", holds=reader.enrol(link))
            self.report.check("signed in", "with that passkey: one gesture, no password", holds=reader.sign_in())
            # Whose glass was broken by the last demo is seen for the rest of that hour.
            other = next(each for each in patients[1:] if not reader.studies(each[0]))
            seen = reader.studies(mine[0])
            holds = mine[1] in seen and reader.open(other[1]) == reader.open("1.2.3.4") == 403
            studies = "1 study" if len(seen) == 1 else f"{len(seen)} studies"
            text = f"{studies} of a patient in their care; none of another one, no more than of one that is not there"
            self.report.check("sees", text, holds=holds)
            broken = reader.break_glass(other[1], "synthetic emergency of the demo")
            text = "broken for that other patient, for an hour, with a reason; the security officer is told and must review it"
            self.report.check("glass", text, holds=broken == 200 and other[1] in reader.studies(other[0]))

    def _link(self) -> str:
        """For a new passkey: the simulated one does not outlive the demo."""
        why = ("--why", "reads in the demo")
        known = any(row["name"] == READER for row in self.site.run("people", "list"))
        words = ("reset", READER) if known else ("add", READER, "--role", "radiologist")
        return str(self.site.run("people", *words, *why)[-1]["enrolment"])

    def attack(self) -> None:
        self.report.title("Six attacks")
        image = next(each for each in self.other if each.transfer_syntax_uid in NATIVE)
        planned = attacks(self.site, Targets(self.ct, self.mr, self.reader, self.loaner, image))
        for number, outcome in enumerate(carry_out(self.site, planned), start=1):
            self.report.attack(number, outcome.attack.title, outcome.heard, outcome.reason, refused=outcome.refused)
        with associated(self.site.identity(self.reader), self.site.archive,
                        getting([(image.sop_class_uid, image.transfer_syntax_uid)])) as session:  # fmt: skip
            came: list[Received] = []

            def take(instance: Received) -> int:
                came.append(instance)
                return Status.SUCCESS

            session.get("IMAGE", _unique_keys(image), take)
        holds = [hashlib.sha256(each.data_set).hexdigest() for each in came] == [self.sent[image.sop_instance_uid]]
        self.report.check("afterwards", "the image that was to be replaced is what it was", holds=holds)


def _unique_keys(image: Image) -> dict[int, str]:
    return {
        tags.STUDY_INSTANCE_UID: image.study_instance_uid,
        tags.SERIES_INSTANCE_UID: image.series_instance_uid,
        tags.SOP_INSTANCE_UID: image.sop_instance_uid,
    }


def _classes(images: Sequence[Image]) -> tuple[str, ...]:
    return tuple(sorted({image.sop_class for image in images}))
