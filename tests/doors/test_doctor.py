"""What the doctor says of providers and directories that are not there: how to mend it, and never an exception."""

from __future__ import annotations

from pathlib import Path

from leadglass.doors.command.doctor import examine

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
