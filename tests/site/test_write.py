"""Device files of commands, and the proven copy: a person's unproven edits never serve, what serves is what was proven."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadglass.site.document import SiteInvalid
from leadglass.site.load import load
from leadglass.site.model import Site
from leadglass.site.write import (
    PROVEN_KEPT_MAX,
    apply,
    apply_device,
    device_file,
    load_proven,
    proven_directory,
    remove_device,
    repin_device,
    write_device,
)
from leadglass.terms import Fault, NotChanged
from tests.site.test_load import GOOD

PIN = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


def device(number: int = 2, **more: object) -> dict[str, object]:
    return {"zone": "modalities", "network": f"10.1.0.{number}/32", "certificate": [f"sha256:{number:064x}"], **more}


def flow(name: str) -> dict[str, object]:
    return {
        "id": f"{name}-enrolled", "from": [name], "to": ["archive"], "service": "dicom-tls", "may": ["store"], "why": "it stores",
    }  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "leadglass.toml").write_text(GOOD)
    return tmp_path


def edit(place: Path, old: str, new: str) -> None:
    file = place / "leadglass.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_nothing_serves_before_it_was_proven(place: Path) -> None:
    with pytest.raises(Fault, match="ever proven"):
        load_proven(place)
    assert apply(place).live == ("everything",)
    assert load_proven(place).name == "lab"


def test_a_command_adds_a_file_and_leaves_a_persons_edits_unapplied(place: Path) -> None:
    apply(place)
    edit(place, 'name = "lab"', 'name = "edited"')
    write_device(place, "MR1", device(owner='Dr. "X"\n\\'), flow("MR1"))
    apply_device(place, "MR1")
    proven = load_proven(place)
    assert (proven.name, set(proven.devices)) == ("lab", {"CT1", "MR1"})
    assert proven.devices["MR1"].owner == 'Dr. "X"\n\\', "quoting survives anything"
    assert (place / "leadglass.toml").read_text() == GOOD.replace('name = "lab"', 'name = "edited"')
    applied = apply(place)
    assert (applied.live, applied.at_restart) == ((), ("name",))


def test_only_what_means_something_else_is_a_change(place: Path) -> None:
    apply(place)
    edit(place, "schema = 1", "# a line more\nschema = 1")
    applied = apply(place)
    assert (applied.live, applied.at_restart) == ((), ())
    edit(
        place,
        "[[never]]",
        '[[flows]]\nid = "out"\nfrom = ["CT1"]\nto = ["clinical"]\nservice = "https"\nwhy = "x"\n[[never]]',
    )
    assert apply(place).live == ("flows",)


def test_what_is_proven_is_what_was_copied(place: Path) -> None:
    """The file changes while it is proven: what serves is what `accept` saw."""
    seen = []

    def accept(site: Site) -> None:
        seen.append(site.name)
        edit(place, 'name = "lab"', 'name = "later"')

    apply(place, accept)
    assert seen == ["lab"] and load_proven(place).name == "lab"


def test_what_is_not_accepted_does_not_serve(place: Path) -> None:
    apply(place)
    edit(place, 'name = "lab"', 'name = "edited"')

    def refuse(site: Site) -> None:
        raise NotChanged(f"{site.name} may not serve")

    write_device(place, "MR1", device(), flow("MR1"))
    for attempt in (lambda: apply(place, refuse), lambda: apply_device(place, "MR1", refuse)):
        with pytest.raises(NotChanged):
            attempt()
    assert load_proven(place).name == "lab" and set(load_proven(place).devices) == {"CT1"}
    assert not list((place / "state" / "proven").glob("*.part"))


def test_a_broken_file_does_not_serve_and_breaks_nothing(place: Path) -> None:
    apply(place)
    edit(place, "schema = 1", "schema = [")
    with pytest.raises(SiteInvalid):
        apply(place)
    (place / "leadglass.toml").unlink()
    with pytest.raises(Fault):
        apply(place)
    assert load_proven(place).name == "lab"
    write_device(place, "MR1", device(), flow("MR1"))
    apply_device(place, "MR1")
    assert "MR1" in load_proven(place).devices


def test_a_proven_copy_that_was_changed_does_not_serve(place: Path) -> None:
    apply(place)
    file = proven_directory(place) / "leadglass.toml"
    file.write_text(file.read_text().replace('may = ["store"]', 'may = ["store", "find"]'))
    with pytest.raises(Fault, match="not the one that was proven"):
        load_proven(place)
    assert apply(place).live == ("everything",), "applied anew, it serves again"
    assert load_proven(place).name == "lab"


def test_devices_enrolled_at_once_are_all_there(place: Path) -> None:
    apply(place)

    def enroll(number: int) -> None:
        write_device(place, f"MR{number}", device(number), flow(f"MR{number}"))
        apply_device(place, f"MR{number}")

    threads = [threading.Thread(target=enroll, args=(number,)) for number in range(2, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(load_proven(place).devices) == {"CT1", *(f"MR{number}" for number in range(2, 12))}
    kept = [each for each in (place / "state" / "proven").iterdir() if not each.is_symlink()]
    assert len(kept) == PROVEN_KEPT_MAX, "the newest are kept"


@given(
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}[A-Za-z0-9]", fullmatch=True),
    owner=st.text(),
    titles=st.lists(st.sampled_from(["CT 2", "A#B", "'x'", '"'])),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_what_is_read(place: Path, name: str, owner: str, titles: list[str]) -> None:
    if name.casefold() in ("ct1", "archive", "modalities", "clinical"):
        return
    write_device(place, name, device(owner=owner, ae_titles=titles), flow(name))
    try:
        found = load(place).devices[name]
    finally:
        remove_device(place, name)
    assert (found.owner, found.ae_titles) == (owner, tuple(titles))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../CT2", "/etc/x", "a/b", "a\0b", ".hidden", "archive", "x" * 65, "a\nb", "é"]
)
def test_a_name_leads_nowhere_else(place: Path, name: str) -> None:
    for attempt in (
        lambda: device_file(place, name),
        lambda: write_device(place, name, device(), None),
        lambda: apply_device(place, name),
        lambda: remove_device(place, name),
    ):
        with pytest.raises(NotChanged, match="cannot name a device"):
            attempt()


@pytest.mark.parametrize("value", ["\ud800", {"a": 1}, None])
def test_what_no_file_can_hold_is_refused_before_anything_is_written(place: Path, value: object) -> None:
    with pytest.raises(NotChanged):
        write_device(place, "MR1", device(owner=value), None)
    assert not device_file(place, "MR1").exists()


def test_a_device_gets_other_pins_where_a_command_wrote_it(place: Path) -> None:
    write_device(place, "MR.1", device(), flow("MR.1"))
    repin_device(place, "MR.1", [PIN, OTHER])
    assert load(place).devices["MR.1"].certificates == (PIN, OTHER)
    file = device_file(place, "MR.1")
    file.write_text("# by hand: the old magnet\n" + file.read_text())
    repin_device(place, "MR.1", [OTHER])
    assert load(place).devices["MR.1"].certificates == (OTHER,) and "old magnet" in file.read_text()


@pytest.mark.parametrize(
    ("old", "new"), [("certificate = [", "certificate = [\n"), ("[devices.MR1]", "[devices.'MR1']"), ("zone =", "zone")]
)
def test_a_file_that_a_person_wrote_in_is_theirs(place: Path, old: str, new: str) -> None:
    write_device(place, "MR1", device(), flow("MR1"))
    file = device_file(place, "MR1")
    text = file.read_text().replace(old, new)
    file.write_text(text)
    with pytest.raises(Fault, match="as a command wrote it"):
        repin_device(place, "MR1", [OTHER])
    assert file.read_text() == text
    with pytest.raises(Fault, match="leadglass.toml"):
        repin_device(place, "CT1", [OTHER])
