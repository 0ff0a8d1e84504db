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


@pytest.mark.parametrize("name", sorted(pinned("requirements.lock")))
def test_no_gpl_at_runtime(name: str) -> None:
    try:
        about = metadata(name)
    except PackageNotFoundError:
        pytest.skip("locked for another platform")
    stated = [about.get("License-Expression") or about.get("License") or "", *(about.get_all("Classifier") or [])]
    licences = " ".join(line for line in stated if len(line) < 200)
    assert not re.search(r"\bA?GPL|General Public License v", licences.replace("Lesser General Public License", "")), (
        licences
    )
