"""Edits of a site file's text: what is meant and nothing else, every other word where a person put it, and what is not understood left alone."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.site.draft import Disable, Drop, Edit, Rewrite, draft, edited
from leadglass.site.load import load
from leadglass.site.model import Site
from leadglass.site.write import texts
from leadglass.terms import Action
from tests.policy.firewall.sites import generated

TEXT = """# the site of a small hospital
schema = 1

[site]
name = "leadglass.example"   # not a real one
key = "credential:site.key"

[doors.dimse]
listen = "0.0.0.0:2762"

[services]
# what people use
https = "tcp/443"
rdp = "tcp/3389"  # maintenance

[zones.rooms]
networks = [
    "10.1.0.0/24",
    # "[[flows]]" is no header here
    "10.2.0.0/24",
]

[devices.CT1]
zone = "rooms"
network = "10.1.0.1/32"
ae_titles = ["CT1"]

[devices."CT.2"]
zone = "rooms"
network = "10.1.0.2/32"
enabled = true   # since June

# images
[[flows]]
id = "images"
from = ["rooms"]
to = ["archive"]
service = "dicom-tls"
may = [
    "echo",  # asked for by the maker
    "store",
    "find",
]
why = "CT acquires [and stores]"

[[flows]]
id = "desk"
from = ["rooms"]
to = ["CT1"]
service = "rdp"
why = "maintenance"

# the end
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "leadglass.toml").write_text(TEXT)
    return load(tmp_path)


def after(site: Site, *edits: Edit) -> str:
    """The draft; that it says what is meant is checked by reading it again."""
    files, left = draft(texts(site.path), site, edits)
    assert left == ()
    for name, text in files.items():
        (site.path / name).write_text(text)
    found, meant = load(site.path), edited(site, edits)
    assert (found.flows, found.devices, found.services) == (meant.flows, meant.devices, meant.services)
    return files["leadglass.toml"]


def flow(site: Site, name: str, **changes: object) -> Rewrite:
    (found,) = (each for each in site.flows if each.id == name)
    return Rewrite(name, (replace(found, **changes),))  # type: ignore[arg-type]


def test_nothing_is_nothing(site: Site) -> None:
    assert after(site) == TEXT


def test_a_flow_goes_and_what_stands_around_it_stays(site: Site) -> None:
    text = after(site, Rewrite("desk", ()))
    assert text == TEXT.replace(TEXT[TEXT.index('[[flows]]\nid = "desk"') : TEXT.index("# the end")], "")


def test_a_value_over_several_lines_is_replaced_whole(site: Site) -> None:
    text = after(
        site, flow(site, "images", may=frozenset({Action.STORE}), sop_classes=frozenset({"1.2.840.10008.5.1.4.1.1.2"}))
    )
    assert 'may = ["store"]\nsop_classes = ["CTImageStorage"]\nwhy = "CT acquires [and stores]"\n' in text
    assert text.replace('may = ["store"]\nsop_classes = ["CTImageStorage"]\n', "") == TEXT.replace(
        TEXT[TEXT.index("may = [") : TEXT.index('why = "CT')], ""
    )


def test_a_flow_is_split_and_each_keeps_its_words(site: Site) -> None:
    (images,) = (each for each in site.flows if each.id == "images")
    into = (
        replace(images, sources=("CT1",), may=frozenset({Action.STORE})),
        replace(images, id="images-2", sources=("CT.2",), may=frozenset({Action.FIND})),
    )
    text = after(site, Rewrite("images", into))
    assert text.count('why = "CT acquires [and stores]"') == 2 and text.index('"images-2"') < text.index('id = "desk"')


def test_a_device_is_kept_out_and_a_service_goes(site: Site) -> None:
    text = after(site, Disable("CT1"), Disable("CT.2"), Rewrite("desk", ()), Drop("rdp"))
    assert 'ae_titles = ["CT1"]\nenabled = false\n' in text and "since June" not in text and "tcp/3389" not in text
    assert "# what people use\n" in text and text.count("enabled = false") == 2


def test_every_edit_of_a_file_by_chance(tmp_path: Path) -> None:
    for seed in range(30):
        site = generated(tmp_path / str(seed), seed)
        rng = random.Random(seed)
        edits: list[Edit] = []
        for each in site.flows:
            match rng.randrange(4):
                case 0:
                    edits.append(Rewrite(each.id, ()))
                case 1:
                    edits.append(Rewrite(each.id, (replace(each, sources=each.sources[:1]),)))
                case 2:
                    edits.append(Rewrite(each.id, (each, replace(each, id=f"{each.id}-2", targets=each.targets))))
        edits += [Disable(name) for name in site.devices if rng.random() < 0.3]
        after(site, *edits)


def test_a_device_file_of_a_command_is_edited_too(site: Site) -> None:
    (site.path / "devices.d").mkdir()
    (site.path / "devices.d" / "MR1.toml").write_text(
        '[devices.MR1]\nzone = "rooms"\nnetwork = "10.1.0.9/32"\n\n[[flows]]\nid = "MR1-enrolled"\nfrom = ["MR1"]\nto = ["archive"]\n'
        'service = "dicom-tls"\nmay = ["echo", "store"]\nwhy = "it stores"\n'
    )
    site = load(site.path)
    edits = flow(site, "MR1-enrolled", may=frozenset({Action.STORE})), Disable("MR1")
    files, left = draft(texts(site.path), site, edits)
    assert left == () and files["leadglass.toml"] == TEXT
    assert 'may = ["store"]\n' in files["devices.d/MR1.toml"] and "enabled = false" in files["devices.d/MR1.toml"]


@pytest.mark.parametrize(
    ("old", "new", "edit"),
    [
        ('[devices.CT1]\nzone = "rooms"\nnetwork', "[devices]\nCT1.zone = 'rooms'\nCT1.ae_titles = ['CT1']\nCT1.network", Disable("CT1")),
        ('[services]\n# what people use\nhttps = "tcp/443"\nrdp = "tcp/3389"', 'services = {https = "tcp/443", rdp = "tcp/3389"}', Drop("rdp")),
        ("[[flows]]", "[[ 'flows' ]]", Rewrite("desk", ())),
    ],
)  # fmt: skip
def test_what_is_written_in_another_way_is_left_to_a_person(tmp_path: Path, old: str, new: str, edit: Edit) -> None:
    text = TEXT.replace(old, new)
    if new.startswith("[devices]"):
        text = text.replace('network = "10.1.0.1/32"\nae_titles = ["CT1"]', 'network = "10.1.0.1/32"')
    if new.startswith("services"):
        text = text.replace(new + "  # maintenance", "").replace("schema = 1\n", f"schema = 1\n{new}\n")
    (tmp_path / "leadglass.toml").write_text(text)
    site = load(tmp_path)
    files, left = draft(texts(tmp_path), site, [edit])
    assert left == (edit,) and files == texts(tmp_path)


def test_a_name_that_is_not_there_is_left_too(site: Site) -> None:
    assert draft(texts(site.path), site, [Disable("nobody"), Drop("none")])[1] == (Disable("nobody"), Drop("none"))
