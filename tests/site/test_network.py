"""By which connection did somebody come who applies a site file? Of ssh, also through a sudo that forgets it; of a browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leadglass.doors.web.pages.site_file import connection
from leadglass.site.load import SP1800_24, load
from leadglass.site.network import NetworkState, connection_of, read, write

SAYS = "from leadglass.site.network import own_connection; print(own_connection())"


def said(**environment: str) -> str:
    """By a program that a shell began with an environment of its own, and nothing of the shell's."""
    line = ["sh", "-c", f'env -i {sys.executable} -c "{SAYS}"; :']
    kept = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    return subprocess.run(line, env=kept | environment, capture_output=True, text=True, check=True).stdout.strip()


def test_what_sudo_forgets_is_known_to_the_shell_before_it() -> None:
    assert said(SSH_CONNECTION="10.0.0.7 50000 10.0.0.1 22") == "10.0.0.7 10.0.0.1 22"


@pytest.mark.parametrize("told", ["", "10.0.0.7 50000 10.0.0.1", "a b c d e"])
def test_what_sshd_never_says_is_no_connection(told: str) -> None:
    assert connection_of({"SSH_CONNECTION": told}) == "" == connection_of({})


def test_a_browsers_connection_ends_at_the_web_door() -> None:
    site = load(SP1800_24)
    assert connection(site, "10.20.2.7") == "10.20.2.7 10.20.5.10 443"
    assert connection(site, "fd20:2::7") == "fd20:2::7 fd20:5::10 443"
    assert connection(site, "nowhere") == ""


def test_what_is_known_is_read_again_and_a_damaged_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == NetworkState()
    known = NetworkState("one", "two", "10.0.0.7 10.0.0.1 22")
    write(tmp_path, known)
    assert read(tmp_path) == known
    (tmp_path / "state" / "network.json").write_text('{"confirmed": "one"')
    assert read(tmp_path) == NetworkState(), "then what closes something waits for a word"
