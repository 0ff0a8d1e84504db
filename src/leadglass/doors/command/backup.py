"""`leadglass backup DIR`, `leadglass backup verify DIR` and `leadglass restore BACKUP NEW-SITE`: the site's copy, and a site from it."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from leadglass.archive.manifest import MANIFEST, Manifest, problems, read_manifest
from leadglass.archive.restore import Restored, credential, restore
from leadglass.doors.command.application import JSON, Invocation, invocation, secret_from
from leadglass.doors.command.desk import Desk, open_desk
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.command.output import Output
from leadglass.doors.command.questions import QUESTIONS
from leadglass.site.kit import open_kit
from leadglass.site.sitekey import SiteKey
from leadglass.terms import ChangeKind, Fault

LOOK_EVERY_SECONDS = 0.5
VERIFY = "verify"
_WORDS = "DIR | verify DIR"

Kit = Annotated[Path | None, typer.Option("--kit", help="The recovery kit: its directory, or its file.")]
Key = Annotated[Path | None, typer.Option("--key", help="The site key's file, where there still is one.")]
Phrase = Annotated[Path | None, typer.Option("--passphrase-file", help="Opens the kit.")]
Shares = Annotated[Path | None, typer.Option("--shares-file", help="Opens the kit: its shares, one a line.")]
KeyOut = Annotated[
    Path | None, typer.Option("--key-out", help="Where the site key goes if the site file names a credential.")
]


def register(app: typer.Typer) -> None:
    app.command("backup")(_backup)
    app.command("restore")(_restore)


def _backup(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar=_WORDS, help="Where it goes; again into the same: what changed.")
    ],
    kit: Kit = None,
    key: Key = None,
    passphrase_file: Phrase = None,
    shares_file: Shares = None,
    as_json: JSON = False,
) -> None:
    """A copy of the site beside its work, from which it can be restored with the recovery kit. `backup verify DIR` checks one."""
    call = invocation(context)
    match words:
        case ["verify", directory]:
            site_key = _site_key(kit, key, passphrase_file, shares_file) if kit or key else None
            _verify(Path(directory).resolve(), site_key, call.output(as_json))
        case [directory] if directory != VERIFY and not (kit or key):
            _make(call, Path(directory).resolve(), call.output(as_json))
        case _:
            raise Stopped(
                Exit.USAGE,
                f"leadglass backup {_WORDS}",
                hint="./verify is a directory of that name; --kit and --key are for verify",
            )


def _make(call: Invocation, directory: Path, output: Output) -> None:
    desk = call.desk()
    try:
        with output.progress("copying the site") as advance, _watched(desk, advance):
            result = desk.change(ChangeKind.SITE_BACKUP, str(directory), {"directory": str(directory)})
    finally:
        desk.close()
    said = (
        f"backup {result['number']} is in {directory}: {result['files']} files, {_size(result['bytes'])}; "
        f"copied {result['copied']} ({_size(result['copied_bytes'])}), {result['skipped']} were there"
    )
    output.object(result, "\n".join([said, *(f"  {warning}" for warning in result["warnings"])]))


@contextlib.contextmanager
def _watched(desk: Desk, advance: Any) -> Iterator[None]:
    """The bar follows what the copying process says of itself."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY_SECONDS):
            with contextlib.suppress(Stopped):
                row = next(iter(desk.ask("backup", {})))
                advance(min(row["done"], row["there"]), row["there"])

    watching = threading.Thread(target=look, name="progress", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _verify(directory: Path, site_key: SiteKey | None, output: Output) -> None:
    manifest = read_manifest(directory, site_key)
    there = sum(each.length for each in manifest.files)
    done = 0
    found = []
    with output.progress("reading the backup") as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar(done, there)

        for problem in problems(directory, manifest, advance):
            found.append(problem)
            output.object({"problem": problem}, problem)
    if found:
        raise Stopped(
            Exit.PROBLEMS,
            f"{len(found)} of {len(manifest.files)} files do not hold",
            hint="run `leadglass backup` into a new directory, and look at that disk",
        )
    seal = (
        "the manifest is as the site wrote it" if site_key else "with --kit or --key the manifest's seal is checked too"
    )
    output.object(
        {"ok": True, **_facts(manifest), "seal_checked": site_key is not None},
        f"every digest holds: backup {manifest.number} of {manifest.site}, {manifest.began}: {len(manifest.files)} files, {_size(there)}; {seal}",
    )


def _restore(
    context: typer.Context,
    backup: Annotated[Path, typer.Argument(metavar="BACKUP")],
    new_site: Annotated[Path, typer.Argument(metavar="NEW-SITE", help="A directory that is empty, or not there.")],
    kit: Kit = None,
    key: Key = None,
    passphrase_file: Phrase = None,
    shares_file: Shares = None,
    key_out: KeyOut = None,
    as_json: JSON = False,
) -> None:
    """A site from a backup and its recovery kit (or its site key): every digest is checked, what is damaged is named."""
    call = invocation(context)
    output = call.output(as_json)
    directory, site_dir = backup.resolve(), new_site.resolve()
    read_manifest(directory)  # what is no backup is said before anybody types a passphrase
    site_key = _site_key(kit, key, passphrase_file, shares_file)
    manifest = read_manifest(directory, site_key)
    there, done = sum(each.length for each in manifest.files), 0
    with output.progress("restoring the site") as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar(done, there)

        restored = restore(
            directory, manifest, site_key, site_dir, key_out=key_out.resolve() if key_out else None, advance=advance
        )
    with output.progress("recovering, and making the index"), credential(restored):
        came = _started(call, directory, manifest, site_dir)
    _tell(output, manifest, restored, came)


def _started(call: Invocation, directory: Path, manifest: Manifest, site_dir: Path) -> Mapping[str, Any]:
    """Recovery and index, as a change that the restored site's own journal tells of; what the site says of itself afterwards."""
    digest = hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()
    about = f"backup {manifest.number} of {manifest.began}"
    try:
        desk = open_desk(site_dir, call.assemble, QUESTIONS)
        try:
            arguments = {"manifest": digest, "backup_change": manifest.change}
            result = desk.change(ChangeKind.SITE_RESTORE, about, arguments)
            return {**next(iter(desk.ask("status", {}))), **result}
        finally:
            desk.close()
    except (Stopped, Fault) as stopped:
        hint = f"the files are in {site_dir}, each with the digest of the backup; {stopped.hint}"
        raise Stopped(Exit.FAILED, f"the restored site does not start: {stopped}", hint=hint) from stopped


def _tell(output: Output, manifest: Manifest, restored: Restored, came: Mapping[str, Any]) -> None:
    counts = {
        name: came.get(name) for name in ("studies", "instances", "versions", "devices", "revoked") if name in came
    }
    last = manifest.last_event_ns()
    when = dt.datetime.fromtimestamp(last / 1e9, dt.UTC).isoformat(timespec="seconds") if last else ""
    site = restored.site_dir
    output.object(
        {"site": str(site), "key": str(restored.key), **counts, **_facts(manifest), "last_event": when,
         "writers_recovered": came["writers_recovered"]},
        f"{site} is {manifest.site} as it was in backup {manifest.number} ({manifest.began}); last event {when or 'none'}\n"
        "  " + ", ".join(f"{value} {name}" for name, value in counts.items()) + "\n"
        f"  the site key is in {restored.key}\n"
        "  This is a copy, with the name, certificates and keys of the original: never let both run. What the original stored,\n"
        "  revoked or enrolled after the backup began may be missing here: send it again, revoke it again.\n"
        f"  next: leadglass --site {site} doctor\n"
        f"        leadglass --site {site} device list      is everybody revoked who should be?\n"
        f"        leadglass --site {site} up",
    )  # fmt: skip


def _facts(manifest: Manifest) -> dict[str, object]:
    return {"backup": manifest.number, "of": manifest.site, "began": manifest.began, "files": len(manifest.files),
            "bytes": sum(each.length for each in manifest.files)}  # fmt: skip


def _site_key(kit: Path | None, key: Path | None, passphrase_file: Path | None, shares_file: Path | None) -> SiteKey:
    if (kit is None) == (key is None):
        raise Stopped(
            Exit.USAGE, "what opens the backup?", hint="--kit with the recovery kit, or --key with the site key's file"
        )
    if key is not None:
        return SiteKey.open(f"file:{key.resolve()}", Path("/"))
    assert kit is not None
    directory = kit.parent if kit.is_file() else kit
    if shares_file is not None:
        shares = [line for line in shares_file.read_text().splitlines() if line.strip()]
        return SiteKey.parse(str(open_kit(directory, shares=shares)["site_key"]))
    beside = directory / "passphrase.txt"
    phrase = secret_from(passphrase_file or (beside if beside.exists() else None), "Passphrase of the kit")
    if not phrase:
        raise Stopped(
            Exit.USAGE,
            "the kit's passphrase is needed",
            hint="give it with --passphrase-file, or shares with --shares-file",
        )
    return SiteKey.parse(str(open_kit(directory, passphrase=phrase)["site_key"]))


def _size(count: Any) -> str:
    return f"{int(count) / (1 << 20):.1f} MiB"
