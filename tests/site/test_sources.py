"""Providers and directories in the site file: what loads, and what is refused with line and mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadglass.policy.differences import differences
from leadglass.site.document import Problem, SiteInvalid
from leadglass.site.load import load
from leadglass.site.model import Site
from leadglass.site.secret import SECRET_LENGTH_MAX_BYTES, read_secret
from leadglass.terms import KeyFault, Role

SITE = 'schema = 1\n[site]\nname = "lab"\nkey = "credential:site.key"\n'
LOOPBACK = 'schema = 1\n[site]\nname = "lab"\nloopback = true\n'
PROVIDER = """[providers.hospital]
label = "Hospital sign-in"
issuer = "https://login.hospital.example/staff"
client_id = "leadglass"
client_secret = "credential:oidc"
amr = ["mfa", "pwd+otp"]
roles = { "readers" = "radiologist", "a.b c" = "auditor" }
"""
DIRECTORY = """[directories.ad]
url = "ldaps://dc1.hospital.example:3269"
base = "DC=hospital,DC=example"
bind = "CN=leadglass,DC=hospital,DC=example"
password = "file:keys/ad"
[directories.ad.roles]
"CN=Readers,DC=hospital,DC=example" = "radiologist"
"""


def loaded(place: Path, extra: str) -> Site:
    (place / "leadglass.toml").write_text(SITE + extra)
    return load(place)


def problems(place: Path, extra: str) -> list[Problem]:
    with pytest.raises(SiteInvalid) as caught:
        loaded(place, extra)
    return list(caught.value.problems)


def test_a_provider(tmp_path: Path) -> None:
    provider = loaded(tmp_path, PROVIDER).providers["hospital"]
    assert (provider.label, provider.client_secret) == ("Hospital sign-in", "credential:oidc")
    assert provider.roles == {"readers": Role.RADIOLOGIST, "a.b c": Role.AUDITOR}
    assert (provider.amr, provider.acr) == ({"mfa", "pwd+otp"}, frozenset())
    assert (provider.name_claim, provider.groups_claim) == ("preferred_username", "groups")


def test_a_directory(tmp_path: Path) -> None:
    directory = loaded(tmp_path, DIRECTORY).directories["ad"]
    assert (directory.host, directory.port, directory.tls_first) == ("dc1.hospital.example", 3269, True)
    assert directory.roles == {"CN=Readers,DC=hospital,DC=example": Role.RADIOLOGIST}
    assert directory.nested and directory.user == "sAMAccountName"


def test_ldap_means_starttls(tmp_path: Path) -> None:
    directory = loaded(tmp_path, DIRECTORY.replace("ldaps://dc1.hospital.example:3269", "ldap://dc1.hospital.example"))
    assert (directory.directories["ad"].port, directory.directories["ad"].tls_first) == (389, False)


@pytest.mark.parametrize(
    ("old", "new", "message", "mend"),
    [
        ('"radiologist"', '"radiologyst"', "is no person's role", "radiologist"),
        ('"radiologist"', '"service-account"', "is no person's role", ""),
        ('"radiologist"', "3", "is no person's role", ""),
        ("https://login", "http://login", "is not https", "https"),
        ("https://login.hospital.example/staff", "login.hospital.example", "is no issuer", "https"),
        ("https://login.hospital.example/staff", "https://login.hospital.example/?a=b", "is no issuer", "discovery"),
        ("https://login.hospital.example/staff", "https://u:p@login.hospital.example/", "in clear", "file:PATH"),
        ("https://login.hospital.example/staff", "https://[::1/", "is no address", "https"),
        ('"credential:oidc"', '"s3cret"', "never the secret itself", "credential:NAME"),
        ('amr = ["mfa", "pwd+otp"]\n', "", "proves no second factor", "amr"),
        ('client_id = "leadglass"\n', "", "has no client_id", "registered"),
        ('label = "Hospital sign-in"', "max_age_seconds = 1", "1 seconds", "between 60"),
        ('label = "Hospital sign-in"', 'labell = "x"', "unknown key providers.hospital.labell", "label"),
        ("[providers.hospital]", '[providers."../x"]', "is no name", "letters"),
    ],
)
def test_what_a_provider_may_not_say(tmp_path: Path, old: str, new: str, message: str, mend: str) -> None:
    found = problems(tmp_path, PROVIDER.replace(old, new))
    assert any(message in each.message and mend in each.mend and each.file == "leadglass.toml" for each in found), found


@pytest.mark.parametrize(
    ("old", "new", "message", "mend"),
    [
        ("ldaps://", "https://", "is no address of a directory", "StartTLS"),
        ("dc1.hospital.example:3269", "", "is no address of a directory", "ldaps://HOST:636"),
        ("dc1.hospital.example:3269", "dc1:99999", "is no address of a directory", "ldaps://HOST:636"),
        ("dc1.hospital.example:3269", "dc1/dc=x??sub", "is no address of a directory", "ldaps://HOST:636"),
        ('base = "DC=hospital,DC=example"', 'base = "hospital"', "is no distinguished name", "base"),
        ('bind = "CN=leadglass,DC=hospital,DC=example"\n', "", "is asked by nobody", "bind"),
        ('"file:keys/ad"', '"Passw0rd"', "never the secret itself", "credential:NAME"),
        ('"CN=Readers,DC=hospital,DC=example" =', '"Readers" =', "is no distinguished name", "CN="),
        ('base = "DC', 'user = "uid)(x"\nbase = "DC', "is no attribute", "sAMAccountName"),
        ('base = "DC', 'poll_seconds = 1\nbase = "DC', "1 seconds", "between 5"),
        ('"radiologist"', '"chief"', "is no person's role", ""),
    ],
)
def test_what_a_directory_may_not_say(tmp_path: Path, old: str, new: str, message: str, mend: str) -> None:
    found = problems(tmp_path, DIRECTORY.replace(old, new))
    assert any(message in each.message and mend in each.mend for each in found), found


def test_a_problem_names_its_line(tmp_path: Path) -> None:
    text = SITE + DIRECTORY
    (found,) = problems(tmp_path, DIRECTORY.replace("ldaps:", "http:"))
    assert text.splitlines()[found.line - 1].startswith("url =")


def test_http_is_for_a_provider_on_a_loopback_site_alone(tmp_path: Path) -> None:
    here = PROVIDER.replace("https://login.hospital.example/staff", "http://127.0.0.1:8000")
    assert any("is not https" in each.message for each in problems(tmp_path, here))
    (tmp_path / "leadglass.toml").write_text(LOOPBACK + here)
    assert load(tmp_path).providers["hospital"].issuer == "http://127.0.0.1:8000"
    (tmp_path / "leadglass.toml").write_text(LOOPBACK + here.replace("127.0.0.1", "10.0.0.1"))
    with pytest.raises(SiteInvalid, match="is not https"):
        load(tmp_path)


def test_who_gains_by_a_new_source_is_told(tmp_path: Path) -> None:
    before, after = loaded(tmp_path, ""), loaded(tmp_path, PROVIDER + DIRECTORY)
    told = "\n".join(differences(before, after))
    assert "+ role radiologist for readers of provider hospital" in told
    assert "+ role radiologist for CN=Readers,DC=hospital,DC=example of directory ad" in told
    assert "- role auditor for a.b c of provider hospital" in "\n".join(differences(after, before))


def test_a_provider_that_moves_is_told(tmp_path: Path) -> None:
    before = loaded(tmp_path, PROVIDER + DIRECTORY)
    after = loaded(tmp_path, PROVIDER.replace('"mfa", ', "") + DIRECTORY.replace("dc1.", "dc2."))
    told = "\n".join(differences(before, after))
    assert "~ provider hospital changes" in told and "~ directory ad changes" in told


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "it").write_text("s3cret \n")
    (tmp_path / "it").chmod(0o600)
    assert read_secret("the secret", "file:it", tmp_path) == "s3cret "


def test_a_secret_is_read_from_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "it").write_text("s3cret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("the secret", "credential:it", tmp_path) == "s3cret"
    with pytest.raises(KeyFault):
        read_secret("the secret", "credential:../it", tmp_path)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"s3cret", 0o644, "others can read"),
        (b"", 0o600, "holds no secret"),
        (b"\n", 0o600, "holds no secret"),
        (b"two\nlines\n", 0o600, "holds no secret"),
        (b"x" * (SECRET_LENGTH_MAX_BYTES + 1), 0o600, "holds no secret"),
        (b"\xff\xfe", 0o600, "not UTF-8"),
    ],
)
def test_a_secret_that_will_not_do(tmp_path: Path, content: bytes, mode: int, message: str) -> None:
    (tmp_path / "it").write_bytes(content)
    (tmp_path / "it").chmod(mode)
    with pytest.raises(KeyFault, match=message) as caught:
        read_secret("the secret", "file:it", tmp_path)
    assert caught.value.hint and "s3cret" not in str(caught.value)


def test_a_secret_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    for reference in ("file:none", "file:", "credential:it", "s3cret"):
        with pytest.raises(KeyFault, match="the secret"):
            read_secret("the secret", reference, tmp_path)
