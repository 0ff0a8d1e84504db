"""Whoever applies a site file reads first who gains and who loses what; what only looks different is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadglass.policy.differences import differences
from leadglass.site.load import load
from tests.policy.test_decide import device, flow, site
from tests.policy.test_proof import ZONES, hop, promise

CT_ONLY = 'sop_classes = ["CTImageStorage"]'
PINS = [f'certificate = "sha256:{digit * 64}"' for digit in "12"]


def rights(told: list[str]) -> list[str]:
    return [line for line in told if " may " in line]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (("echo,store", ""), ("echo,find", ""), ["+ CT1 may find", "- CT1 may no longer store"]),
        (("find", CT_ONLY), ("find", ""), ["+ CT1 may find"]),
        (("find", ""), ("find", CT_ONLY), ["- CT1 may no longer find anything but CTImageStorage"]),
        (("find", CT_ONLY), ("find", 'sop_classes = ["MRImageStorage"]'), ["+ CT1 may find MRImageStorage", "- CT1 may no longer find CTImageStorage"]),
        (("move", 'destinations = ["WS1"]'), ("move", ""), ["+ CT1 may move"]),
        (("move", 'destinations = ["WS1"]'), ("move", 'destinations = ["clinical"]'), ["+ CT1 may move to WS2"]),
        (("find", "require_user_identity = true"), ("find", ""), ["+ CT1 may find"]),
        (("find", 'auth = "mtls+mfa"'), ("find", ""), ["+ CT1 may find"]),
        (("find", ""), ("find", ""), []),
    ],
)  # fmt: skip
def test_rights(tmp_path: Path, old: tuple[str, str], new: tuple[str, str], told: list[str]) -> None:
    machines = device("CT1") + device("WS1", "clinical", "10.2.0.1:104") + device("WS2", "clinical", "10.2.0.1:105")
    before, after = (site(tmp_path, machines, flow("f", "CT1", may, more)) for may, more in (old, new))
    assert rights(list(differences(before, after))) == told


def test_devices(tmp_path: Path) -> None:
    granted = flow("f", "modalities", "store")
    known = site(tmp_path, device("CT1", more=PINS[0]), granted)
    told = list(differences(site(tmp_path, granted), known))
    assert told == ["+ CT1 is a device of zone modalities, from 10.1.0.1/32", "+ CT1 may store"]
    told = list(differences(known, site(tmp_path, granted)))
    assert told == ["- CT1 is no device of this site any more", "- CT1 may no longer store"]
    told = list(differences(known, site(tmp_path, device("CT1", more=PINS[1]), granted)))
    assert [line[:40] for line in told] == [
        "+ CT1 is let in with the certificate sha",
        "- CT1 is let in with the certificate sha",
    ]
    told = list(differences(known, site(tmp_path, device("CT1", more=PINS[0] + "\nenabled = false"), granted)))
    assert told == ["- CT1 is kept out", "- CT1 may no longer store"]
    moved = (
        device("CT1", address="10.1.0.9:104", more=PINS[0])
        .replace("10.1.0.1/32", "10.1.0.0/24")
        .replace('["CT1"]', '["CT1", "CT2"]')
    )
    told = list(differences(known, site(tmp_path, moved, granted)))
    assert told == [
        "+ CT1 may call itself CT2",
        "+ CT1 may come from 10.1.0.0/24",
        "- CT1 may come from 10.1.0.1/32 no longer",
        "~ CT1 is sent to at 10.1.0.9:104 instead of none",
    ]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (hop("out", "modalities", "clinical"), "+ flow out: modalities to clinical by dicom-tls (mtls)"),
        (ZONES, "+ zone guest: 10.3.0.0/16"),
        ('[[never]]\nfrom = ["clinical"]\nto = ["#phi"]\n', "+ never clinical to #phi"),
        ("[limits]\nidle_seconds = 5\n", "~ limits change at the next start"),
    ],
)
def test_the_rest(tmp_path: Path, more: str, line: str) -> None:
    plain, other = site(tmp_path, device("CT1")), site(tmp_path, device("CT1"), more)
    assert list(differences(plain, other)) == [line]
    back = list(differences(other, plain))
    assert back == [line.replace("+", "-", 1)]
    assert list(differences(other, other)) == []


def test_a_promise_that_is_taken_back_and_an_operator_who_comes(tmp_path: Path) -> None:
    promised, plain = site(tmp_path, promise("clinical", deny="archive:*")), site(tmp_path)
    assert list(differences(promised, plain)) == ["- no test holds that clinical may not archive:*"]
    file = tmp_path / "leadglass.toml"
    file.write_text(file.read_text().replace('name = "lab"', 'name = "lab"\noperators = ["alice", 1000]'))
    assert list(differences(plain, load(tmp_path))) == ["+ operator 1000", "+ operator alice"]


def test_how_long_sign_ins_last(tmp_path: Path) -> None:
    plain = site(tmp_path, device("CT1"))
    other = site(tmp_path, device("CT1"), "[sessions]\nidle_lock_minutes = 5\nstep_up_seconds = 60\n")
    assert list(differences(plain, other)) == [
        "~ sessions.idle_lock_minutes changes from 10 to 5",
        "~ sessions.step_up_seconds changes from 300 to 60",
    ]
