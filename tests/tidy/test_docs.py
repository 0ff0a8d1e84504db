"""The pages say what is there: links, anchors, commands, the map, the promises, the decisions."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.tidy.repository import ROOT, SOURCE, text_of, texts

PAGES = dict(texts(".md"))
pages = pytest.mark.parametrize("page", PAGES)


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_links_resolve(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(text_of(target)), link


@pages
def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)\b", PAGES[page], re.MULTILINE))
    assert named <= targets


def test_the_readme_leads_with_two_commands() -> None:
    commands = re.findall(r"^make (\w+)", PAGES["README.md"], re.MULTILINE)
    assert commands == ["demo", "test"]


def test_decisions_are_listed() -> None:
    listed = PAGES["docs/adr/README.md"]
    assert [path.name for path in (ROOT / "docs" / "adr").glob("0*.md") if f"({path.name})" not in listed] == []


def test_the_map_shows_places_that_exist() -> None:
    """ARCHITECTURE.md's table: a path from src/leadglass, and after it, in the same cell, names beside that path."""
    missing = []
    for row in re.findall(r"^\|(?! *-)(.+)\|$", PAGES["ARCHITECTURE.md"], re.MULTILINE):
        folder = SOURCE
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", row.split("|")[1]):
            place = (SOURCE if "/" in name else folder) / name
            place = place if place.exists() or "/" in name else SOURCE / name
            folder = place.parent if place.suffix else place
            if not place.exists():
                missing.append(name)
    assert not missing


def promises(page: str) -> dict[str, str]:
    """Number and name → state, from a page's table of promises."""
    rows = re.findall(r"^\| *(\d\. [^|]+?) *\| *([^|]+?) *\|", PAGES[page], re.MULTILINE)
    return dict(rows)


def test_the_promises_read_the_same_everywhere() -> None:
    readme = promises("README.md")
    assert [promise[:2] for promise in readme] == ["1.", "2.", "3.", "4.", "5."]
    assert promises("SECURITY.md") == readme


def test_pictures_are_our_own_and_need_nothing_from_elsewhere() -> None:
    for name, text in texts(".svg"):
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg") and root.find("{*}title") is not None, name
        outside = [
            value
            for node in root.iter()
            for value in node.attrib.values()
            if "://" in value or "url(" in value.replace("url(#", "")
        ]
        assert not outside, name


def test_what_ci_installs_is_named_in_one_place() -> None:
    from tests import programs

    installed = re.search(r"^packages=\((.+)\)", text_of(ROOT / ".ci" / "run"), re.MULTILINE)
    assert installed is not None
    assert set(programs.PACKAGES.values()) <= set(installed[1].split())
    assert Path(ROOT / ".ci" / "run").stat().st_mode & 0o111
