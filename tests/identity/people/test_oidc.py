"""Sign-in through a real OpenID provider: what opens, and what each broken link of the chain costs."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest

from leadglass.identity.people.idtoken import TOKEN_LENGTH_MAX_BYTES
from leadglass.identity.people.oidc import DESCRIPTION_SECONDS, SIGN_IN_SECONDS, Provider, examine, own_path
from leadglass.identity.people.upstream import ANSWER_LENGTH_MAX_BYTES, Upstream
from leadglass.identity.people.vouched import Vouched, person_id, person_of
from leadglass.site.factors import Factors
from leadglass.site.model import ProviderSettings
from leadglass.site.register import Register
from leadglass.terms import Factor, KeyFault, NotIdentified, Role, UpstreamFault
from tests.identity.people.openid import REDIRECT, SIGNED_OUT, OpenId, confirm, provider, through

pytestmark = pytest.mark.xdist_group("openid")
KEY = bytes(range(32))
BROWSER = "the browser of alice"
BOTH = {"amr": "pwd,otp"}


@pytest.fixture(scope="module", autouse=True)
def register(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What counts once is in the register of the site, which its processes share."""
    opened = Register.open(tmp_path_factory.mktemp("site") / "register.db", KEY)
    FACTORS.append(Factors(opened))
    yield
    FACTORS.clear()
    opened.close()


FACTORS: list[Factors] = []


