"""What does somebody who reads see? A simulated person at the console: enrols a passkey by a link, signs in, looks studies up, breaks the glass."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from urllib.parse import urlsplit

import httpx2

from leadglass.lab.authenticator import Authenticator

SECONDS_MAX = 30.0
_CSRF = re.compile(r'name="csrf" value="([0-9a-f]+)"')
_STUDY = re.compile(r'href="/studies/([0-9.]+)"')


class Reader:
    """One browser in one pair of hands, over the console's own pages. Raises httpx2.HTTPError where it does not answer.

    `passkey`: of somebody who is enrolled already, None for a new one.
    """

    def __init__(self, console: str, passkey: Authenticator | None = None) -> None:
        self._passkey = passkey or Authenticator(console)
        headers = {"User-Agent": "a simulated reader", "Sec-Fetch-Site": "same-origin", "Origin": console}
        self._client = httpx2.Client(base_url=console, headers=headers, timeout=SECONDS_MAX, follow_redirects=True)

    def enrol(self, link: str) -> bool:
        """Makes a passkey for whoever the link is for; whether that was taken."""
        path = urlsplit(link).path
        offer = self._client.post(f"{path}/options", headers={"Accept": "application/json"}).json()
        answer = self._passkey.create(offer["options"])
        taken = self._client.post(path, data=_form(offer["handle"], answer, label="simulated"))
        return taken.status_code == 200 and "ol class=" in taken.text

    def sign_in(self) -> bool:
        """One gesture: the passkey is the whole sign-in."""
        offer = self._client.post(
            "/passkey/options", data={"purpose": "sign-in"}, headers={"Accept": "application/json"}
        ).json()
        entered = self._client.post("/sign-in", data=_form(offer["handle"], self._passkey.get(offer["options"])))
        return entered.status_code == 200 and urlsplit(str(entered.url)).path != "/sign-in"

    def studies(self, patient: str) -> set[str]:
        """The studies that a search by Patient ID shows."""
        found = self._client.get("/", params={"patient": patient})
        return set(_STUDY.findall(found.text)) if found.status_code == 200 else set()

    def open(self, study_instance_uid: str) -> int:
        """The status of one study's page."""
        return self.look(f"/studies/{study_instance_uid}")

    def look(self, path: str) -> int:
        """The status of any page, after whatever it leads to."""
        return self._client.get(path).status_code

    def send(self, path: str, **fields: str) -> int:
        """The status after a form of a page, as this session's pages send it."""
        return self._client.post(path, data={**fields, "csrf": self._csrf()}).status_code

    @contextmanager
    def sending(self, path: str, fields: Mapping[str, str | list[str]]) -> Iterator[httpx2.Response]:
        """The answer to a form as it comes, for one that is long."""
        with self._client.stream("POST", path, data={**fields, "csrf": self._csrf()}) as answer:
            yield answer

    def step_up(self) -> bool:
        """The passkey again, in this session."""
        asked = {"purpose": "step-up", "csrf": self._csrf()}
        offer = self._client.post("/passkey/options", data=asked, headers={"Accept": "application/json"}).json()
        answer = _form(offer["handle"], self._passkey.get(offer["options"]), csrf=self._csrf())
        return self._client.post("/step-up", data=answer, headers={"Accept": "application/json"}).status_code == 200

    def page(self, path: str) -> str:
        """The text of any page, as HTML; "" where it is refused or none."""
        answer = self._client.get(path)
        return answer.text if answer.status_code == 200 else ""

    def lands(self, path: str) -> str:
        """The path of the page that it leads to."""
        return urlsplit(str(self._client.get(path).url)).path

    def break_glass(self, study_instance_uid: str, reason: str) -> int:
        """From the refused page of a study: for its patient, and why."""
        fields = {"study": study_instance_uid, "reason": reason, "csrf": self._csrf()}
        return self._client.post("/glass", data=fields).status_code

    def sit(self, device: str, hours: int = 1) -> int:
        """Says at a workstation that they sit there."""
        return self._client.post(f"/workstation/{device}", data={"hours": str(hours), "csrf": self._csrf()}).status_code

    def leave(self, device: str) -> int:
        return self._client.post(f"/workstation/{device}/leave", data={"csrf": self._csrf()}).status_code

    def token(self, device: str) -> str:
        """For the workstation's own software; "" where none is given."""
        answer = self._client.post(
            f"/workstation/{device}/token", data={"csrf": self._csrf()}, headers={"Accept": "application/json"}
        )
        return str(answer.json()["token"]) if answer.status_code == 200 else ""

    def _csrf(self) -> str:
        """Of this session; "" where nobody is signed in."""
        found = _CSRF.search(self._client.get("/me").text)
        return found[1] if found else ""

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()


def _form(handle: str, answer: Mapping[str, object], **more: str) -> dict[str, str]:
    return {"handle": handle, "answer": json.dumps(answer), **more}
