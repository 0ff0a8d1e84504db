"""The repository says only what it means: nothing left for later, no registry, no address of one."""

from __future__ import annotations

import re

from tests.tidy.repository import texts

# Put together here, so that this file does not hold what it looks for.
LATER = re.compile(
    r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b|NotImplemented" + "Error"
)
REGISTRIES = re.compile(
    "|".join(
        re.escape(host)
        for host in (
            "py" + "pi.org", "py" + "pi.python", "python" + "hosted", "npm" + "js.", "yarn" + "pkg", "debian" + ".org/debian",
            "deb." + "debian", "security." + "debian", "crates" + ".io", "conda" + ".anaconda", "proxy." + "golang", "maven" + ".org",
        )
    )
)  # fmt: skip
INDEX_OPTIONS = re.compile(r"--(?:extra-)?index" + r"-url|--find" + r"-links|--trusted" + "-host")


def found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_patterns_find_what_they_look_for() -> None:
    assert LATER.search("# TO" + "DO: later") and LATER.search("raise NotImplemented" + "Error")
    assert not LATER.search("XXXX") and not LATER.search("hackney")
    assert REGISTRIES.search("https://files.python" + "hosted.org/x")
    assert INDEX_OPTIONS.search("--extra-index" + "-url x")


def test_nothing_is_left_for_later() -> None:
    assert not found(LATER)


def test_no_registry_is_named() -> None:
    assert not found(REGISTRIES)
    assert not found(INDEX_OPTIONS)
