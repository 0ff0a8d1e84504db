"""Who may change the site: root, the owner, who is named; while it is read-only, nothing that gives anybody more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from leadglass.policy.authorise import AT_THE_CONSOLE, WHILE_READ_ONLY, authorise
from leadglass.policy.separation import Second
from leadglass.site.load import load
from leadglass.site.model import Site
from leadglass.terms import Change, ChangeKind, Contained, Containment, NotPermitted, Operator, SecondPersonNeeded

OWNER = 1001


@pytest.fixture
def place(tmp_path: Path) -> Site:
    (tmp_path / "leadglass.toml").write_text(
        'schema = 1\n[site]\noperators = ["alice", 1234]\n[zones.z]\nnetworks = ["10.0.0.0/8"]\n'
    )
    return load(tmp_path)


def change(uid: int, name: str, kind: ChangeKind = ChangeKind.SITE_APPLY) -> Change:
    return Change("1", Operator(uid, name), kind, "CT1", {})


@pytest.mark.parametrize(
    ("uid", "name", "rule"),
    [
        (0, "root", "operator:root"),
        (OWNER, "pacs", "operator:owner"),
        (77, "alice", "operator:named"),
        (1234, "bob", "operator:named"),
    ],
)
def test_who_may(place: Site, uid: int, name: str, rule: str) -> None:
    permit = authorise(place, Containment(generation=5), change(uid, name), OWNER)
    assert (permit.rule, permit.generation, permit.operator.uid) == (rule, 5, uid)


@pytest.mark.parametrize(("uid", "name"), [(77, "mallory"), (77, "root"), (77, "Alice"), (77, ""), (12340, "x")])
def test_who_may_not(place: Site, uid: int, name: str) -> None:
    with pytest.raises(NotPermitted, match="is no operator of this site"):
        authorise(place, Containment(), change(uid, name), OWNER)


@pytest.mark.parametrize("kind", AT_THE_CONSOLE)
def test_what_takes_somebody_who_is_signed_in_is_nobodys_at_a_shell(place: Site, kind: ChangeKind) -> None:
    with pytest.raises(NotPermitted, match=f"^{kind} is for somebody who is signed in: .") as refused:
        authorise(place, Containment(), change(0, "root", kind), OWNER)
    assert refused.value.rule == "operator:root"


HOUR = 3600 * 1_000_000_000


@pytest.mark.parametrize(
    ("second", "now_ns", "said"),
    [
        (Second(0), 0, ""),
        (Second(1), 0, "asks for"),
        (Second(1, asked_ns=HOUR), 2 * HOUR, "acts after"),
        (Second(1, asked_ns=HOUR), 25 * HOUR, ""),
        (Second(1, approved=True, asked_ns=HOUR), 2 * HOUR, ""),
        (Second(2), 0, "asks for"),
        (Second(2, asked_ns=HOUR), 99 * HOUR, "nobody approved it yet"),
        (Second(2, approved=True, asked_ns=HOUR), 2 * HOUR, ""),
    ],
)
def test_an_operator_applies_alone_while_nobody_could_approve_and_else_by_two(
    place: Site, second: Second, now_ns: int, said: str
) -> None:
    second = replace(second, serving="serves")
    order = replace(change(0, "root"), arguments={"digest": "edited"})

    def decided(order: Change) -> bool:
        return bool(authorise(place, Containment(), order, OWNER, now_ns, None, second))

    if said:
        for arguments in ({"digest": "edited"}, {}, {"digest": ""}):
            with pytest.raises(SecondPersonNeeded, match=said):
                decided(replace(order, arguments=arguments))
    else:
        assert decided(order)
    assert decided(replace(order, arguments={"digest": "serves"})), "what serves already changes nothing"
    assert decided(change(0, "root", ChangeKind.ZONE_CONTAIN)), "containing waits for nobody"


@pytest.mark.parametrize("kind", list(ChangeKind))
def test_a_read_only_site_contains_and_renews_but_gives_nothing(place: Site, kind: ChangeKind) -> None:
    calm, ransomed = Containment(), Containment(read_only="ransomware")
    for state in (calm, ransomed):
        if state.read_only and kind not in WHILE_READ_ONLY:
            with pytest.raises(Contained, match="read-only"):
                authorise(place, state, change(0, "root", kind), OWNER)
        elif kind in AT_THE_CONSOLE:
            with pytest.raises(NotPermitted, match="for somebody who is signed in"):
                authorise(place, state, change(0, "root", kind), OWNER)
        else:
            assert authorise(place, state, change(0, "root", kind), OWNER)


def test_what_gives_rights_or_takes_images_away_is_not_among_them() -> None:
    gives = {ChangeKind.SITE_APPLY, ChangeKind.DEVICE_ENROLL, ChangeKind.CONFLICT_PROMOTE, ChangeKind.CONFLICT_DISMISS}
    gives |= {ChangeKind.PERSON_ADD, ChangeKind.PERSON_ENABLE, ChangeKind.ROLE_GRANT}
    assert not gives & WHILE_READ_ONLY
