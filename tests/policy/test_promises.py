"""Which promises are about a flow: those that fail without it are among them, and say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from leadglass.policy.promises import promises
from leadglass.policy.proof import prove
from leadglass.site.model import Origin, Site
from leadglass.site.model import Test as Promised
from tests.policy.firewall.sites import lab

HERE = Origin("leadglass.toml", 1)


def promising() -> Site:
    return replace(
        lab(),
        tests=(
            Promised(
                "CT01",
                ("archive:store CTImageStorage", "directory:ntp"),
                ("archive:find", "clinical:*"),
                "a scanner",
                HERE,
            ),
            Promised("radiology", ("archive:https",), ("modalities:*",), "", HERE),
            Promised("guest", (), ("*:*",), "", HERE),
        ),
    )


def told(site: Site, name: str) -> list[tuple[str, str, bool, bool]]:
    (flow,) = (each for each in site.flows if each.id == name)
    return [(each.who, each.expression, each.accepted, each.by_it) for each in promises(site, flow)]


def test_what_is_about_a_flow() -> None:
    site = promising()
    assert told(site, "modalities-store") == [
        ("CT01", "archive:store CTImageStorage", True, True),
        ("CT01", "archive:find", False, False),
    ]
    assert told(site, "time") == [("CT01", "directory:ntp", True, True)]
    assert told(site, "console") == [("radiology", "archive:https", True, True)]
    assert told(site, "vendor") == []


def test_whatever_fails_without_a_flow_is_about_it(tmp_path: Path) -> None:
    site = promising()
    for flow in site.flows:
        without = replace(site, flows=tuple(each for each in site.flows if each.id != flow.id))
        failing = [each.what for each in prove(without) if "expected ALLOWED" in each.what]
        assert len(failing) == sum(by_it for *_, by_it in told(site, flow.id)), (flow.id, failing)
