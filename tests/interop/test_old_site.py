"""The bytes of the first site still open: records, journal, keyring, register and kit of format 1, kept as they were written.

`tests/data/site-format-1.tar.gz` is a throw-away loopback site with two synthetic instances, one current and one held. Its keys guard nothing.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.test_pacs import find, get
from tests.running import Bundle, RunningSite, free_port

KEPT = Path(__file__).parents[1] / "data" / "site-format-1.tar.gz"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RunningSite]:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    site = RunningSite(tmp_path / "site", free_port())
    file = site.directory / "leadglass.toml"
    file.write_text(file.read_text().replace("127.0.0.1:2762", f"127.0.0.1:{site.port}"))
    site.command("apply")
    site.command("device", "renew", "WS1", "--out", str(tmp_path / "stick"))  # the kept one expires some day
    site.bundles["WS1"] = Bundle("WS1", tmp_path / "stick")
    try:
        site.up()
        yield site
    finally:
        site.down()


def test_it_serves_what_it_kept(site: RunningSite) -> None:
    (answer,) = find(site, "WS1", PatientID="KEPT", StudyInstanceUID="", NumberOfStudyRelatedInstances="")
    assert answer.NumberOfStudyRelatedInstances == 1
    (kept,), status = get(site, "WS1", answer.StudyInstanceUID)
    assert status.Status == 0 and kept.PatientName == "Kept^Synthetic" and kept.PixelData == bytes(range(256)) * 2
    (held,) = site.rows("conflicts", "list")
    assert (held["version"], held["holds"]) == (2, ["conflict"])


def test_its_journal_reads_its_kit_opens_and_its_index_is_made_again(site: RunningSite) -> None:
    kinds = {row["kind"] for row in site.events()}
    assert {"instance:stored", "instance:conflicted", "change:completed", "association:admitted"} <= kinds
    site.down()
    assert "register" in site.command("key", "verify").stdout
    before = site.command("index", "rows").stdout
    site.command("index", "rebuild")
    assert site.command("index", "rows").stdout == before and before
