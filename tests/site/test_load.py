"""All problems at once, each with file, line and mend; any mutation of a good file loads or is SiteInvalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadglass.policy.proof import prove
from leadglass.site.document import FILE_LENGTH_MAX_BYTES, PROBLEMS_MAX, Problem, SiteInvalid
from leadglass.site.load import load
from leadglass.site.schema import KEYS
from leadglass.site.template import new_site_file
from leadglass.terms import Action

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

MR1 = '[devices.MR1]\nzone = "modalities"\nnetwork = "10.1.0.2/32"\nae_titles = ["MR1"]\n'
MR1_FLOW = '[[flows]]\nid = "mr"\nfrom = ["MR1"]\nto = ["archive"]\nservice = "dicom-tls"\nmay = ["store"]\nwhy = "it stores"\n'


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
        ("[limits]\nidle_seconds = 60", "[sessions]\nidle_lock_minutes = 0", 29, "sessions.idle_lock_minutes is no limit: 0", "between 1 and 60"),
        ("[limits]\nidle_seconds = 60", "[sessions]\nstep_up_seconds = 901", 29, "step_up_seconds is no limit", "between 30 and 900"),
        ('networks = ["10.2.0.0/16"]', 'networks = ["10.1.5.0/24"]', 12, "overlaps", "split"),
        ('why = "it stores"', 'why = ""', 18, "no why", "why ="),
        ('from = ["CT1"]', 'from = ["CT7"]', 20, "unknown 'CT7'", "CT1"),
        ('may = ["store"]', 'may = ["stor"]', 23, "nobody may 'stor'", "store"),
        ('service = "dicom-tls"', 'service = "dicom"', 22, "unknown service", "dicom-tls"),
        ('zone = "modalities"', 'zone = "moon"', 14, "no known zone", "modalities"),
        ('network = "10.1.0.1/32"', 'network = "10.9.0.1/32"', 15, "not inside zone", "widen"),
        ('network = "10.1.0.1/32"', 'network = "10.1.0.1/33"', 15, "no network", "CIDR"),
        ('certificate = "spki-sha256:', 'certificate = "md5:', 17, "no pin", "sha256:HEX"),
        ('ae_titles = ["CT1"]', 'ae_titles = ["CT1 WITH A LONG TITLE"]', 16, "no AE title", "16"),
        ('listen = "127.0.0.1:2762"', 'listen = "everywhere"', 5, "no address to listen on", "ADDRESS:PORT"),
        ("schema = 1", "schema = 2", 1, "schema is not 1", "schema = 1"),
        ("idle_seconds = 60", "idle_seconds = -1", 29, "no limit", "between 0.1"),
        ("idle_seconds = 60", "idle_seconds = true", 29, "no limit", "a number"),
        ("idle_seconds = 60", "associations_max = 1.5", 29, "no limit", "a whole number"),
        ('why = "it stores"', 'why = "x"\nrequire_user_identity = "yes"', 25, "neither true nor false", "without quotes"),
        ('why = "it stores"', 'why = "x"\nsop_classes = ["CTImagesStorage"]', 25, "no Storage SOP class", "keyword"),
        ('why = "it stores"', 'why = "x"\ndestinations = ["archive"]', 25, "unknown destination", "CT1"),
        ('why = "it stores"', 'why = "x"\non_demand = { approve = "x" }', 25, "not understood", "4h"),
        ('why = "it stores"', 'why = "x"\nauth = "none"', 25, "without identity", "mtls"),
        ('to = ["archive"]', 'to = ["clinical"]', 23, "does not lead to archive", "leave may out"),
        ('to = ["archive"]', 'to = ["#phi"]\nauth = "none"', 22, "tagged phi, without identity", "mtls"),
        ('id = "ct"', 'id = "ct scanner"', 19, "is no name", "letters"),
        ("[[never]]", '[[flows]]\nid = "ct"\nfrom = ["CT1"]\nto = ["archive"]\nservice = "https"\nwhy = "x"\n[[never]]', 26, "there twice", "own"),
        ("[[never]]", '[[tests]]\nwho = "CT7"\ndeny = ["clinical:*"]\n[[never]]', 25, "unknown 'CT7'", "CT1"),
        ("[[never]]", '[[tests]]\nwho = "CT1"\ndeny = ["clinicl:*"]\n[[never]]', 25, "unknown 'clinicl:*'", "clinical"),
        ("[[never]]", '[[tests]]\nwho = "CT1"\n[[never]]', 25, "promises nothing", "deny"),
        ('name = "lab"', 'name = "lab"\nkey = "0123456789abcdef"', 4, "never the key itself", "file:PATH"),
        ('name = "lab"', 'name = "lab"\nindex = "postgresql://pacs:secret@db/x"', 4, "a password in clear", "file of its own"),
        ('name = "lab"', 'name = "lab"\n[doors.web]\nworkers = 2', 4, "listens nowhere", "0.0.0.0:443"),
        ('name = "lab"', 'name = "10.1.0.9"\n[doors.web]\nlisten = "0.0.0.0:443"', 3, "is an address", "a passkey belongs to a name"),
        ('name = "lab"', 'name = "lab"\nloopback = true\n[doors.web]\nlisten = "0.0.0.0:443"', 6, "a loopback site listens on", "127.0.0.1"),
        ('name = "lab"', 'name = "lab"\n[doors.web]\nlisten = "0.0.0.0:443"\n[doors.console]\nlisten = "127.0.0.1:0"', 7, "no loopback site", "remove it"),
        ('name = "lab"', 'name = "lab"\nloopback = true\n[doors.web]\nlisten = "127.0.0.1:0"\n[doors.console]\nlisten = "0.0.0.0:0"', 8, "not loopback", "127.0.0.1"),
        ('name = "lab"', 'name = "lab"\nloopback = true\n[doors.console]\nlisten = "127.0.0.1:0"', 5, "no web door", "[doors.web]"),
        ('name = "lab"', 'name = "lab"\nloopback = true\n[doors.metrics]\nlisten = "0.0.0.0:1"', 6, "not loopback", "127.0.0.1"),
        ('listen = "127.0.0.1:2762"', 'listen = "0.0.0.0:2762"\n[site.x]\n', 6, "unknown key site.x", ""),
        ('certificate = "spki', 'address = "ws1:0"\ncertificate = "spki', 17, "no address", "HOST:PORT"),
        ("[zones.clinical]", "[zones.archive]", 11, "no name", "Leadglass itself"),
        ('to = ["#phi"]', 'to = ["#moon"]', 25, "unknown '#moon'", ""),
        ('https = "tcp/443"', 'https = "443"', 7, "no service", "protocol/port"),
        ("[[never]]", '[backup]\ndirectories = ["backups"]\n[[never]]', 26, "no absolute path", "/mnt"),
        ("[[never]]", '[backup]\ndirectories = ["/mnt/../etc"]\n[[never]]', 26, "no absolute path", "/mnt"),
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


PIECES = [
    '"',
    "[",
    "]",
    "{",
    "}",
    "=",
    ".",
    "0",
    "#",
    "\n",
    "\\",
    "'",
    "true",
    "nan",
    "inf",
    "[[flows]]",
    "[doors.dimse]",
    "1979-05-27",
]


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 30), st.sampled_from(PIECES) | st.text(max_size=3)),
        max_size=6,
    )
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mutation_loads_or_is_invalid(tmp_path: Path, edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for at, length, piece in edits:
        text = text[:at] + piece + text[at + length :]
    check(tmp_path, text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.sampled_from(["", "archive", "#phi", "CT1", "x.y", "10.1.0.0/16"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "a.b", "", "zone", "*"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(key=st.sampled_from(sorted(KEYS)), value=VALUES)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_any_key_loads_or_is_invalid(tmp_path: Path, key: str, value: Any) -> None:
    """What is of another type is a problem, never another meaning."""
    table, _, last = key.rpartition(".")
    table = table.replace("devices.*", "devices.CT1").replace("zones.*", "zones.modalities")
    head = f"[[{table}]]" if table in ("flows", "tests", "never") else f"[{table}]" if table else ""
    line = f"{last if last != '*' else 'name'} = {inline(value)}"
    kept = "\n".join(each for each in GOOD.split("\n") if not each.startswith(f"{last} ="))
    check(
        tmp_path,
        kept.replace(head, f"{head}\n{line}", 1)
        if head in kept
        else f"{kept}\n{head}\n{line}\n"
        if head
        else f"{line}\n{kept}",
    )


def check(tmp_path: Path, text: str) -> None:
    (tmp_path / "leadglass.toml").write_text(text, encoding="utf-8", errors="replace")
    try:
        site = load(tmp_path)
    except SiteInvalid as invalid:
        assert invalid.problems and all(each.message and each.mend and each.line >= 1 for each in invalid.problems)
    else:
        prove(site)


def inline(value: Any) -> str:
    match value:
        case None:
            return '""'
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {inline(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(inline, value)) + "]"
        case str():
            return json.dumps(value)
        case _:
            return str(value)


@pytest.mark.parametrize(
    "text",
    [
        "schema = " + "9" * 5000,
        "schema = 0x" + "f" * 5000,
        "[limits]\nidle_seconds = nan",
        "[limits]\npdu_length_max_bytes = inf",
        "[sessions]\nidle_lock_minutes = 2.5",
        "doors" + ".a" * 3000 + " = 1",
        "x = " + "[" * 3000 + "]" * 3000,
        "site = 3\ndoors = [1]\nzones = [[1]]\ndevices = true\nflows = {a = {b = 1}}\nlimits = 1\nroles = 1\nservices = 2",
        "flows = [1, 'x', {}]\ntests = [[]]\nnever = 1979-05-27",
        '[zones."a.b"]\nnetworks = 3\n[zones.archive]\n[zones.""]\n[devices."../../etc"]',
        "\n".join(f"k{number} = 1" for number in range(5000)),
    ],
    ids=lambda text: text[:24],
)
def test_what_a_file_may_throw_at_it_is_a_problem(tmp_path: Path, text: str) -> None:
    (tmp_path / "leadglass.toml").write_text(text)
    with pytest.raises(SiteInvalid) as caught:
        load(tmp_path)
    assert 0 < len(caught.value.problems) <= PROBLEMS_MAX + 1


@pytest.mark.parametrize(
    "content", [b"\xff", b"schema = 1\n#" + b"x" * FILE_LENGTH_MAX_BYTES, None], ids=["utf-8", "long", "missing"]
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "leadglass.toml").write_bytes(content)
    with pytest.raises(SiteInvalid, match="UTF-8|larger|cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("MR1", '[devices.MR2]\nzone = "modalities"\nnetwork = "10.1.0.2/32"\n', "for the device MR1 alone"),
        ("MR1", MR1 + '[devices.MR2]\nzone = "modalities"\nnetwork = "10.1.0.3/32"\n', "for the device MR1 alone"),
        ("MR1", MR1 + MR1_FLOW.replace('from = ["MR1"]', 'from = ["modalities"]'), "leads from MR1 alone"),
        ("MR1", MR1 + "[limits]\nidle_seconds = 1\n", "unknown key limits.idle_seconds"),
        ("MR1", MR1 + "[roles]\nx = 1\n", "unknown key roles.x"),
        ("MR1", MR1.replace("10.1.0.2", "10.2.0.2"), "not inside zone"),
        ("MR1", MR1.replace('ae_titles = ["MR1"]', 'ae_titles = ["CT1"]').replace("10.1.0.2/32", "10.1.0.0/24"), "both call themselves 'CT1'"),
        ("CT1", '[devices.CT1]\nzone = "modalities"\nnetwork = "10.1.0.1/32"\n', "there twice"),
        ("ct1", '[devices.ct1]\nzone = "modalities"\nnetwork = "10.1.0.9/32"\n', "told apart"),
        ("modalities", '[devices.modalities]\nzone = "modalities"\nnetwork = "10.1.0.9/32"\n', "a zone's name already"),
    ],
    ids=lambda value: str(value)[-24:],
)  # fmt: skip
def test_a_device_file_holds_its_device_and_nothing_else(tmp_path: Path, name: str, text: str, message: str) -> None:
    """It serves as soon as a command says so, without a look at the rest: so it cannot open anything else."""
    (tmp_path / "leadglass.toml").write_text(GOOD)
    (tmp_path / "devices.d").mkdir()
    (tmp_path / "devices.d" / f"{name}.toml").write_text(text)
    with pytest.raises(SiteInvalid) as caught:
        load(tmp_path)
    assert any(message in each.message and each.file == f"devices.d/{name}.toml" for each in caught.value.problems)


def test_devices_share_a_title_where_nothing_is_left_in_doubt(tmp_path: Path) -> None:
    (tmp_path / "leadglass.toml").write_text(GOOD)
    (tmp_path / "devices.d").mkdir()
    (tmp_path / "devices.d" / "MR1.toml").write_text(MR1.replace('ae_titles = ["MR1"]', 'ae_titles = ["CT1"]'))
    assert load(tmp_path).devices["MR1"].ae_titles == ("CT1",)


@pytest.mark.parametrize("loopback", [True, False])
def test_what_init_writes_is_sound_and_allows_nothing(tmp_path: Path, loopback: bool) -> None:
    text = new_site_file("pacs.example", loopback=loopback, listen="127.0.0.1:2762", key="file:keys/site.key")
    (tmp_path / "leadglass.toml").write_text(text)
    site = load(tmp_path)
    assert (site.devices, site.flows, prove(site)) == ({}, (), ())
    assert site.doors.web is not None and (site.doors.console is not None) == loopback


def test_a_loopback_site_listens_to_this_machine_alone(tmp_path: Path) -> None:
    text = new_site_file("pacs.example", loopback=True, listen="0.0.0.0:2762", key="file:keys/site.key")
    (tmp_path / "leadglass.toml").write_text(text)
    with pytest.raises(SiteInvalid, match="a loopback site listens on"):
        load(tmp_path)
