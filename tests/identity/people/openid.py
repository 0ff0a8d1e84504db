"""A real OpenID provider for tests, with the browser that goes through it; started on a private port, ended with the test."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey

from leadglass.identity.authority import Authority, KeyKind, key_pem, new_key, pem
from leadglass.site.model import ProviderSettings
from leadglass.terms import Role
from tests.running import free_port

HERE = Path(__file__).parents[1] / "provider"
REDIRECT, SIGNED_OUT = "https://pacs.hospital.example/sign-in/hospital", "https://pacs.hospital.example/signed-out"
SECRET = "of the tests alone"
ACCOUNTS = {
    "id-alice": {"preferred_username": "Alice", "name": "Alice Doe", "groups": ["readers", "staff"], "email": "alice@hospital.example", "email_verified": True},
    "id-bob": {"preferred_username": "bob", "name": "Bob", "groups": ["staff"]},
    "id-carol": {"preferred_username": "ca rol", "groups": ["readers"]},
}  # fmt: skip


def node() -> str:
    """Node, with what `npm ci` installs beside provider.mjs; else the test is skipped, and fails where CI says that everything is there."""
    found = shutil.which("node")
    if found and (HERE / "node_modules" / "oidc-provider").is_dir():
        return found
    reason = f"a real OpenID provider is missing: npm ci in {HERE.relative_to(HERE.parents[2])}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class OpenId:
    """The provider while it runs."""

    issuer: str
    place: Path
    process: subprocess.Popen[str]

    def settings(self, **changes: Any) -> ProviderSettings:
        given: dict[str, Any] = {
            "name": "hospital",
            "issuer": self.issuer,
            "client_id": "leadglass",
            "client_secret": "file:secret",
            "acr": frozenset(),
            "amr": frozenset({"pwd+otp", "hwk"}),
            "roles": {"readers": Role.RADIOLOGIST},
            "authority": "authority.pem",
        }
        return ProviderSettings(**{**given, **changes})

    def browser(self, address: str = "127.0.0.1") -> httpx2.Client:
        """`address`: where it calls from."""
        context = ssl.create_default_context(cafile=self.place / "authority.pem")
        calling = httpx2.HTTPTransport(verify=context, trust_env=False, local_address=address)
        return httpx2.Client(transport=calling, trust_env=False, timeout=30.0)

    def rotate(self) -> None:
        """From now on it signs with its second key, and lists no other."""
        with self.browser() as browser:
            assert browser.get(f"{self.issuer}/rotate").status_code == 200

    def reload(self, change: Callable[[dict[str, Any]], None]) -> None:
        """From now on it knows these accounts, and this client."""
        file = self.place / "config.json"
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))
        with self.browser() as browser:
            assert browser.get(f"{self.issuer}/reload").status_code == 200


def through(browser: httpx2.Client, url: str, **said: str) -> dict[str, str]:
    """Through the provider as somebody who says this of themselves; what the browser brings back to us."""
    for _ in range(12):
        if url.startswith(REDIRECT):
            return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        answer = browser.get(url, params=said if "/interaction/" in url else None)
        assert answer.status_code in (302, 303), answer.text
        url = urljoin(url, answer.headers["location"])
    raise AssertionError("the provider sends us round in circles")


def confirm(browser: httpx2.Client, url: str) -> str:
    """Yes to the provider's question whether to sign out; where it sends the browser then."""
    page = browser.get(url)
    assert page.status_code == 200, page.text
    action = re.search(r'action="([^"]+)"', page.text)
    xsrf = re.search(r'name="xsrf" value="([^"]+)"', page.text)
    assert action is not None and xsrf is not None
    answer = browser.post(urljoin(url, action[1]), data={"xsrf": xsrf[1], "logout": "yes"})
    return str(answer.headers["location"])


@contextmanager
def provider(place: Path, back_channel: str = "", more: Mapping[str, Any] | None = None) -> Iterator[OpenId]:
    program = node()
    port = free_port()
    issuer = f"https://127.0.0.1:{port}"
    now = dt.datetime.now(dt.UTC)
    authority, key = Authority.create("test authority", now), new_key(KeyKind.EC)
    (place / "authority.pem").write_bytes(pem(authority.certificate))
    (place / "tls.pem").write_bytes(pem(authority.issue(key.public_key(), "127.0.0.1", ["127.0.0.1"], now, 30)))
    (place / "tls.key").write_bytes(key_pem(key, None))
    (place / "secret").write_text(SECRET + "\n")
    (place / "secret").chmod(0o600)
    keys = [
        {**RSAKey.generate_key(2048).as_dict(private=True), "kid": kid, "use": "sig"} for kid in ("first", "second")
    ]
    client: dict[str, Any] = {
        "client_id": "leadglass",
        "client_secret": SECRET,
        "redirect_uris": [REDIRECT],
        "post_logout_redirect_uris": [SIGNED_OUT],
    }
    if back_channel:
        client |= {"backchannel_logout_uri": back_channel, "backchannel_logout_session_required": True}
    tls = {"certificate": str(place / "tls.pem"), "key": str(place / "tls.key")}
    config = {"issuer": issuer, "port": port, "tls": tls, "client": client, "accounts": ACCOUNTS, "keys": keys}
    (place / "config.json").write_text(json.dumps({**config, **(more or {})}))
    with (place / "provider.log").open("w") as log:
        process = subprocess.Popen(
            [program, str(HERE / "provider.mjs"), str(place / "config.json")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        if not any(line.strip() == "ready" for line in iter(process.stdout.readline, "")):
            raise AssertionError((place / "provider.log").read_text())
        yield OpenId(issuer, place, process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
