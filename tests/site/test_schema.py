"""Every key says what it is, and the page's example is a site that loads and keeps its promises."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from leadglass.policy.proof import prove
from leadglass.site.load import load
from leadglass.site.model import Limits, SessionLimits
from leadglass.site.schema import KEYS, LIMIT_RANGES, SESSION_RANGES

PAGE = (Path(__file__).parents[2] / "docs" / "site-file.md").read_text(encoding="utf-8")


def test_every_limit_is_a_key_with_its_range_and_its_default() -> None:
    names = [each.name for each in fields(Limits)]
    assert names == list(LIMIT_RANGES) == [key.removeprefix("limits.") for key in KEYS if key.startswith("limits.")]
    for name, (low, high) in LIMIT_RANGES.items():
        default = getattr(Limits(), name)
        assert low <= default <= high
        plain = (
            f"; {low if low < 1 else int(low)} to {int(high)}. Default {default:g}."
            if default < 1e6
            else f"; {int(low)} to {int(high)}. Default {default}."
        )
        assert KEYS[f"limits.{name}"].endswith(plain), name


def test_every_limit_of_sessions_is_a_key_with_its_range_and_its_default() -> None:
    names = [each.name for each in fields(SessionLimits)]
    assert (
        names == list(SESSION_RANGES) == [key.removeprefix("sessions.") for key in KEYS if key.startswith("sessions.")]
    )
    for name, (low, high) in SESSION_RANGES.items():
        default = getattr(SessionLimits(), name)
        assert low <= default <= high and re.search(r"_(minutes|hours|seconds)$", name)
        assert re.search(rf"[;.] {low} to {high}\. Default {default}\.$", KEYS[f"sessions.{name}"]), name


def test_a_limit_carries_its_unit_in_its_name() -> None:
    assert all(re.search(r"_(max|seconds|hours|bytes|days|bytes_per_second)$", name) for name in LIMIT_RANGES)


def test_the_page_says_of_each_key_what_the_program_says() -> None:
    assert [key for key, sentence in KEYS.items() if f"| `{key}` | {sentence} |" not in PAGE] == []


def test_the_page_names_no_key_that_is_not_there() -> None:
    assert set(re.findall(r"(?m)^\| `([^`]+)` \|", PAGE.partition("## Every key")[2])) == set(KEYS)


def test_the_example_of_the_page_loads_and_holds(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(schema.*?)```", PAGE, re.DOTALL)
    (tmp_path / "leadglass.toml").write_text(example)
    site = load(tmp_path)
    assert prove(site) == ()
    assert site.devices and site.tests and site.never and any(flow.on_demand for flow in site.flows)
