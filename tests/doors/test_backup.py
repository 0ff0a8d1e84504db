"""`backup` and `restore` as an operator calls them: where the key goes, what is asked for, what is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from leadglass.__main__ import assemble
from leadglass.doors.command.application import run_application
from leadglass.site.kit import open_kit, write_kit
from leadglass.site.sitekey import SiteKey

PHRASE = b"four words on paper"


class Hospital:
    """A site that is not on loopback: its key lies elsewhere, its kit has a passphrase."""

    def __init__(self, tmp_path: Path) -> None:
        self.site, self.key, self.phrase = tmp_path / "site", tmp_path / "etc" / "site.key", tmp_path / "phrase"
        self.kit, self.backup = tmp_path / "kit", tmp_path / "backup"
        self.phrase.write_bytes(PHRASE + b"\n")

    def run(self, *words: object) -> int:
        return run_application(assemble, [str(word) for word in words])

    def restore(self, target: Path, *words: object) -> int:
        return self.run(
            "restore", self.backup, target, "--kit", self.kit, "--passphrase-file", self.phrase, "--json", *words
        )


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.delenv("LEADGLASS_SITE", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    made = Hospital(tmp_path)
    words = ("--name", "pacs.example", "--key", made.key, "--passphrase-file", made.phrase, "--json")
    assert made.run("init", made.site, *words) == 0
    return made


def backed_up_and_lost(hospital: Hospital) -> str:
    """The key's line, which is then nowhere but in the kit."""
    assert hospital.run("--site", hospital.site, "backup", hospital.backup) == 0
    shutil.move(hospital.site / "kit", hospital.kit)
    shutil.rmtree(hospital.site)
    line = hospital.key.read_text()
    hospital.key.unlink()
    return line


def test_the_key_goes_to_where_the_site_file_says(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    line = backed_up_and_lost(hospital)
    capsys.readouterr()
    assert hospital.restore(hospital.site) == 0
    told = json.loads(capsys.readouterr().out)
    assert hospital.key.read_text() == line and hospital.key.stat().st_mode & 0o777 == 0o600
    assert (told["key"], told["of"]) == (str(hospital.key), "pacs.example")
    assert not (hospital.site / "keys" / "site.key").exists()
    assert (
        hospital.run(
            "--site", hospital.site, "key", "verify", "--kit", hospital.kit, "--passphrase-file", hospital.phrase
        )
        == 0
    )


def test_a_credential_needs_to_be_told_where(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = hospital.site / "leadglass.toml"
    file.write_text(file.read_text().replace(f"file:{hospital.key}", "credential:site.key"))
    assert "credential:site.key" in file.read_text()
    with monkeypatch.context() as unit:
        unit.setenv("CREDENTIALS_DIRECTORY", str(hospital.key.parent))
        assert hospital.run("--site", hospital.site, "apply") == 0
        line = backed_up_and_lost(hospital)
    assert hospital.restore(hospital.site) == 1
    assert "--key-out" in capsys.readouterr().err and not hospital.site.exists()
    out = tmp_path / "out" / "key"
    assert hospital.restore(hospital.site, "--key-out", out) == 0
    assert out.read_text() == line
    assert not list((hospital.site / "keys").iterdir()), "nothing stays beside the data"


def test_another_sites_key_is_not_replaced(hospital: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    backed_up_and_lost(hospital)
    other = SiteKey.create(hospital.key).text()
    assert hospital.restore(hospital.site) == 1
    assert "another site's key" in capsys.readouterr().err
    assert hospital.key.read_text().strip() == other and not hospital.site.exists()


def test_what_opens_it(hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = SiteKey.open(f"file:{hospital.key}", Path("/"))
    lines = write_kit(hospital.site, key, PHRASE, device_ca_passphrase=PHRASE, shares=(2, 3))
    old = tmp_path / "old.key"
    shutil.copy(hospital.key, old)
    backed_up_and_lost(hospital)
    assert open_kit(hospital.kit, passphrase=PHRASE)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"five words on paper")
    shares = tmp_path / "shares"
    for words, code, said in (
        ((), 2, "--kit with the recovery kit"),
        (("--kit", hospital.kit, "--key", old), 2, "--kit with the recovery kit"),
        (("--kit", hospital.kit), 2, "--passphrase-file"),
        (("--kit", hospital.kit, "--passphrase-file", wrong), 1, "does not open with this passphrase"),
        (("--kit", tmp_path / "nowhere", "--passphrase-file", hospital.phrase), 1, "no recovery kit"),
    ):
        assert hospital.run("restore", hospital.backup, tmp_path / "new", *words) == code
        assert said in " ".join(capsys.readouterr().err.split()), words
        assert not (tmp_path / "new").exists()
    shares.write_text(lines[2] + "\n" + lines[0] + "\n")
    assert (
        hospital.run(
            "restore",
            hospital.backup,
            tmp_path / "by-shares",
            "--kit",
            hospital.kit / "recovery-kit.json",
            "--shares-file",
            shares,
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "never let both run" in said and "next: leadglass --site" in said
    assert hospital.run("restore", hospital.backup, tmp_path / "by-key", "--key", old) == 0


def test_what_it_says_where_there_is_nothing(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code, said in (
        (("backup", "verify", tmp_path / "nowhere"), 1, "is no backup"),
        (("--site", hospital.site, "backup", hospital.site / "b"), 1, "inside each other"),
        (("--site", hospital.site, "backup", hospital.key.parent), 1, "holds something else"),
        (("--site", hospital.site, "backup", "verify"), 2, "verify DIR"),
        (("backup", tmp_path / "b"), 2, "which site?"),
    ):
        assert hospital.run(*words) == code
        assert said in " ".join(capsys.readouterr().err.split()), words
