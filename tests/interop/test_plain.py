"""Programs that know no TLS take part through the lab's relay: `getscu` and `movescu` from a bound address, `storescp` as C-MOVE destination."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.lab.corpus import Image, read_image
from leadglass.lab.peers import Archive, Identity, associated, storing
from leadglass.lab.relay import Credentials, Direction, Relay
from tests.programs import require
from tests.running import RunningSite, free_port, running, until
from tests.synthetic import digest, image, uid

SOURCE = "127.40.0.2"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("plain")) as site:
        site.up()
        site.enroll("CT1", "echo,store")
        site.enroll("OLD", "echo,find,get,move", network=f"{SOURCE}/32")
        site.enroll("SINK", "echo", "--address", f"127.0.0.1:{free_port()}")
        yield site


@pytest.fixture(autouse=True)
def _log(site: RunningSite) -> Iterator[None]:
    yield
    print(site.log())  # shown where the test failed


@pytest.fixture(scope="module")
def study(site: RunningSite) -> tuple[Image, ...]:
    rng = random.Random(11)
    name = uid(rng)
    sent = tuple(image(rng, study=name, pixels=size) for size in (512, 4096, 500_000))
    who = Identity("CT1", "127.0.0.1", site.bundles["CT1"].directory)
    with associated(who, Archive("127.0.0.1", site.port), storing(sent)) as session:
        assert [session.store(each).status for each in sent] == [0, 0, 0]
    return sent


def relay(site: RunningSite, *, bind: str = SOURCE) -> Relay:
    return Relay(("127.0.0.1", 0), ("127.0.0.1", site.port), credentials(site, "OLD"), bind=bind)


def credentials(site: RunningSite, name: str) -> Credentials:
    bundle = site.bundles[name]
    return Credentials(Path(bundle.certificate), Path(bundle.key), Path(bundle.authority))


def dcmtk(program: str, through: Relay, *words: str) -> subprocess.CompletedProcess[str]:
    host, port = through.address
    line = [require(program), "-v", "-aet", "OLD", "-aec", "LEADGLASS", *words, host, str(port)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def study_keys(study: tuple[Image, ...]) -> list[str]:
    return ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study[0].study_instance_uid}"]


def digests(directory: Path) -> dict[str, str]:
    found = [read_image(path) for path in directory.iterdir()]
    return {each.sop_instance_uid: digest(each) for each in found if each is not None}


def test_getscu_gets_every_byte(site: RunningSite, study: tuple[Image, ...], tmp_path: Path) -> None:
    with relay(site) as through:
        done = dcmtk("getscu", through, *study_keys(study), "+B", "-od", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(tmp_path) == {each.sop_instance_uid: digest(each) for each in study}


def test_movescu_to_a_plain_storescp(site: RunningSite, study: tuple[Image, ...], tmp_path: Path) -> None:
    address = next(row for row in site.rows("device", "list") if row["name"] == "SINK")["address"]
    plain = free_port()
    inward = Relay(
        ("127.0.0.1", int(address.rpartition(":")[2])),
        ("127.0.0.1", plain),
        credentials(site, "SINK"),
        direction=Direction.FROM_TLS,
    )
    line = [require("storescp"), "+B", "-od", str(tmp_path), str(plain)]
    with (
        subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scp,
        inward,
        relay(site) as out,
    ):
        try:
            assert until(lambda: _listens(plain))
            done = dcmtk("movescu", out, "-aem", "SINK", *study_keys(study))
        finally:
            scp.terminate()
    assert done.returncode == 0, done.stdout + done.stderr
    assert digests(tmp_path) == {each.sop_instance_uid: digest(each) for each in study}


def _listens(port: int) -> bool:
    """Looks without connecting: a storescp takes one association at a time."""
    return any(
        int(words[1].rpartition(":")[2], 16) == port and words[3] == "0A"
        for table in ("tcp", "tcp6")
        for words in (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
    )


def test_the_same_from_another_address_is_refused(site: RunningSite, study: tuple[Image, ...], tmp_path: Path) -> None:
    with relay(site, bind="127.40.0.3") as through:
        done = dcmtk("getscu", through, *study_keys(study), "-od", str(tmp_path))
    assert done.returncode != 0 and not list(tmp_path.iterdir())
    refused = [row for row in site.events("association:refused") if row["actor"] == "OLD"]
    assert re.search(r"comes from 127\.40\.0\.3, it is enrolled for 127\.40\.0\.2/32", refused[-1]["reason"])
