"""The site key: from a file that nobody else may read or a credential; a slip in it is noticed; it shows itself nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadglass.site.sitekey import SiteKey, seal, unseal
from leadglass.terms import KeyFault


def test_created_private_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "site.key"
    key = SiteKey.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeyFault, match="already"):
        SiteKey.create(path)
    assert SiteKey.open("file:keys/site.key", tmp_path).text() == key.text()
    assert SiteKey.open(f"file:{path}", Path("/nowhere")).text() == key.text()
    assert SiteKey.open(f"file://{path}", Path("/nowhere")).text() == key.text()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    SiteKey.create(tmp_path / "site.key")
    (tmp_path / "site.key").chmod(mode)
    with pytest.raises(KeyFault) as refused:
        SiteKey.open("file:site.key", tmp_path)
    assert "chmod 600" in refused.value.hint


def test_a_credential_comes_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = SiteKey.create(tmp_path / "leadglass")
    (tmp_path / "leadglass").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert SiteKey.open("credential:leadglass", Path("/nowhere")).text() == key.text()
    for wrong in ("credential:../leadglass", "credential:", "pkcs11:token", "file:", "site.key"):
        with pytest.raises(KeyFault):
            SiteKey.open(wrong, tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(KeyFault) as refused:
        SiteKey.open("credential:leadglass", tmp_path)
    assert "LoadCredential" in refused.value.hint


def test_every_slip_is_noticed(tmp_path: Path) -> None:
    text = SiteKey.create(tmp_path / "site.key").text()
    for at, letter in enumerate(text):
        other = text[:at] + ("A" if letter != "A" else "B") + text[at + 1 :]
        with pytest.raises(KeyFault):
            SiteKey.parse(other)
    for end in range(len(text)):
        with pytest.raises(KeyFault):
            SiteKey.parse(text[:end])
    with pytest.raises(KeyFault, match="format 2"):
        SiteKey.parse(text.replace(":1:", ":2:", 1))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFault, match="missing"):
        SiteKey.open("file:site.key", tmp_path)


def test_purposes_have_keys_of_their_own_and_nothing_shows(tmp_path: Path) -> None:
    one, two = SiteKey.create(tmp_path / "1"), SiteKey.create(tmp_path / "2")
    purposes = ("index", "register", "journal/2026-11", "journal/2026-12", "keyring", "search-token")
    assert len({key.derive(purpose) for key in (one, two) for purpose in purposes}) == 2 * len(purposes)
    assert one.derive("index") == SiteKey.open("file:1", tmp_path).derive("index")
    assert one.id != two.id
    assert one.text().split(":")[2] not in repr(one)


def test_a_seal_opens_only_in_its_context() -> None:
    key, other = bytes(32), bytes([1] * 32)
    sealed = seal(key, b"body", b"context")
    assert unseal(key, sealed, b"context") == b"body"
    assert seal(key, b"body", b"context") != sealed, "a nonce came twice"
    for wrong in (
        (other, sealed, b"context"),
        (key, sealed, b"contexT"),
        (key, sealed[:-1], b"context"),
        (key, b"", b""),
    ):
        with pytest.raises(KeyFault):
            unseal(*wrong)
