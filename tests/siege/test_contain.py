"""`leadglass contain` while it runs: what is open ends, nothing else does, and all of it comes back by the same command."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from leadglass.lab.peers import Archive, Identity, TurnedAway, associated, echoing, querying, storing
from leadglass.lab.reader import Reader
from leadglass.site.write import load_proven
from leadglass.terms import Act, Role
from leadglass.wire.dimse import Status
from tests.interop.test_people import command, rows
from tests.lasting import answers, lasts
from tests.running import RunningSite, free_port, running, until
from tests.staff import Staff, staff
from tests.synthetic import image, uid

pytestmark = pytest.mark.xdist_group("contain")  # one site for all of it
ZONE = "ward"
NETWORK = "127.77.0.0/24"
WITHIN_SECONDS = 2.0
FLOWS = """
[[flows]]
id = "desks"
from = ["loopback"]
to = ["archive"]
service = "https"
auth = "mfa"
why = "people at their desks"
[[flows]]
id = "ward-console"
from = ["ward"]
to = ["archive"]
service = "https"
auth = "mfa"
on_demand = { approve = "biomedical-engineer", max = "1h", record = true }
why = "a vendor at the console, by appointment"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("contain")) as site:
        text = (site.directory / "leadglass.toml").read_text()
        loopback = 'networks = ["127.0.0.0/8"]'
        assert loopback in text
        rest = 'networks = ["127.0.0.0/10", "127.128.0.0/9"]'
        port = free_port()
        text = text.replace(loopback, rest).replace(
            '[doors.web]\nlisten = "127.0.0.1:0"', f'[doors.web]\nlisten = "127.0.0.1:{port}"'
        )
        zone = f'\n[services]\nhttps = "tcp/{port}"\n[zones.{ZONE}]\nnetworks = ["{NETWORK}"]\n'
        (site.directory / "leadglass.toml").write_text(text + zone + FLOWS)
        site.command("apply")
        site.up()
        site.enroll("CT1", "echo,store,find", network="127.0.0.1/32")
        site.enroll("CT9", "echo,store,find", network=NETWORK)
        yield site


def who(site: RunningSite, name: str) -> Identity:
    return Identity(name, "127.77.0.9" if name == "CT9" else "127.0.0.1", site.bundles[name].directory)


def archive(site: RunningSite) -> Archive:
    return Archive("127.0.0.1", site.port)


def let_in(site: RunningSite, name: str) -> bool:
    try:
        with associated(who(site, name), archive(site), echoing()) as session:
            return session.echo().status == Status.SUCCESS
    except TurnedAway:
        return False


def stores(site: RunningSite, name: str, seed: int, pixels: int = 512) -> int:
    same = uid(random.Random(seed + 2))
    one = image(random.Random(seed), study=uid(random.Random(seed + 1)), sop_instance=same, pixels=pixels)
    with associated(who(site, name), archive(site), storing([one])) as session:
        return session.store(one).status


def test_a_zone_goes_and_the_others_go_on(site: RunningSite) -> None:
    with pytest.raises(TurnedAway), associated(who(site, "CT9"), archive(site), querying()) as session:
        assert answers(session)
        site.command("contain", "zone", ZONE, "--reason", "odd traffic")
        assert until(lambda: not lasts(session), WITHIN_SECONDS), "what was open ends"
    assert not let_in(site, "CT9") and let_in(site, "CT1")
    assert stores(site, "CT1", 5) == Status.SUCCESS
    refused = site.events("association:refused")[-1]["reason"]
    assert ZONE in refused and "odd traffic" in refused
    (status,) = site.rows("status")
    assert status["contained_zones"] == [ZONE]
    assert {row["name"]: row["state"] for row in site.rows("device", "list")}["CT9"] == "contained"
    site.command("contain", "zone", ZONE, "--undo")
    assert until(lambda: let_in(site, "CT9"), WITHIN_SECONDS)
    changed = [row["action"] for row in site.events("change:completed")]
    assert changed[-2:] == ["zone-contain", "zone-release"]


def test_a_zone_that_is_none_and_a_containment_without_a_reason(site: RunningSite) -> None:
    done = site.command("contain", "zone", "nowhere", "--reason", "x", check=False)
    assert done.returncode != 0 and "no zone" in done.stderr
    done = site.command("contain", "zone", ZONE, check=False)
    assert done.returncode == 2 and "--reason" in done.stderr
    for name in ("wrad", ZONE):
        done = site.command("contain", "zone", name, "--undo", check=False)
        assert done.returncode == 1 and "is not contained; nothing of that kind is" in done.stderr, name


