"""What is installed is what was locked: hashes, no addresses, one version each, nothing forgotten, no GPL at runtime."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tidy.repository import ROOT, text_of

PROJECT = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = {
    "requirements.lock": PROJECT["dependencies"],
    "requirements-demo.lock": [*PROJECT["dependencies"], *EXTRAS["demo"]],
    "requirements-dev.lock": [*PROJECT["dependencies"], *EXTRAS["dev"]],
}
LICENCE_LINE_CHARACTERS_MAX = 200
locks = pytest.mark.parametrize("lock", LOCKS)


@cache
def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text_of(ROOT / lock), re.MULTILINE))


@locks
def test_hashes_and_no_addresses(lock: str) -> None:
    text = text_of(ROOT / lock)
    assert "://" not in text
    blocks = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert blocks and all("==" in block.split()[0] and "--hash=sha256:" in block for block in blocks)


@locks
def test_every_requirement_is_locked(lock: str) -> None:
    wrong = [
        each
        for each in map(Requirement, LOCKS[lock])
        if not each.specifier.contains(pinned(lock).get(canonicalize_name(each.name), "0"))
    ]
    assert not wrong, "`make lock` writes the locks anew"


def test_the_locks_agree() -> None:
    dev = pinned("requirements-dev.lock")
    for lock in LOCKS:
        assert {name: version for name, version in pinned(lock).items() if dev.get(name) != version} == {}


def licence_of(name: str) -> str:
    """What an installed package says its licence is, whole licence texts left out; empty where it is not installed here."""
    try:
        about = metadata(name)
    except PackageNotFoundError:  # locked for another platform
        return ""
    stated = [line for key in ("License-Expression", "License", "Classifier") for line in about.get_all(key) or []]
    return " ".join(line for line in stated if len(line) < LICENCE_LINE_CHARACTERS_MAX)


def is_gpl(licence: str) -> bool:
    return bool(re.search(r"\bA?GPL|(?<!Lesser )General Public License", licence))


def test_no_gpl_at_runtime() -> None:
    assert is_gpl("License :: OSI Approved :: GNU General Public License v3 (GPLv3)") and is_gpl("AGPL-3.0-only")
    assert not is_gpl("GNU Lesser General Public License v3 (LGPLv3)")
    licences = {name: licence_of(name) for name in pinned("requirements.lock")}
    assert len([licence for licence in licences.values() if licence]) >= len(PROJECT["dependencies"])
    assert not [name for name, licence in licences.items() if is_gpl(licence)]
