"""A real Chromium, headless, with a virtual authenticator in it: what a person has in front of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.programs import require

# No word to anybody outside, no graphics card, no sandbox where tests run as root.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-features=OptimizationHints,MediaRouter,Translate", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]  # fmt: skip
WIDE, NARROW = 1280, 400


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require("chromium"), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Screen:
    """One person's browser: a context of its own, one page, and an authenticator that says yes."""

    def __init__(self, browser: Browser, address: str, *, width: int = WIDE, dark: bool = False) -> None:
        self.address = address
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", ignore_https_errors=True
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.broken: list[str] = []
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.broken.append(str(error)))
        self.devtools: CDPSession = self.context.new_cdp_session(self.page)
        self.devtools.send("WebAuthn.enable", {"enableUI": False})
        self.authenticator = self.add_authenticator()

    def _heard(self, kind: str, text: str) -> None:
        """What breaks the content security policy is told on the console, and nowhere else."""
        if "Content Security Policy" in text or (kind == "error" and "status of 4" not in text):
            self.broken.append(text)

    def add_authenticator(self, *, verified: bool = True, transport: str = "internal") -> str:
        options = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": transport,
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verified,
            "automaticPresenceSimulation": True,
        }
        added = self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
        return str(added["authenticatorId"])

    def replace_authenticator(self, credentials: list[dict[str, Any]], *, verified: bool = True) -> None:
        """Another one in its place, with these keys in it."""
        self.devtools.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.authenticator})
        self.authenticator = self.add_authenticator(verified=verified)
        for each in credentials:
            self.devtools.send("WebAuthn.addCredential", {"authenticatorId": self.authenticator, "credential": each})

    def credentials(self) -> list[dict[str, Any]]:
        found = self.devtools.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(found["credentials"])

    def verify_user(self, *, verified: bool) -> None:
        self.devtools.send(
            "WebAuthn.setUserVerified", {"authenticatorId": self.authenticator, "isUserVerified": verified}
        )

    def open(self, path: str) -> None:
        self.page.goto(path if "://" in path else self.address + path)

    def heading(self) -> str:
        return self.page.locator("h1").inner_text()

    def enrol(self, link: str, label: str = "Work laptop") -> list[str]:
        """By a link; the recovery codes."""
        self.open(link)
        self.page.get_by_label("Name of the passkey").fill(label)
        self.page.get_by_role("button", name="Make a passkey").click()
        self.page.wait_for_selector("ol.codes")
        return self.page.locator("ol.codes code").all_inner_texts()

    def sign_in(self) -> None:
        """By the button; or the browser's own suggestion was faster, which a virtual authenticator accepts at once."""
        self.open("/sign-in")
        with contextlib.suppress(PlaywrightError):  # gone already
            self.page.get_by_role("button", name="Sign in with a passkey").click(timeout=1_000, no_wait_after=True)
        self.page.wait_for_url(lambda url: "/sign-in" not in url)

    def step_up(self) -> None:
        """Where the passkey is asked for once more: what led there goes on."""
        self.page.wait_for_selector("h1:has-text('Is it you?')")
        self.page.get_by_role("button", name="Go on with your passkey").click()

    def close(self) -> None:
        self.context.close()
