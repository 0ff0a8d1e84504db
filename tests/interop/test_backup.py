"""A site is copied twice while four devices store, is lost with its keys, and comes back from the copy and the recovery kit alone."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadglass.lab.peers import Archive, TurnedAway, associated, echoing, storing
from tests.crash.test_kills import LIMITS, SENDERS, Senders, identity, retrieved
from tests.running import RunningSite, running, until
from tests.synthetic import digest, image

SEED = 1124
BETWEEN = 60  # instances acknowledged before and between the backups


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningSite]:
    with running(tmp_path, LIMITS) as site:
        site.up()
        for number in range(SENDERS):
            site.enroll(f"S{number}", "echo,store")
        site.enroll("READER", "find,get")
        site.enroll("LOST", "echo,store")
        site.command("device", "revoke", "LOST", "--reason", "stolen")
        yield site
        print(site.log())  # shown where the test failed


def acknowledged(senders: Senders) -> set[str]:
    return set().union(*(set(each.acknowledged) for each in senders.each))


def backed_up(site: RunningSite, place: Path) -> dict[str, int]:
    (result,) = site.rows("backup", str(place))
    return result


def test_what_was_acknowledged_before_the_backup_comes_back_from_it_and_the_kit(
    site: RunningSite, tmp_path: Path
) -> None:
    place, kit = tmp_path / "backup", tmp_path / "kit"
    with Senders(site, SEED) as senders:
        assert until(lambda: senders.count() > BETWEEN, 60)
        first = backed_up(site, place)
        assert until(lambda: senders.count() > first["files"] + 2 * BETWEEN, 60)
        promised = acknowledged(senders)
        second = backed_up(site, place)
        assert acknowledged(senders) > promised, "nothing was stored during the second backup"
        senders.until_served()
    assert (first["number"], second["number"]) == (1, 2)
    assert first["skipped"] == 0 < second["skipped"], "what was final is not copied again"
    site.down()
    shutil.move(site.directory / "kit", kit)
    shutil.rmtree(site.directory)

    (verified,) = site.rows("backup", "verify", str(place), "--kit", str(kit))
    assert verified["seal_checked"] and verified["files"] == second["files"]
    words = ("restore", str(place), str(site.directory), "--kit", str(kit), "--json")
    restored = json.loads(site.command(*words, site=False).stdout)
    assert restored["devices"] == SENDERS + 2 and restored["revoked"] == 1 and restored["last_event"]
    assert restored["instances"] >= len(promised)
    site.up()

    sent = {key: each for sender in senders.each for key, each in sender.sent.items()}
    studies = sorted({each.study_instance_uid for each in sent.values()})
    came = retrieved(site, studies)  # with the certificate that READER was given before
    lost = promised - set(came)
    assert not lost, f"{len(lost)} of {len(promised)} are lost"
    assert not [key for key, value in came.items() if digest(sent[key]) != value]
    assert len(came) == restored["instances"]
    before = site.command("index", "rows").stdout
    site.command("index", "rebuild")
    assert site.command("index", "rows").stdout == before and before.count("\n") > len(promised)

    archive = Archive("127.0.0.1", site.port)
    fresh = image(random.Random(SEED))
    with associated(identity(site, "S0"), archive, storing([fresh])) as session:
        assert session.store(fresh).status == 0
    with pytest.raises(TurnedAway), associated(identity(site, "LOST"), archive, echoing()):
        pass
    assert not site.rows("status")[0]["unfinished_changes"]
    kinds = [row["action"] for row in site.events("change:completed")]
    assert kinds.count("site-backup") == 1 and kinds.count("site-restore") == 1, "the second is in no copy of its own"
    print(f"promised {len(promised)}, came back {len(came)}; {first} {second}")
    assert backed_up(site, place)["number"] == 3, "the restored site goes on in the same backup"


def test_a_damaged_backup_is_named_and_nothing_is_restored(site: RunningSite, tmp_path: Path) -> None:
    place = tmp_path / "backup"
    backed_up(site, place)
    (journal, *_) = sorted(place.glob("*/writers/*/journal-*"))
    content = bytearray(journal.read_bytes())
    content[200] ^= 1
    journal.write_bytes(content)
    verified = site.command("backup", "verify", str(place), check=False)
    assert verified.returncode == 3 and journal.name in verified.stdout
    target = tmp_path / "other"
    words = ("restore", str(place), str(target), "--key", str(site.directory / "keys" / "site.key"))
    restored = site.command(*words, check=False, site=False)
    assert restored.returncode == 1 and journal.name in restored.stderr and not target.exists()