class Clock:
    """The time here, which a test may set apart from the provider's."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[str, SimpleQueue[bytes]]]:
    """Where the provider says by itself that somebody signed out: an address, and the tokens that came."""
    tokens: SimpleQueue[bytes] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])))
            tokens.put(form[b"logout_token"][0])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/out", tokens
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def openid(tmp_path_factory: pytest.TempPathFactory, told: tuple[str, SimpleQueue[bytes]]) -> Iterator[OpenId]:
    with provider(tmp_path_factory.mktemp("openid"), back_channel=told[0]) as running:
        yield running


def ours(openid: OpenId, clock: Callable[[], float] | None = None, **changes: Any) -> Provider:
    made = Provider.open(openid.settings(**changes), openid.place, REDIRECT, KEY, FACTORS[0])
    if clock is not None:
        made = Provider(made.settings, made._secret, made._upstream._context, REDIRECT, KEY, FACTORS[0], clock)
    return made


def back(openid: OpenId, ours: Provider, account: str = "id-alice", **said: str) -> tuple[str, dict[str, str]]:
    """A sign-in as far as the browser that came back: the handle, and what it brings."""
    url, handle = ours.begin(BROWSER, "/studies?patient=1")
    with openid.browser() as browser:
        return handle, through(browser, url, account=account, **(said or BOTH))


def refusal(made: Provider, handle: str, params: dict[str, str], browser: str = BROWSER) -> str:
    with pytest.raises(NotIdentified) as caught:
        made.finish(handle, params, browser)
    return caught.value.reason


def test_a_sign_in(openid: OpenId) -> None:
    made = ours(openid)
    handle, params = back(openid, made)
    vouched = made.finish(handle, params, BROWSER)
    assert vouched.session_hint
    assert vouched == Vouched(
        source="oidc:hospital",
        subject="id-alice",
        name="alice",
        display="Alice Doe",
        mail="alice@hospital.example",
        roles=frozenset({Role.RADIOLOGIST}),
        factors=frozenset({Factor.PROVIDER}),
        session_hint=vouched.session_hint,
        return_to="/studies?patient=1",
    )
    assert person_of(vouched, None).id == person_id("oidc:hospital", "id-alice")


def test_another_process_finishes_what_one_began(openid: OpenId) -> None:
    handle, params = back(openid, ours(openid))
    assert ours(openid).finish(handle, params, BROWSER).name == "alice"


def test_what_the_browser_is_sent_with(openid: OpenId) -> None:
    url, handle = ours(openid, acr=frozenset({"urn:two-factors"})).begin(BROWSER, "/")
    asked = dict(parse_qsl(urlsplit(url).query))
    assert asked["code_challenge_method"] == "S256" and asked["response_type"] == "code"
    assert (asked["max_age"], asked["acr_values"]) == ("28800", "urn:two-factors")
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert not any(secret in url + handle for secret in ("of+the+tests", BROWSER))
    assert asked["state"] not in handle and asked["nonce"] not in handle


def test_a_replayed_return_and_a_replayed_code(openid: OpenId) -> None:
    made = ours(openid)
    handle, params = back(openid, made)
    made.finish(handle, params, BROWSER)
    assert "second time" in refusal(made, handle, params)
    assert "second time" in refusal(ours(openid), handle, params)  # nor in another process
    _, again = made.begin(BROWSER, "/"), params["code"]
    with openid.browser() as browser:
        url, handle = made.begin(BROWSER, "/")
        late = through(browser, url, account="id-alice", **BOTH)
    assert "knows nothing of this code" in refusal(made, handle, {**late, "code": again})  # the provider's own answer


def test_another_browser(openid: OpenId) -> None:
    made = ours(openid)
    handle, params = back(openid, made)
    assert "another browser" in refusal(made, handle, params, "the browser of mallory")
    assert made.finish(handle, params, BROWSER).name == "alice"  # mallory has spent nothing
    _, handle = made.begin("", "/")
    assert "another browser" in refusal(made, handle, params, "")  # a sign-in bound to nothing ends nowhere


def test_a_code_for_another_state(openid: OpenId) -> None:
    """Signing somebody in as the attacker: the code is the attacker's, the handle the victim's."""
    made = ours(openid)
    _, theirs = back(openid, made, "id-bob")
    handle, params = back(openid, made)
    assert "its state is not ours" in refusal(made, handle, theirs)
    assert "its state is not ours" in refusal(
        made, handle, {key: value for key, value in params.items() if key != "state"}
    )
    assert "knows nothing of this code" in refusal(made, handle, {**params, "code": theirs["code"]})  # PKCE


def test_a_wrong_nonce(openid: OpenId) -> None:
    made = ours(openid)
    url, handle = made.begin(BROWSER, "/")
    parts = urlsplit(url)
    asked = {**dict(parse_qsl(parts.query)), "nonce": "of-another-sign-in"}
    with openid.browser() as browser:
        params = through(browser, parts._replace(query=urlencode(asked)).geturl(), account="id-alice", **BOTH)
    assert "nonce" in refusal(made, handle, params)


@pytest.mark.parametrize("said", [{"amr": "pwd"}, {"amr": "otp"}, {"acr": "urn:two-factors"}, {"amr": "sms"}])
def test_missing_factors(openid: OpenId, said: dict[str, str]) -> None:
    made = ours(openid)
    assert "two factors are not proven: amr" in refusal(made, *back(openid, made, **said))


def test_factors_by_acr(openid: OpenId) -> None:
    made = ours(openid, acr=frozenset({"urn:two-factors"}), amr=frozenset())
    handle, params = back(openid, made, acr="urn:two-factors")
    assert made.finish(handle, params, BROWSER).factors == {Factor.PROVIDER}
    assert "two factors are not proven: acr" in refusal(made, *back(openid, made, amr="pwd", acr="urn:one"))


def test_who_has_no_role_gets_no_further(openid: OpenId) -> None:
    made = ours(openid)
    vouched = made.finish(*back(openid, made, "id-bob"), BROWSER)
    assert vouched.roles == frozenset()
    with pytest.raises(NotIdentified, match="no group"):
        person_of(vouched, None)


def test_a_name_that_will_not_do(openid: OpenId) -> None:
    made = ours(openid)
    assert "no usable name" in refusal(made, *back(openid, made, "id-carol"))
    other = ours(openid, name_claim="nickname")
    assert "no usable name in nickname" in refusal(other, *back(openid, other))


def test_the_provider_says_no(openid: OpenId) -> None:
    made = ours(openid)
    url, handle = made.begin(BROWSER, "/")
    with openid.browser() as browser:
        params = through(browser, url, error="access_denied")
    assert "'access_denied'" in refusal(made, handle, params)


def test_an_answer_of_another_provider(openid: OpenId) -> None:
    made = ours(openid)
    for issuer in ({"iss": "https://evil.example"}, {}):
        handle, params = back(openid, made)
        odd = {**{key: value for key, value in params.items() if key != "iss"}, **issuer}
        assert "another provider" in refusal(
            Provider.open(made.settings, openid.place, REDIRECT, KEY, FACTORS[0]), handle, odd
        )


@pytest.mark.parametrize("spoil", [lambda h: "", lambda h: "A" * 5000, lambda h: h[:-4], lambda h: "B" + h[1:], lambda h: "é", lambda h: h + "AAAA"])  # fmt: skip
def test_a_handle_that_was_touched(openid: OpenId, spoil: Callable[[str], str]) -> None:
    made = ours(openid)
    _, handle = made.begin(BROWSER, "/")
    assert "none of ours" in refusal(made, spoil(handle), {"code": "x", "state": "y"})


def test_a_handle_of_another_provider_or_key(openid: OpenId) -> None:
    made = ours(openid)
    _, handle = made.begin(BROWSER, "/")
    assert "none of ours" in refusal(ours(openid, name="other"), handle, {})
    other = Provider.open(made.settings, openid.place, REDIRECT, bytes(32), FACTORS[0])
    assert "none of ours" in refusal(other, handle, {})


def test_a_return_that_is_late(openid: OpenId) -> None:
    clock = Clock()
    made = ours(openid, clock)
    handle, params = back(openid, made)
    clock.ahead_s = SIGN_IN_SECONDS + 1
    assert "began more than" in refusal(made, handle, params)


def test_a_clock_that_is_wrong(openid: OpenId) -> None:
    clock = Clock()
    clock.ahead_s = -7200.0
    made = ours(openid, clock)
    assert "look after the clocks" in refusal(made, *back(openid, made))


def test_no_code(openid: OpenId) -> None:
    made = ours(openid)
    handle, params = back(openid, made)
    assert "without a code" in refusal(made, handle, {**params, "code": "x" * 3000})


def test_a_wrong_secret(openid: OpenId) -> None:
    (openid.place / "wrong").write_text("guess")
    (openid.place / "wrong").chmod(0o600)
    made = ours(openid, client_secret="file:wrong")
    with pytest.raises(UpstreamFault, match="invalid_client") as caught:
        made.finish(*back(openid, made), BROWSER)
    assert "client_secret" in caught.value.hint and "guess" not in str(caught.value)


def test_a_wrong_authority(openid: OpenId, tmp_path: Path) -> None:
    with pytest.raises(UpstreamFault, match="does not answer"):
        ours(openid, authority="").begin(BROWSER, "/")
    with pytest.raises(KeyFault, match="authority"):
        ours(openid, authority="secret")
    with pytest.raises(KeyFault, match="authority"):
        ours(openid, authority="none.pem")


def test_another_issuer(openid: OpenId) -> None:
    with pytest.raises(UpstreamFault, match="calls itself"):
        ours(openid, issuer=openid.issuer + "/").begin(BROWSER, "/")


def test_a_provider_that_is_down(openid: OpenId) -> None:
    with pytest.raises(UpstreamFault, match="does not answer") as caught:
        ours(openid, issuer="https://127.0.0.1:1").begin(BROWSER, "/")
    assert "passkeys" in caught.value.hint


def test_keys_that_cannot_be_had_open_nothing(openid: OpenId) -> None:
    """JWKS down: the provider answers everything else, and still nobody gets in."""
    made = ours(openid)
    handle, params = back(openid, made)
    good = made.description()
    made._description._value = (made._now(), replace(good, keys="https://127.0.0.1:1/keys"))
    with pytest.raises(UpstreamFault, match="does not answer"):
        made.finish(handle, params, BROWSER)
    made._description._value = (made._now(), replace(good, keys=good.keys + "x"))
    made._keys._failed = None
    with pytest.raises(UpstreamFault, match="lists no keys: 404"):
        made.finish(*back(openid, made), BROWSER)


def test_signing_out_here_signs_out_there_and_the_provider_tells(
    openid: OpenId, told: tuple[str, SimpleQueue[bytes]]
) -> None:
    made = ours(openid)
    url, handle = made.begin(BROWSER, "/")
    with openid.browser() as browser:
        vouched = made.finish(handle, through(browser, url, account="id-alice", **BOTH), BROWSER)
        assert confirm(browser, made.logout_url(SIGNED_OUT, vouched.session_hint)) == SIGNED_OUT
        token = told[1].get(timeout=60)
        ended = made.back_channel(token)
        assert (ended.source, ended.person, ended.session_hint) == (
            "oidc:hospital",
            vouched.person_id,
            vouched.session_hint,
        )
        with pytest.raises(NotIdentified, match="came again"):
            made.back_channel(token)
        for odd in (token[:-5], b"", b"x.y.z", b"A" * (TOKEN_LENGTH_MAX_BYTES + 1)):
            with pytest.raises(NotIdentified):
                made.back_channel(odd)
        url, handle = made.begin(BROWSER, "/")
        assert "/interaction/" in browser.get(url).headers["location"]  # asked anew: it was really the end


def test_signing_out_there_can_be_left_out_and_never_stands_in_the_way(openid: OpenId) -> None:
    assert ours(openid, end_session=False).logout_url(SIGNED_OUT) == ""
    assert ours(openid, issuer="https://127.0.0.1:1").logout_url(SIGNED_OUT) == ""


def test_keys_rotate(tmp_path: Path) -> None:
    with provider(tmp_path, more={"thin": False}) as openid:  # and its tokens carry the groups themselves
        clock = Clock()
        made = ours(openid, clock)
        assert made.finish(*back(openid, made), BROWSER).roles == {Role.RADIOLOGIST}
        assert [key.kid for key in made.keys().listed] == ["first"]
        openid.rotate()
        handle, params = back(openid, made)
        assert "none of those" in refusal(made, handle, params)  # asked a moment ago: not asked again for every token
        clock.ahead_s = 31.0
        assert made.finish(*back(openid, made), BROWSER).name == "alice"
        assert [key.kid for key in made.keys().listed] == ["second"]  # and the old key opens nothing any more


def test_what_a_provider_says_of_itself_is_asked_again_each_hour(tmp_path: Path) -> None:
    with provider(tmp_path) as openid:
        clock = Clock()
        made = ours(openid, clock)
        made.keys()
        openid.process.kill()
        openid.process.wait()
        clock.ahead_s = DESCRIPTION_SECONDS - 60
        assert made.keys().listed and made.begin(BROWSER, "/")
        clock.ahead_s = DESCRIPTION_SECONDS + 60
        for ask in (made.keys, lambda: made.begin(BROWSER, "/")):
            with pytest.raises(UpstreamFault):
                ask()


def test_the_doctor_asks_it(openid: OpenId) -> None:
    assert examine(openid.settings(), openid.place).says_issuer
    with pytest.raises(KeyFault, match="the client secret of the provider hospital"):
        examine(openid.settings(client_secret="file:none"), openid.place)
    with pytest.raises(UpstreamFault):
        examine(openid.settings(issuer="https://127.0.0.1:1"), openid.place)


# ---- the wire and the document, without a provider


class Raw(BaseHTTPRequestHandler):
    content = b""
    sent: list[str] = []

    def do_GET(self) -> None:
        Raw.sent.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("location", "/moved-here")
        else:
            self.send_response(200)
        self.send_header("content-length", str(len(self.content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def raw() -> Iterator[str]:
    Raw.sent = []
    with HTTPServer(("127.0.0.1", 0), Raw) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def asking() -> Upstream:
    return Upstream("it", ssl.create_default_context())


def test_answers_are_bounded(raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Raw, "content", b" " * (ANSWER_LENGTH_MAX_BYTES + 1))
    with pytest.raises(UpstreamFault, match="answers more than"):
        asking().get(raw)


def test_redirects_are_not_followed_and_the_environment_sends_us_nowhere(
    raw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:1")
    assert asking().get(raw + "/moved").status == 302
    assert Raw.sent == ["/moved"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_document_that_is_none(raw: str, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(Raw, "content", content)
    with pytest.raises(UpstreamFault, match="no JSON"):
        bare(raw).description()


@pytest.mark.parametrize(
    "jwks", ["http://192.0.2.1/keys", "file:///etc/passwd", "//x", "https:///", "https://[", "", 7]
)
def test_a_document_that_leads_elsewhere(raw: str, monkeypatch: pytest.MonkeyPatch, jwks: object) -> None:
    document = {"issuer": raw, "authorization_endpoint": raw, "token_endpoint": raw, "jwks_uri": raw}
    monkeypatch.setattr(Raw, "content", json.dumps(document).encode())
    assert bare(raw).description().keys == raw
    monkeypatch.setattr(Raw, "content", json.dumps({**document, "jwks_uri": jwks}).encode())
    with pytest.raises(UpstreamFault, match="no usable jwks_uri"):
        bare(raw).description()


def bare(issuer: str) -> Provider:
    settings = ProviderSettings("it", issuer, "leadglass", "file:x", frozenset(), frozenset({"mfa"}), {})
    return Provider(settings, "s", ssl.create_default_context(), REDIRECT, KEY, FACTORS[0])


def test_a_dead_provider_is_not_asked_by_everybody_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bare("http://127.0.0.1:1")
    with pytest.raises(UpstreamFault):
        made.description()
    monkeypatch.setattr(made._upstream, "get", lambda url: pytest.fail("asked again at once"))
    with pytest.raises(UpstreamFault, match="does not answer"):
        made.description()


@pytest.mark.parametrize(
    "said",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "",
        "studies",
        "/a b",
        "/a\nb",
        "/" + "a" * 600,
        "/\x00",
    ],
)
def test_a_way_that_leads_elsewhere_leads_home(said: str) -> None:
    assert own_path(said) == "/"


@pytest.mark.parametrize("said", ["/", "/studies?patient=1&x=%20#a", "/a//b"])
def test_a_way_of_our_own(said: str) -> None:
    assert own_path(said) == said
