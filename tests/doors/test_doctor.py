"""What the doctor says of providers and directories that are not there: how to mend it, and never an exception."""

from __future__ import annotations

from pathlib import Path

import pytest

from leadglass.doors.command.doctor import Finding, examine

SITE = """schema = 1
[site]
name = "lab"
loopback = true
[providers.hospital]
issuer = "https://127.0.0.1:1"
client_id = "leadglass"
client_secret = "file:secret"
amr = ["mfa"]
roles = { "readers" = "radiologist" }
[directories.ad]
url = "ldaps://127.0.0.1:1"
base = "DC=hosp,DC=test"
bind = "CN=leadglass,DC=hosp,DC=test"
password = "file:secret"
[directories.ad.roles]
"CN=Readers,DC=hosp,DC=test" = "radiologist"
"""


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "leadglass.toml").write_text(SITE)
    findings = {each.about: each for each in examine(tmp_path)}
    for about in ("provider hospital", "directory ad"):
        assert findings[about].state == "red" and "cannot be read" in findings[about].text and findings[about].mend
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "secret").chmod(0o600)
    findings = {each.about: each for each in examine(tmp_path)}
    for about in ("provider hospital", "directory ad"):
        assert findings[about].state == "amber" and "does not answer" in findings[about].text
        assert "passkeys" in findings[about].mend and "s3cret" not in findings[about].text


TABLE = """schema = 1
[site]
name = "lab"
loopback = true
[firewall]
addresses = ["10.9.0.10/32"]
user = "%s"
[services]
ssh = "tcp/22"
[zones.desks]
networks = ["10.8.0.0/24"]
[[flows]]
id = "administration"
from = ["desks"]
to = ["archive"]
service = "ssh"
auth = "mfa"
why = "whoever keeps it"
"""


def test_whoever_loads_the_kernels_table_and_your_own_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(user: str, came: str = "10.8.0.7 40000 10.9.0.10 22") -> Finding:
        (tmp_path / "leadglass.toml").write_text(TABLE % user)
        monkeypatch.setenv("SSH_CONNECTION", came)
        return next(each for each in examine(tmp_path) if each.about == "kernel's table")

    assert found("no-such-user").state == "red" and "useradd" in found("no-such-user").mend
    assert found("nobody").state == "ok"
    assert found("nobody", "10.7.0.7 40000 10.9.0.10 22").state == "amber", "no flow opens it"
    monkeypatch.setattr("leadglass.doors.kernel.nft.PATH", str(tmp_path))
    assert "not installed" in found("nobody").text