def test_who_moves_the_site_file_away_stops_nobody_from_containing(site: RunningSite) -> None:
    file = site.directory / "leadglass.toml"
    away = file.rename(file.with_suffix(".old"))
    try:
        site.command("contain", "device", "CT9", "--reason", "odd")
        assert site.rows("status")[0]["disabled"] == ["CT9"]
        site.command("contain", "device", "CT9", "--undo")
        done = site.command("apply", check=False)
        assert done.returncode != 0 and "leadglass.toml cannot be read" in done.stderr
    finally:
        away.rename(file)


def test_a_device_goes_and_comes_back(site: RunningSite) -> None:
    site.command("contain", "device", "CT9", "--reason", "odd")
    assert until(lambda: not let_in(site, "CT9"), WITHIN_SECONDS) and let_in(site, "CT1")
    site.command("contain", "device", "CT9", "--undo")
    assert until(lambda: let_in(site, "CT9"), WITHIN_SECONDS)


def test_what_a_command_changed_holds_for_the_next_one(site: RunningSite) -> None:
    """One after the other in the same process, so that nothing passes between them."""
    for _ in range(5):
        command(site, "contain", "site", "--reason", "an exercise")
        try:
            assert "the site is read-only (an exercise)" in command(site, "apply", code=1)[1]
            assert rows(site, "status")[0]["read_only"] == "an exercise"
        finally:
            command(site, "contain", "site", "--undo")
        assert "applied" in command(site, "apply")[0]
        assert rows(site, "status")[0]["read_only"] == ""


def test_a_read_only_site_takes_new_images_and_changes_nothing(site: RunningSite) -> None:
    site.command("contain", "site", "--reason", "ransomware suspected")
    try:
        assert until(lambda: site.rows("status")[0]["read_only"] == "ransomware suspected", WITHIN_SECONDS)
        assert stores(site, "CT1", 8) == Status.SUCCESS, "care goes on"
        with associated(who(site, "CT1"), archive(site), querying()) as session:
            assert answers(session), "whoever treats goes on reading"
        assert stores(site, "CT1", 8) == Status.SUCCESS, "the same again is no change"
        assert stores(site, "CT1", 8, pixels=600) not in (Status.SUCCESS, Status.PENDING), "nothing is overwritten"
        (held,) = site.rows("conflicts", "list")
        for words in (
            ("apply",),
            ("people", "add", "somebody", "--role", "auditor"),
            ("conflicts", "promote", held["sop_instance_uid"], "--version", str(held["version"])),
            ("conflicts", "dismiss", held["sop_instance_uid"], "--version", str(held["version"])),
        ):
            done = site.command(*words, check=False)
            assert done.returncode != 0 and "read-only" in done.stderr, words
    finally:
        site.command("contain", "site", "--undo")
    assert site.rows("status")[0]["read_only"] == ""
    site.command("apply")


def knocked(console: str) -> socket.socket:
    """A connection to the console that was answered once and stays open."""
    where = urlsplit(console)
    sock = socket.create_connection((str(where.hostname), where.port or 0), 5.0)
    sock.sendall(f"GET /healthz HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
    assert b"200 OK" in sock.recv(4096)
    return sock


def cut(sock: socket.socket) -> bool:
    with sock:
        sock.settimeout(WITHIN_SECONDS)
        try:
            while sock.recv(4096):
                continue  # the rest of what was answered before
            return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def test_people_work_from_nowhere_in_a_contained_zone(site: RunningSite) -> None:
    """A stolen session is worth nothing there; the same person goes on elsewhere."""
    with staff(site) as people:
        assert isinstance(people, Staff)
        people.hire("reader", Role.RADIOLOGIST)
        with people.browser("reader") as browser:
            assert browser.look("/?patient=NOBODY") == 200
            open_already = knocked(people.console)
            site.command("contain", "zone", "loopback", "--reason", "odd")
            try:
                assert cut(open_already), "a connection that says nothing is cut too"
                assert until(lambda: browser.look("/?patient=NOBODY") == 403, WITHIN_SECONDS)
                assert browser.step_up() is False, "no passkey helps"
                assert browser.send("/me/recovery-codes") in (401, 403), "nor does it make itself a way back in"
                with Reader(people.console, people.passkeys["reader"]) as another:
                    assert another.sign_in() is False
                assert "odd" in site.events("person:refused")[-1]["reason"]
            finally:
                site.command("contain", "zone", "loopback", "--undo")
            assert until(lambda: browser.look("/?patient=NOBODY") == 200, WITHIN_SECONDS)
        with people.browser("reader") as browser:
            site.command("contain", "person", "reader", "--reason", "left in a hurry")
            assert until(lambda: browser.lands("/") == "/sign-in", WITHIN_SECONDS)
            site.command("contain", "person", "reader", "--undo")


# ---- who comes to the web door at all


def calling(site: RunningSite, source: str) -> ssl.SSLSocket:
    """Somebody's connection to the web door."""
    door = load_proven(site.directory).doors.web
    assert door is not None
    context = ssl.create_default_context(cafile=str(site.directory / "ca" / "serving-ca.pem"))
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", door.port), 5.0, (source, 0)), server_hostname="localhost"
    )


