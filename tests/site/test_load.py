"""All problems at once, each with file, line and mend; any mutation of a good file loads or is SiteInvalid."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from leadglass.site.document import Problem, SiteInvalid
from leadglass.site.load import load
from leadglass.site.template import new_site_file
from leadglass.site.write import apply, apply_device, load_proven, repin_device, write_device
from leadglass.terms import Action, Fault

GOOD = """schema = 1
[site]
name = "lab"
[doors.dimse]
listen = "127.0.0.1:2762"
[services]
https = "tcp/443"
[zones.modalities]
networks = ["10.1.0.0/16"]
tags = ["phi"]
[zones.clinical]
networks = ["10.2.0.0/16"]
[devices.CT1]
zone = "modalities"
network = "10.1.0.1/32"
ae_titles = ["CT1"]
certificate = "spki-sha256:{pin}"
[[flows]]
id = "ct"
from = ["CT1"]
to = ["archive"]
service = "dicom-tls"
may = ["store"]
why = "it stores"
[[never]]
from = ["clinical"]
to = ["#phi"]
[limits]
idle_seconds = 60
""".replace("{pin}", "0" * 64)


def problems(tmp_path: Path, old: str, new: str) -> list[Problem]:
    assert old in GOOD
    (tmp_path / "leadglass.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(SiteInvalid) as caught:
        load(tmp_path)
    return list(caught.value.problems)


def test_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "leadglass.toml").write_text(GOOD)
    site = load(tmp_path)
    assert site.devices["CT1"].ae_titles == ("CT1",) and site.flows[0].may == {Action.STORE}
    assert site.limits.idle_seconds == 60 and site.services["dicom-tls"].port == 2762


@pytest.mark.parametrize(
    ("old", "new", "line", "message", "mend"),
    [
        ('name = "lab"', 'nam = "lab"', 3, "unknown key site.nam", "site.name"),
        ("[limits]\nidle_seconds", "[limits]\nidle_secs", 29, "unknown key limits.idle_secs", "idle_seconds"),
        ('networks = ["10.2.0.0/16"]', 'networks = ["10.1.5.0/24"]', 12, "overlaps", "split"),
        ('why = "it stores"', 'why = ""', 18, "no why", "why ="),
        ('from = ["CT1"]', 'from = ["CT7"]', 18, "unknown 'CT7'", "CT1"),
        ('may = ["store"]', 'may = ["stor"]', 23, "nobody may 'stor'", "store"),
        ('service = "dicom-tls"', 'service = "dicom"', 18, "unknown service", "dicom-tls"),
        ('zone = "modalities"', 'zone = "moon"', 14, "no known zone", "modalities"),
        ('network = "10.1.0.1/32"', 'network = "10.9.0.1/32"', 15, "not inside zone", "widen"),
        ('network = "10.1.0.1/32"', 'network = "10.1.0.1/33"', 15, "no network", "CIDR"),
        ('certificate = "spki-sha256:', 'certificate = "md5:', 17, "no pin", "sha256:HEX"),
        ('ae_titles = ["CT1"]', 'ae_titles = ["CT1 WITH A LONG TITLE"]', 16, "no AE title", "16"),
        ('listen = "127.0.0.1:2762"', 'listen = "everywhere"', 5, "no address to listen on", "ADDRESS:PORT"),
        ("schema = 1", "schema = 2", 1, "schema is 2", "schema = 1"),
        ("idle_seconds = 60", "idle_seconds = -1", 29, "no limit", "above zero"),
        ('to = ["#phi"]', 'to = ["#moon"]', 25, "unknown '#moon'", ""),
        ('https = "tcp/443"', 'https = "443"', 7, "no service", "protocol/port"),
        ("[site]", "[site", 2, "not TOML", "syntax"),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
def test_problems(tmp_path: Path, old: str, new: str, line: int, message: str, mend: str) -> None:
    told = [each for each in problems(tmp_path, old, new) if message in each.message and mend in each.mend]
    assert ("leadglass.toml", line) in [(each.file, each.line) for each in told]


def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace('name = "lab"', 'nam = "lab"')
        .replace('why = "it stores"', "")
        .replace("10.1.0.1/32", "10.9.0.1/32")
    )
    (tmp_path / "leadglass.toml").write_text(text)
    with pytest.raises(SiteInvalid) as caught:
        load(tmp_path)
    assert len(caught.value.problems) == 3


def test_any_mutation_loads_or_is_invalid(tmp_path: Path) -> None:
    chance = random.Random(7)
    broken = 0
    for _ in range(400):
        text = list(GOOD)
        for _ in range(chance.randint(1, 6)):
            text[chance.randrange(len(text))] = chance.choice('"[]={}.0#\nx\\')
        (tmp_path / "leadglass.toml").write_text("".join(text))
        try:
            load(tmp_path)
        except SiteInvalid as invalid:
            broken += 1
            assert all(each.message and each.mend for each in invalid.problems)
    assert broken > 100


@pytest.mark.parametrize("loopback", [True, False])
def test_what_init_writes_is_sound_and_allows_nothing(tmp_path: Path, loopback: bool) -> None:
    text = new_site_file("pacs.example", loopback=loopback, listen="127.0.0.1:2762", key="file:keys/site.key")
    (tmp_path / "leadglass.toml").write_text(text)
    site = load(tmp_path)
    assert (site.devices, site.flows) == ({}, ())


DEVICE = {
    "zone": "modalities",
    "network": "10.1.0.2/32",
    "ae_titles": ["MR1"],
    "certificate": ["sha256:" + "1" * 64],
    "owner": 'Dr. "X"\n\\',
}
FLOW = {"id": "mr", "from": ["MR1"], "to": ["archive"], "service": "dicom-tls", "may": ["store"], "why": "it stores"}


def test_a_command_adds_a_file_and_leaves_a_persons_edits_unapplied(tmp_path: Path) -> None:
    file = tmp_path / "leadglass.toml"
    file.write_text(GOOD)
    with pytest.raises(Fault, match="never proven|was ever proven"):
        load_proven(tmp_path)
    first = apply(tmp_path)
    assert load_proven(tmp_path).name == "lab" and first.live == ("everything",)
    file.write_text(GOOD.replace('name = "lab"', 'name = "edited"'))
    write_device(tmp_path, "MR1", DEVICE, FLOW)
    apply_device(tmp_path, "MR1")
    proven = load_proven(tmp_path)
    assert (proven.name, set(proven.devices)) == ("lab", {"CT1", "MR1"})
    assert proven.devices["MR1"].owner == 'Dr. "X"\n\\', "quoting survives anything"
    assert file.read_text() == GOOD.replace('name = "lab"', 'name = "edited"')
    assert apply(tmp_path).at_restart == ("name",)


def test_a_device_gets_other_pins_where_a_command_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "leadglass.toml").write_text(GOOD)
    write_device(tmp_path, "MR1", DEVICE, FLOW)
    repin_device(tmp_path, "MR1", ["sha256:" + "2" * 64])
    assert load(tmp_path).devices["MR1"].certificates == ("sha256:" + "2" * 64,)
    with pytest.raises(Fault, match="leadglass.toml"):
        repin_device(tmp_path, "CT1", ["sha256:" + "2" * 64])
