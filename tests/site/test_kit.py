"""The recovery kit opens with its passphrase or enough shares, from its file or its sheet, and with nothing else."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from leadglass.site import kit as module
from leadglass.site.keyring import Keyring
from leadglass.site.kit import open_kit, read_sheet, verify_kit, write_kit
from leadglass.site.register import Register
from leadglass.site.shares import Share, join, split
from leadglass.site.sitekey import SiteKey
from leadglass.site.writer import Writer
from leadglass.terms import KeyFault


@pytest.fixture
def site_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteKey:
    """The key of a site with a register, a study key and an authority; scrypt as cheap as it gets."""
    monkeypatch.setattr(module, "_SCRYPT", {"n": 2, "r": 8, "p": 1})
    key = SiteKey.create(tmp_path / "keys" / "site.key")
    Register.open(tmp_path / "register.db", key.derive("register")).close()
    keyring = Keyring.open(tmp_path, key, Writer.create(tmp_path))
    keyring.study_key("1.2.3")
    keyring.close()
    (tmp_path / "ca").mkdir()
    authority(tmp_path, b"passphrase")
    return key


def authority(site_dir: Path, passphrase: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
    (site_dir / "ca" / "device-ca.key").write_bytes(pem)
    (site_dir / "ca" / "device-ca.pem").write_text(f"made {dt.datetime(2026, 11, 1, tzinfo=dt.UTC)}\n")


def test_it_proves_that_it_opens_the_store(tmp_path: Path, site_key: SiteKey) -> None:
    write_kit(tmp_path, site_key, b"kit phrase", device_ca_passphrase=b"passphrase")
    seen: list[str] = []
    proved = verify_kit(
        tmp_path, tmp_path / "kit", b"kit phrase", site_key, further={"journal": lambda key: seen.append(key.text())}
    )
    assert list(proved) == ["site key", "register", "keyring (1 keys)", "journal", "device-ca.key"]
    assert seen == [site_key.text()]
    for path in (tmp_path / "kit").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert site_key.text().split(":")[2] not in path.read_text()


def test_what_does_not_fit_the_site_is_named(tmp_path: Path, site_key: SiteKey) -> None:
    write_kit(tmp_path, site_key, b"kit phrase", device_ca_passphrase=b"wrong")
    with pytest.raises(KeyFault, match=r"does not open device-ca\.key"):
        list(verify_kit(tmp_path, tmp_path / "kit", b"kit phrase", site_key))
    with pytest.raises(KeyFault, match="another site key"):
        list(verify_kit(tmp_path, tmp_path / "kit", b"kit phrase", SiteKey.create(tmp_path / "other.key")))
    authority(tmp_path, b"passphrase")
    with pytest.raises(KeyFault, match=r"present device-ca\.key"):
        list(verify_kit(tmp_path, tmp_path / "kit", b"kit phrase", site_key))


def test_it_opens_with_nothing_else(tmp_path: Path, site_key: SiteKey) -> None:
    write_kit(tmp_path, site_key, b"kit phrase", device_ca_passphrase=b"passphrase")
    for wrong in (b"", b"kit phras", b"kit phrase ", b"Kit phrase"):
        with pytest.raises(KeyFault, match="this passphrase"):
            open_kit(tmp_path / "kit", passphrase=wrong)
    with pytest.raises(KeyFault, match="no recovery kit"):
        open_kit(tmp_path / "elsewhere", passphrase=b"kit phrase")


def test_two_of_three_shares_open_it_and_one_does_not(tmp_path: Path, site_key: SiteKey) -> None:
    lines = write_kit(tmp_path, site_key, b"kit phrase", device_ca_passphrase=b"", shares=(2, 3))
    assert len(lines) == 3
    kept = open_kit(tmp_path / "kit", passphrase=b"kit phrase")
    assert SiteKey.parse(str(kept["site_key"])).text() == site_key.text()
    for pair in itertools.permutations(lines, 2):
        assert open_kit(tmp_path / "kit", shares=pair) == kept
    assert open_kit(tmp_path / "kit", shares=lines) == kept
    for line in lines:
        for too_few in ([line], [line, line]):
            with pytest.raises(KeyFault):
                open_kit(tmp_path / "kit", shares=too_few)
    others = write_kit(tmp_path, site_key, b"kit phrase", device_ca_passphrase=b"", shares=(2, 3))
    with pytest.raises(KeyFault, match="these 2 shares"):
        open_kit(tmp_path / "kit", shares=[lines[0], others[1]])
    for at, letter in enumerate(others[0]):
        other = others[0][:at] + ("0" if letter != "0" else "1") + others[0][at + 1 :]
        with pytest.raises(KeyFault):
            open_kit(tmp_path / "kit", shares=[other, others[1]])


def test_the_printed_sheet_is_enough_and_names_a_slip(tmp_path: Path, site_key: SiteKey) -> None:
    write_kit(tmp_path, site_key, b"kit phrase", device_ca_passphrase=b"passphrase")
    kept = open_kit(tmp_path / "kit", passphrase=b"kit phrase")
    (tmp_path / "kit" / module.KIT_FILE).unlink()
    assert open_kit(tmp_path / "kit", passphrase=b"kit phrase") == kept
    sheet = (tmp_path / "kit" / module.SHEET_FILE).read_text()
    lines = sheet.splitlines()
    body = next(number for number, line in enumerate(lines) if line.startswith("01 "))
    slip = lines[body + 2].replace(lines[body + 2][5], "A" if lines[body + 2][5] != "A" else "B", 1)
    with pytest.raises(KeyFault, match="line 3"):
        read_sheet("\n".join([*lines[: body + 2], slip, *lines[body + 3 :]]))
    with pytest.raises(KeyFault, match="line 3"):
        read_sheet("\n".join([*lines[: body + 2], *lines[body + 3 :]]))


def test_a_damaged_newer_or_greedy_kit_is_named(tmp_path: Path, site_key: SiteKey) -> None:
    write_kit(tmp_path, site_key, b"kit phrase", device_ca_passphrase=b"")
    path = tmp_path / "kit" / module.KIT_FILE
    kit = json.loads(path.read_text())
    path.write_text(json.dumps({**kit, "format": 2}))
    with pytest.raises(KeyFault, match="format 2"):
        open_kit(tmp_path / "kit", passphrase=b"kit phrase")
    path.write_text(json.dumps({**kit, "scrypt": {**kit["scrypt"], "n": 1 << 30}}))
    with pytest.raises(KeyFault, match="memory"):
        open_kit(tmp_path / "kit", passphrase=b"kit phrase")
    for broken in ("", "{}", "[]", path.read_text()[:-9]):
        path.write_text(broken)
        with pytest.raises(KeyFault, match="damaged"):
            open_kit(tmp_path / "kit", passphrase=b"kit phrase")


# ---- shares


@given(
    st.binary(min_size=1, max_size=40),
    st.integers(2, 6).flatmap(lambda t: st.tuples(st.just(t), st.integers(t, 8))),
    st.randoms(),
)
def test_any_threshold_of_shares_opens(secret: bytes, shape: tuple[int, int], random: object) -> None:
    threshold, count = shape
    shares = list(split(secret, threshold, count))
    random.shuffle(shares)  # type: ignore[attr-defined]
    assert join(shares[:threshold]) == join(shares) == secret


def test_too_few_shares_tell_nothing() -> None:
    """One share of two is any byte with equal likelihood, whatever the secret."""
    for secret in (b"\x00", b"\xff"):
        seen = {split(secret, 2, 2)[0].data for _ in range(6000)}
        assert len(seen) == 256
    assert join(split(b"secret", 3, 5)[:2]) != b"secret"


def test_shapes_that_cannot_be() -> None:
    for threshold, count in ((1, 3), (4, 3), (0, 0), (2, 256)):
        with pytest.raises(ValueError, match="shares"):
            split(b"secret", threshold, count)
    one, two = split(b"secret", 2, 2)
    for held in ([one], [one, one], [one, Share(2, two.data[:-1])], []):
        with pytest.raises(ValueError, match="belong together"):
            join(held)
