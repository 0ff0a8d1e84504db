"""What does a provider's web server answer? Requests that are bounded in time and bytes, over TLS that is verified, and follow nothing."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import httpx2

from leadglass.identity.people.deadline import Deadline
from leadglass.terms import KeyFault, UpstreamFault

ANSWER_LENGTH_MAX_BYTES = 524_288
OPERATION_SECONDS = 5.0  # one read or write
CALL_SECONDS = 10.0  # all of them together
FAILURE_SECONDS = 5.0  # a server that did not answer is not asked again at once: nobody queues behind a dead one
_LOOK = "look after it, or its entry in the site file; people sign in with passkeys meanwhile"


def trusted(what: str, authority: str, site_dir: Path) -> ssl.SSLContext:
    """A client's context that verifies chain and name. `authority`: PEM file, "" for the system's. Raises KeyFault."""
    try:
        context = ssl.create_default_context(cafile=site_dir / authority if authority else None)
    except (OSError, ssl.SSLError) as error:
        hint = "authority = a PEM file of who vouches for it"
        raise KeyFault(f"{what}: its authority {authority} cannot be read: {error}", hint=hint) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


Value = TypeVar("Value")


class Kept(Generic[Value]):
    """What was fetched, for a while. `now_s`: a clock, Unix seconds."""

    def __init__(self, fetch: Callable[[], Value], now_s: Callable[[], float]) -> None:
        self._fetch, self._now = fetch, now_s
        self._lock = threading.Lock()
        self._value: tuple[float, Value] | None = None
        self._failed: tuple[float, UpstreamFault] | None = None

    def get(self, oldest_s: float) -> Value:
        """Not fetched before `oldest_s`, Unix seconds. Raises UpstreamFault: an old value is never taken for a new one."""
        with self._lock:
            now = self._now()
            if self._value is not None and oldest_s <= self._value[0] <= now:
                return self._value[1]
            if self._failed is not None and 0 <= now - self._failed[0] < FAILURE_SECONDS:
                raise UpstreamFault(str(self._failed[1]), hint=self._failed[1].hint)
            try:
                value = self._fetch()
            except UpstreamFault as fault:
                self._failed = (self._now(), fault)
                raise
            self._value = (now, value)
            return value


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content: bytes


class Upstream:
    """One provider's server. A connection a question: they are few, and none outlives a change of the context or a fork."""

    def __init__(self, name: str, context: ssl.SSLContext, seconds: float = CALL_SECONDS) -> None:
        self._name, self._context = name, context
        self._deadline = Deadline(name, seconds)

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Raises UpstreamFault where nothing, too much, or not in time comes back."""
        return self._ask("GET", url, None, headers or {})

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Raises UpstreamFault where nothing, too much, or not in time comes back."""
        return self._ask("POST", url, form, headers)

    def _ask(self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> Answer:
        plain = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}

        def call() -> Answer:
            with (
                httpx2.Client(
                    verify=self._context, trust_env=False, follow_redirects=False, timeout=OPERATION_SECONDS
                ) as client,
                client.stream(method, url, data=form, headers=plain) as response,
            ):
                content = bytearray()
                for piece in response.iter_raw():  # raw: nothing is unpacked
                    content += piece
                    if len(content) > ANSWER_LENGTH_MAX_BYTES:
                        raise UpstreamFault(
                            f"{self._name} answers more than {ANSWER_LENGTH_MAX_BYTES} bytes", hint=_LOOK
                        )
                return Answer(response.status_code, bytes(content))

        try:
            return self._deadline.within(call)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise UpstreamFault(f"{self._name} does not answer: {error or type(error).__name__}", hint=_LOOK) from error