def said(sock: socket.socket, path: str = "/healthz", body: str = "") -> int:
    host = "{}:{}".format("localhost", sock.getpeername()[1])
    form = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n" if body else ""
    own = f"Host: {host}\r\nOrigin: https://{host}\r\nSec-Fetch-Site: same-origin\r\n"
    sock.sendall(f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\n{own}{form}\r\n{body}".encode())
    return int(sock.recv(65536).split()[1])


def answered(site: RunningSite, source: str) -> int:
    with calling(site, source) as sock:
        return said(sock)


def test_a_flow_on_demand_to_the_web_door_lets_people_in_from_its_approval_to_its_end(site: RunningSite) -> None:
    ward, desk, nowhere = "127.77.0.9", "127.0.0.1", "127.77.1.9"
    assert answered(site, ward) == answered(site, nowhere) == 403 and answered(site, desk) == 200
    refused = site.events("person:refused")
    assert [row.get("rule", "") for row in refused[-2:]] == ["ward-console", ""]
    assert "ward-console is on demand, and not open now: ask for it at the console" in refused[-2]["reason"]
    assert "no flow leads from 127.77.1.9, which is in no zone" in refused[-1]["reason"]
    with staff(site) as people:
        people.hire("vendor", Role.VENDOR)
        for engineer in ("engineer", "another"):  # one alone would wait a day
            people.hire(engineer, Role.BIOMEDICAL_ENGINEER)
        request = people.ask("vendor", Act.FLOW_OPEN, "engineer", flows=["ward-console"], seconds=600)
        assert until(lambda: answered(site, ward) == 200, WITHIN_SECONDS)
        assert answered(site, nowhere) == 403
        with calling(site, ward) as guessing:
            said(guessing, "/sign-in/password", "name=vendor&password=lead+glass+lets+light&code=123456")
        stays = calling(site, ward)
        assert said(stays) == 200
        people.withdraw("engineer", request)
        assert cut(stays), "a connection that says nothing is cut too"
        assert answered(site, ward) == 403 and answered(site, desk) == 200
    head, *rows = site.rows("report", "transcript", request)
    (guess,) = [row for row in rows if row["what"] == "person:refused"]
    assert head["flows"] == ["ward-console"] and (guess["rule"], guess["from"]) == ("ward-console", ward)


def test_who_would_sign_themselves_out_is_asked_first(site: RunningSite) -> None:
    with staff(site) as people:
        people.hire("guard", Role.SECURITY_OFFICER)
        with people.browser("guard") as browser:
            assert browser.step_up()
            assert browser.send("/containment/zone", name="loopback", why="odd") == 409
            assert site.rows("status")[0]["contained_zones"] == []
            with contextlib.suppress(httpx2.HTTPError):  # whoever is cut off may hear no answer
                browser.send("/containment/zone", name="loopback", why="odd", me_too="yes")
            assert site.rows("status")[0]["contained_zones"] == ["loopback"]
            site.command("contain", "zone", "loopback", "--undo")
        with people.browser("guard") as browser:
            assert browser.send("/containment/zone", name=ZONE, why="odd") == 200
    site.command("contain", "zone", ZONE, "--undo")
