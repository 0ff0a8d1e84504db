"""The site file's own promises: tests against the compiled decision, never rules through chains, coverage of zone pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadglass.policy.proof import prove
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


@pytest.mark.parametrize(
    "word", ["archive:fly", "archive:store NoSuchStorage", "clinical:gopher", "archive:find nonsense"]
)
def test_nonsense_is_not_a_promise(tmp_path: Path, word: str) -> None:
    for accept, deny in ((word, ""), ("", word)):
        place = site(
            tmp_path, device("CT1"), flow("f", "CT1", "echo,store,find"), promise("CT1", accept, deny), COVERED
        )
        assert "not understood" in " ".join(str(each) for each in prove(place))


@pytest.mark.parametrize(
    ("promised", "holds"),
    [
        ("archive:find CTImageStorage", True),
        ("archive:find MRImageStorage", False),
        ("archive:move WS1", True),
        ("archive:move WS2", False),
        ("archive:move", True),
        ("archive:move CTImageStorage", True),
        ("archive:move MRImageStorage", False),
        ("archive:get", False),
        ("archive:store", True),
        ("archive:store 1.2.826.0.1", False),
        ("archive:dicom-tls", True),
        ("archive:https", False),
        ("archive:*", None),  # some of it is allowed: neither all nor none
    ],
)
def test_a_promise_is_asked_of_the_compiled_decision(tmp_path: Path, promised: str, holds: bool | None) -> None:
    parts = [
        '[services]\nhttps = "tcp/443"\n', device("CT1"), device("WS1", "clinical", "10.2.0.1:104"), device("WS2", "clinical", "10.2.0.1:105"),
        flow("f", "CT1", "store,find,move", 'sop_classes = ["CTImageStorage"]\ndestinations = ["WS1"]'), COVERED,
    ]  # fmt: skip
    assert (prove(site(tmp_path, *parts, promise("CT1", accept=promised))) == ()) is (holds is True)
    assert (prove(site(tmp_path, *parts, promise("CT1", deny=promised))) == ()) is (holds is False)


def test_a_deny_holds_for_whoever_says_a_user_identity_too(tmp_path: Path) -> None:
    place = site(
        tmp_path, device("CT1"), flow("f", "CT1", "find", "require_user_identity = true"), promise("CT1", deny="archive:find"), COVERED,
    )  # fmt: skip
    assert "got ALLOWED by f" in str(prove(place)[0])


def test_a_promise_about_a_zone_is_about_each_device_and_whoever_comes(tmp_path: Path) -> None:
    nobody_yet = site(tmp_path, ZONES, flow("f", "guest", "find"), promise("guest", deny="archive:find"), COVERED)
    assert any("anyone in guest archive:find" in str(each) for each in prove(nobody_yet))
    one = site(tmp_path, device("CT1"), flow("f", "CT1", "find"), promise("modalities", deny="archive:find"), COVERED)
    assert any("CT1 archive:find" in str(each) for each in prove(one))
    two = [device("CT1"), device("MR1").replace("10.1.0.1", "10.1.0.2"), COVERED, promise("modalities", "archive:echo")]
    assert any(
        "MR1 archive:echo: expected ALLOWED" in str(each)
        for each in prove(site(tmp_path, *two, flow("f", "CT1", "echo")))
    )
    assert prove(site(tmp_path, *two, flow("f", "modalities", "echo"))) == ()


def test_the_network_lets_through_what_a_flow_names(tmp_path: Path) -> None:
    parts = [
        device("CT1"),
        device("MR1").replace("10.1.0.1", "10.1.0.2"),
        device("WS1", "clinical"),
        COVERED.replace('"clinical:*"', '"guest:*"'),
        ZONES,
    ]
    parts += [
        promise("guest", deny="*:*"),
        promise("modalities", deny="guest:*,archive:*"),
        promise("clinical", deny="guest:*"),
    ]
    one = hop("one", "MR1", "WS1")

    def told(*more: str) -> str:
        return " ".join(str(each) for each in prove(site(tmp_path, *parts, *more)))

    assert told(one, promise("CT1", deny="clinical:*"), promise("MR1", "WS1:dicom-tls,clinical:*")) == ""
    assert "MR1 clinical:*: expected DENIED, got ALLOWED by one" in told(one, promise("MR1", deny="clinical:*"))
    assert "modalities clinical:*: expected DENIED, got ALLOWED by one" in told(
        one, promise("modalities", deny="clinical:*")
    )
    assert "expected ALLOWED, got DENIED by default" in told(one, promise("modalities", "clinical:*"))
    assert "got ALLOWED by zone modalities, which is not isolated" in told(one, promise("CT1", deny="MR1:*,clinical:*"))


def test_an_isolated_zone_keeps_its_members_apart(tmp_path: Path) -> None:
    apart = '[zones.lab]\nnetworks = ["10.4.0.0/24"]\nisolated = true\n'
    machines = "".join(f'[devices.L{number}]\nzone = "lab"\nnetwork = "10.4.0.{number}/32"\n' for number in (1, 2))
    flows = hop("a", "guest", "L1") + hop("b", "L2", "clinical")
    rule = '[[never]]\nfrom = ["guest"]\nto = ["clinical"]\n'
    assert prove(site(tmp_path, ZONES, apart, machines, flows, rule)) == ()
    (failure,) = prove(site(tmp_path, ZONES, apart.replace("true", "false"), machines, flows, rule))
    assert "guest -[a]-> lab -[b]-> clinical" in str(failure)
    (failure,) = prove(site(tmp_path, ZONES, apart, machines, hop("c", "guest", "lab"), flows, rule))
    assert "guest -[c]-> L2 -[b]-> clinical" in str(failure)


def test_never_between_two_devices_of_one_zone(tmp_path: Path) -> None:
    machines = [device("CT1"), device("MR1").replace("10.1.0.1", "10.1.0.2")]
    rule = '[[never]]\nfrom = ["CT1"]\nto = ["MR1"]\n'
    (failure,) = prove(site(tmp_path, *machines, rule))
    assert "share modalities, which is not isolated" in str(failure)


def test_phi_means_the_archive_too_and_the_archive_is_a_pivot(tmp_path: Path) -> None:
    rule = '[[never]]\nfrom = ["guest"]\nto = ["#phi"]\n'
    (failure,) = prove(site(tmp_path, ZONES, hop("a", "guest", "archive"), rule))
    assert "guest -[a]-> archive" in str(failure)
    rule = '[[never]]\nfrom = ["guest"]\nto = ["clinical"]\n'
    (failure,) = prove(site(tmp_path, ZONES, hop("a", "guest", "archive"), hop("b", "archive", "clinical"), rule))
    assert "guest -[a]-> archive -[b]-> clinical" in str(failure)


def test_a_flow_on_demand_counts_for_never(tmp_path: Path) -> None:
    some_day = hop("a", "guest", "modalities") + 'on_demand = { approve = "vendor", max = "4h" }\n'
    assert len(prove(site(tmp_path, ZONES, some_day, '[[never]]\nfrom = ["guest"]\nto = ["#phi"]\n'))) == 1


@given(
    edges=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda edge: edge[0] != edge[1]), max_size=10),
    start=st.integers(0, 5),
    end=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_never_agrees_with_the_closure_of_the_flows(
    tmp_path: Path, edges: set[tuple[int, int]], start: int, end: int
) -> None:
    zones = "".join(f'[zones.z{number}]\nnetworks = ["10.9.{number}.0/24"]\n' for number in range(6))
    flows = "".join(hop(f"f{a}-{b}", f"z{a}", f"z{b}") for a, b in sorted(edges))
    failures = prove(site(tmp_path, zones, flows, f'[[never]]\nfrom = ["z{start}"]\nto = ["z{end}"]\n'))
    closure = set(edges)
    for _ in range(6):
        closure |= {(a, d) for a, b in closure for c, d in closure if b == c}
    assert bool(failures) is (start != end and (start, end) in closure)


def test_a_star_covers_every_pair_and_denies_all_but_one_own_zone(tmp_path: Path) -> None:
    stars = promise("modalities", deny="*:*") + promise("clinical", deny="*:*")
    assert prove(site(tmp_path, stars)) == ()
    (failure,) = prove(site(tmp_path, hop("a", "modalities", "clinical"), stars))
    assert "modalities clinical:*: expected DENIED, got ALLOWED by a" in str(failure)
