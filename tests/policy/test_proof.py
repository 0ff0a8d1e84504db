"""The site file's own promises: tests against the compiled decision, never rules through chains, coverage of zone pairs."""

from __future__ import annotations

from pathlib import Path

from leadglass.policy.proof import differences, prove
from tests.policy.test_decide import device, flow, site

ZONES = '[zones.guest]\nnetworks = ["10.3.0.0/16"]\n'


def hop(name: str, source: str, target: str) -> str:
    return f'[[flows]]\nid = "{name}"\nfrom = ["{source}"]\nto = ["{target}"]\nservice = "dicom-tls"\nmay = []\nwhy = "a test"\n'


def promise(who: str, accept: str = "", deny: str = "") -> str:
    words = {
        key: ", ".join(f'"{word}"' for word in text.split(",") if word)
        for key, text in (("accept", accept), ("deny", deny))
    }
    return f'[[tests]]\nwho = "{who}"\naccept = [{words["accept"]}]\ndeny = [{words["deny"]}]\nwhy = "a test"\n'


COVERED = promise("modalities", deny="clinical:*") + promise("clinical", deny="modalities:*,archive:*")


def test_promises_that_hold(tmp_path: Path) -> None:
    place = site(
        tmp_path, device("CT1"), flow("f", "CT1", "echo,store", 'sop_classes = ["CTImageStorage"]'),
        promise("CT1", "archive:echo,archive:store CTImageStorage", "archive:find,archive:get,archive:move,archive:store MRImageStorage"), COVERED,
    )  # fmt: skip
    assert prove(place) == ()


def test_a_promise_that_does_not_hold_names_file_line_and_what_was_got(tmp_path: Path) -> None:
    place = site(
        tmp_path, device("CT1"), flow("f", "CT1", "find"), promise("CT1", "archive:store", "archive:find"), COVERED
    )
    told = [str(each) for each in prove(place)]
    assert len(told) == 2 and all("leadglass.toml:" in each for each in told)
    assert (
        "archive:store: expected ALLOWED, got DENIED" in told[0]
        and "archive:find: expected DENIED, got ALLOWED" in told[1]
    )


def test_never_holds_through_a_chain_of_pivots(tmp_path: Path) -> None:
    rule = '[[never]]\nfrom = ["guest"]\nto = ["#phi"]\n'
    assert prove(site(tmp_path, ZONES, hop("a", "guest", "clinical"), rule)) == ()
    (failure,) = prove(site(tmp_path, ZONES, hop("a", "guest", "clinical"), hop("b", "clinical", "modalities"), rule))
    assert "guest -[a]-> clinical -[b]-> modalities" in str(failure)


def test_every_ordered_pair_of_zones_is_covered_once_there_are_tests(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "echo"), promise("CT1", "archive:echo"))
    told = " ".join(str(each) for each in prove(place))
    assert "modalities may reach in clinical" in told and "clinical may reach in modalities" in told
    assert prove(site(tmp_path, device("CT1"), flow("f", "CT1", "echo"))) == (), "a site without tests promises nothing"


def test_nonsense_is_not_a_promise(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "echo"), promise("CT1", "archive:fly,nowhere:*"), COVERED)
    told = " ".join(str(each) for each in prove(place))
    assert "not understood" in told and "names no zone" in told


def test_who_gains_and_who_loses(tmp_path: Path) -> None:
    old = site(tmp_path, device("CT1"), flow("f", "CT1", "echo,store"))
    new = site(tmp_path, device("CT1"), flow("f", "CT1", "echo,find"))
    assert list(differences(old, new)) == ["+ CT1 may find", "- CT1 may no longer store"]
