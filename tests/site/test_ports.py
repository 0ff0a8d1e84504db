"""A port that was once chosen stays, so that links go on leading to the web door."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from leadglass.site.load import load
from leadglass.site.ports import CONSOLE, WEB, choose_port, port_of, web_address
from leadglass.site.template import new_site_file


def made(tmp_path: Path, doors: str, *, loopback: bool = True) -> Path:
    text = f'schema = 1\n[site]\nname = "pacs.example"\nloopback = {str(loopback).lower()}\n{doors}'
    (tmp_path / "leadglass.toml").write_text(text)
    return tmp_path


def test_links_made_before_the_first_start_lead_to_the_console_ever_after(tmp_path: Path) -> None:
    text = new_site_file("localhost", loopback=True, listen="127.0.0.1:2762", key="file:keys/site.key")
    (tmp_path / "leadglass.toml").write_text(text)
    site = load(tmp_path)
    address = web_address(site)
    port = int(address.removeprefix("http://localhost:"))
    assert web_address(load(tmp_path)) == address and port_of(tmp_path, CONSOLE, "127.0.0.1", 0) == port
    assert port_of(tmp_path, WEB, "127.0.0.1", 0) not in (0, port)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        assert choose_port(tmp_path, CONSOLE, "127.0.0.1") != port
    assert web_address(site) != address


@pytest.mark.parametrize("damaged", ["", "[]", '{"console": "x"}', '{"console": 0}', '{"console": 99999}', "\0"])
def test_a_damaged_file_means_another_port(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ports.json").write_text(damaged)
    port = port_of(tmp_path, CONSOLE, "127.0.0.1", 0)
    assert 0 < port < 65536 and port_of(tmp_path, CONSOLE, "127.0.0.1", 0) == port


@pytest.mark.parametrize(
    ("doors", "loopback", "address"),
    [
        ('[doors.web]\nlisten = "0.0.0.0:443"\n', False, "https://pacs.example"),
        ('[doors.web]\nlisten = "0.0.0.0:8443"\n', False, "https://pacs.example:8443"),
        ('[doors.web]\nlisten = "127.0.0.1:8443"\n', True, "https://pacs.example:8443"),
        ("", False, ""),
    ],
)
def test_what_links_begin_with(tmp_path: Path, doors: str, loopback: bool, address: str) -> None:
    assert web_address(load(made(tmp_path, doors, loopback=loopback))) == address
