"""A flow on demand at the doors: while it is open it grants exactly what it says, and before and after nothing; a refusal says what to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leadglass.policy.decide import by_flows, by_web, decide
from leadglass.policy.differences import differences
from leadglass.policy.explain import explain_device
from leadglass.policy.proof import prove
from leadglass.site.load import load
from leadglass.site.model import Flow, OnDemand, Site
from leadglass.terms import (
    Action,
    Containment,
    NotPermitted,
    OpenFlow,
    Peer,
    Permit,
    Proposal,
    Refused,
    Request,
    Subject,
)
from tests.policy.test_decide import CT, MR, device, flow, request, site, subject

DEMAND = 'on_demand = { approve = "biomedical-engineer", max = "4h", record = true }'
HOW = OnDemand("biomedical-engineer", 14_400, True)
VENDOR = OpenFlow("vendor", 9, ("r1",))


def with_open(who: Subject, *opened: OpenFlow) -> Subject:
    return replace(who, peer=replace(who.peer, opened=opened))


def decided(place: Site, who: Subject, action: Action, **words: str) -> Permit | str:
    """Or the rule of the refusal."""
    try:
        return decide(place, Containment(), who, request(who, action, **words))
    except Refused as refusal:
        return refusal.rule


# ---- at the DIMSE door


@pytest.mark.parametrize("granted", list(Action))
def test_it_grants_its_own_word_while_it_is_open(tmp_path: Path, granted: Action) -> None:
    place = site(
        tmp_path, device("CT1"), device("WS1", "clinical", "10.2.0.1:104"), flow("vendor", "CT1", granted, DEMAND)
    )
    shut = subject(place, "CT1")
    for who, opened in (
        (shut, False),
        (with_open(shut, VENDOR), True),
        (with_open(shut, replace(VENDOR, flow="x")), False),
    ):
        for action in Action:
            found = decided(place, who, action)
            if opened and action is granted:
                assert isinstance(found, Permit) and (found.rule, found.opened) == ("vendor", (VENDOR,))
            else:
                assert not isinstance(found, Permit)
        if opened:
            assert decide(place, Containment(), who, who.proposal).opened == (VENDOR,)
        else:
            with pytest.raises(NotPermitted) as caught:
                decide(place, Containment(), who, who.proposal)
            assert caught.value.rule == "vendor"
            for said in (
                "vendor is on demand",
                "not open now",
                "Requests",
                "a biomedical-engineer approves it",
                "240 minutes",
            ):
                assert said in caught.value.reason
    with pytest.raises(NotPermitted, match="CT1 may not .*: vendor is on demand, and not open now: ask for it"):
        decide(place, Containment(), shut, request(shut, granted))


def test_what_is_always_granted_is_owed_to_no_request(tmp_path: Path) -> None:
    place = site(
        tmp_path,
        device("CT1"),
        flow("wide", "CT1", "store,find", DEMAND),
        flow("always", "CT1", "store,find", 'sop_classes = ["CTImageStorage"]'),
        flow("mr", "CT1", "find", f'sop_classes = ["CTImageStorage", "MRImageStorage"]\n{DEMAND}'),
    )
    who = with_open(subject(place, "CT1"), replace(VENDOR, flow="wide"), replace(VENDOR, flow="mr"))
    store = decided(place, who, Action.STORE)
    assert isinstance(store, Permit) and (store.rule, store.opened) == ("always", ())
    other = decided(place, who, Action.STORE, sop_class=MR)
    assert isinstance(other, Permit) and (other.rule, other.opened[0].flow) == ("wide", "wide")
    assert decide(place, Containment(), who, who.proposal).opened == (), "it is let in anyway"
    only_mr = with_open(subject(place, "CT1"), replace(VENDOR, flow="mr"))
    find = decided(place, only_mr, Action.FIND)
    assert isinstance(find, Permit) and (find.rule, find.sop_classes) == ("always+mr", {CT, MR})
    assert [each.flow for each in find.opened] == ["mr"]


FLOWS = st.lists(
    st.tuples(
        st.sets(st.sampled_from([*Action]), min_size=1),
        st.sampled_from([None, frozenset[str](), frozenset({CT}), frozenset({CT, MR})]),
        st.sampled_from(["always", "shut", "open"]),
        st.booleans(),
    ),
    max_size=5,
)


@given(FLOWS, st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_an_open_flow_is_the_same_flow_without_a_condition_and_a_shut_one_is_none(
    tmp_path: Path, flows: Sequence[tuple[set[Action], frozenset[str] | None, str, bool]], somebody: bool
) -> None:
    """The oracle: the same site, where what is open is always so, and what is shut does not stand there."""
    place = site(tmp_path, device("CT1"), device("WS1", "clinical", "10.2.0.1:104"), flow("model", "CT1", "echo"))
    (model,) = place.flows
    made = [_flow(model, f"f{n}", *each) for n, each in enumerate(flows)]
    states = {f"f{n}": state for n, (_, _, state, _) in enumerate(flows)}
    given_site = replace(place, flows=tuple(made))
    oracle = replace(place, flows=tuple(replace(each, on_demand=None) for each in made if states[each.id] != "shut"))
    opened = tuple(OpenFlow(name, 9, (f"of {name}",)) for name, state in states.items() if state == "open")
    who, plain = with_open(subject(given_site, "CT1"), *opened), subject(oracle, "CT1")
    asked = [request(who, action, sop_class=each) for action in Action for each in (CT, MR)]
    for question in (who.proposal, *asked):
        found, expected = (_by_flows(each, of, question, somebody) for each, of in ((given_site, who), (oracle, plain)))
        assert (found is None) == (expected is None), (question, found, expected)
        if found is not None and expected is not None:
            assert found.action in (None, Action.STORE) or found.sop_classes == expected.sop_classes
            rules = set(found.rule.split("+"))
            assert {each.flow for each in found.opened} == {each for each in rules if states[each] == "open"}
            assert not {each for each in rules if states[each] == "shut"}


def _by_flows(place: Site, who: Subject, question: Request | Proposal, somebody: bool) -> Permit | None:
    try:
        return by_flows(place, Containment(), who, question, somebody=somebody)
    except Refused:
        return None


def _flow(
    model: Flow, name: str, may: Iterable[Action], classes: frozenset[str] | None, state: str, seated: bool
) -> Flow:
    demand = None if state == "always" else HOW
    return replace(
        model, id=name, may=frozenset(may), sop_classes=classes, on_demand=demand, require_user_identity=seated
    )


def test_what_is_promised_holds_whatever_is_approved(tmp_path: Path) -> None:
    """A test of the site file is about the most that somebody could get, one day."""
    promise = '[[tests]]\nwho = "CT1"\ndeny = ["archive:find"]\naccept = ["archive:echo"]\n'
    covered = '[[tests]]\nwho = "modalities"\ndeny = ["clinical:*"]\n[[tests]]\nwho = "clinical"\ndeny = ["modalities:*", "archive:*"]\n'
    place = site(tmp_path, device("CT1"), flow("vendor", "CT1", "echo,find", DEMAND), promise, covered)
    assert [str(each) for each in prove(place)] == [
        "leadglass.toml:28: CT1 archive:find: expected DENIED, got ALLOWED by vendor"
    ]


def test_who_gains_by_approval_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old, new = (
        site(tmp_path, device("CT1")),
        site(tmp_path / "new", device("CT1"), flow("vendor", "CT1", "find", DEMAND)),
    )
    assert "+ CT1 may find, on demand of biomedical-engineer for 240 minutes" in list(differences(old, new))
    assert "- CT1 may no longer find, on demand of biomedical-engineer for 240 minutes" in list(differences(new, old))
    always = site(tmp_path, device("CT1"), flow("vendor", "CT1", "find"))
    assert not [each for each in differences(always, new) if "may find" in each], "less than it has"
    assert "+ CT1 may find" in list(differences(new, always))


def test_it_is_explained_with_what_would_open_it(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("vendor", "CT1", "find", f"require_user_identity = true\n{DEMAND}"))
    here = (place, Containment(), place.devices["CT1"], Action.FIND)
    asked = "that vendor is open: asked for at the console, Requests"
    shut = explain_device(*here, somebody=True)
    assert not shut.allowed and shut.rules == ("vendor",) and shut.would == ((asked,),)
    (both,) = explain_device(*here).would
    assert both[0].startswith("somebody who is proven") and both[1] == asked
    assert explain_device(*here, somebody=True, opened=(VENDOR,)).allowed


# ---- at the web door

WEB = """
schema = 1
[site]
name = "lab"
[doors.dimse]
listen = "10.9.0.1:2762"
[doors.web]
listen = "10.9.0.1:443"
[firewall]
addresses = ["10.9.0.1/32"]
[services]
https = "tcp/443"
ssh = "tcp/22"
[zones.radiology]
networks = ["10.2.0.0/16"]
[zones.vendors]
networks = ["10.7.0.0/16", "fd07::/64"]
[zones.guest]
networks = ["10.8.0.0/16"]
[devices.desk]
zone = "guest"
network = "10.8.0.5/32"
"""


def web(tmp_path: Path, *parts: str) -> Site:
    (tmp_path / "leadglass.toml").write_text(WEB + "\n".join(parts))
    return load(tmp_path)


def to_web(name: str, source: str, more: str = "", service: str = "https") -> str:
    return f'[[flows]]\nid = "{name}"\nfrom = ["{source}"]\nto = ["archive"]\nservice = "{service}"\nauth = "mfa"\nwhy = "a test"\n{more}\n'


def coming(place: Site, address: str, *opened: OpenFlow) -> tuple[str, ...]:
    """By which flows on demand; raises where they may not."""
    return tuple(each.flow for each in by_web(place, Peer(address, 4711, "web"), opened).opened)


def test_who_comes_to_the_web_door_comes_by_a_flow(tmp_path: Path) -> None:
    place = web(
        tmp_path,
        to_web("console", "radiology"),
        to_web("vendor", "vendors", DEMAND),
        to_web("shell", "guest", service="ssh"),
    )
    for address in ("10.2.3.4", "::ffff:10.2.3.4", "10.9.0.1", "127.0.0.1", "::1", ""):
        assert coming(place, address) == () == coming(place, address, VENDOR), address
    at_home = replace(place, loopback=True)  # every address of such a site is this host's
    with pytest.raises(NotPermitted):
        coming(at_home, "127.0.0.1")
    for address in ("10.7.0.9", "fd07::9"):
        with pytest.raises(NotPermitted, match="vendor is on demand, and not open now: ask for it") as caught:
            coming(place, address)
        assert caught.value.rule == "vendor"
        with pytest.raises(NotPermitted):
            coming(place, address, replace(VENDOR, flow="console"))
        assert coming(place, address, VENDOR) == ("vendor",)
    for address, where in (("10.8.0.5", "in zone guest"), ("192.0.2.1", "which is in no zone")):
        with pytest.raises(
            NotPermitted,
            match=f"no flow leads from {address}.*{where} to the web door; from elsewhere: console, vendor",
        ):
            coming(place, address, VENDOR)


def test_a_device_and_a_zone_may_each_have_a_way_and_one_that_is_always_open_is_enough(tmp_path: Path) -> None:
    place = web(tmp_path, to_web("guests", "guest", DEMAND), to_web("desk", "desk"))
    assert coming(place, "10.8.0.5") == () == coming(place, "10.8.0.5", replace(VENDOR, flow="guests"))
    assert coming(place, "10.8.0.6", replace(VENDOR, flow="guests")) == ("guests",)
    with pytest.raises(NotPermitted):
        coming(place, "10.8.0.6")


def test_where_no_flow_leads_to_the_web_door_nobody_is_held_to_one(tmp_path: Path) -> None:
    place = web(tmp_path, to_web("shell", "radiology", service="ssh"))
    assert coming(place, "10.8.0.5") == () == coming(place, "192.0.2.1")
    no_door = replace(web(tmp_path, to_web("console", "radiology")), doors=replace(place.doors, web=None))
    assert coming(no_door, "10.8.0.5") == ()
