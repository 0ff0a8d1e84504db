"""How does a backup become a site again? Into an empty place, every digest checked on the way; what does not hold is named, and nothing is left.

  1  policy     First the small files: they name where segments lie and where the site key belongs.
  2  the rest   Segments, journals, keyrings, register, each to the length that the manifest says.
  3  keys       The site key goes to where the site file says.
  4  the name   `leadglass.toml` comes last: a place that a crash left half is no site.

What follows is a start after a crash: recovery cuts torn tails, tells what the journals lack and makes the index. Writers are new ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from leadglass.archive.backup import OBJECTS, REGISTER
from leadglass.archive.copying import Planned, copy, reading_file
from leadglass.archive.manifest import Advance, Entry, Manifest, durably, pieces, problem, sealing
from leadglass.audit.journal.ends import Ends
from leadglass.site.layout import DIRECTORIES, KEYS_DIRECTORY
from leadglass.site.load import SITE_FILE
from leadglass.site.model import Site
from leadglass.site.sitekey import SiteKey, unseal
from leadglass.site.write import PROVEN_DIRECTORY, load_proven
from leadglass.site.writer import DIRECTORY, sync_directory
from leadglass.terms import Fault, KeyFault, NotChanged, StoreFault

DAMAGES_NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class Restored:
    """`key`: where the site key lies now; `key_reference`: how the site file names it."""

    site_dir: Path
    key: Path
    key_reference: str


def restore(
    directory: Path, manifest: Manifest, site_key: SiteKey, site_dir: Path, *, key_out: Path | None, advance: Advance
) -> Restored:
    """The files of a site. `key_out`: where the site key goes if the site file names no file.

    Raises NotChanged where it may not be there, StoreFault that names what is damaged; what was begun is removed then.
    """
    if directory.resolve() in (site_dir.resolve(), *site_dir.resolve().parents):
        raise NotChanged(f"{site_dir} lies in the backup: name a place beside it")
    _refuse_full(site_dir, "a site is never restored over another")
    with contextlib.ExitStack() as begun:
        _made_anew(begun, site_dir)
        restored = _Restoring(directory, manifest, site_key, site_dir, advance).run(begun, key_out)
        begun.pop_all()  # it is whole: nothing is removed
    return restored


class _Restoring:
    def __init__(
        self, directory: Path, manifest: Manifest, site_key: SiteKey, site_dir: Path, advance: Advance
    ) -> None:
        self._directory, self._manifest, self._site_key, self._site_dir = directory, manifest, site_key, site_dir
        self._advance = advance
        self._damages: list[str] = []
        self._made: set[Path] = set()

    def run(self, begun: contextlib.ExitStack, key_out: Path | None) -> Restored:
        for name in DIRECTORIES:
            (self._site_dir / name).mkdir(mode=0o700, exist_ok=True)
        small = [each for each in self._manifest.files if each.sealed]
        for entry in small:  # 1
            if entry.path != SITE_FILE:
                self._open(entry)
        self._refuse_damage()
        (self._site_dir / PROVEN_DIRECTORY / "current").symlink_to(self._manifest.proven)
        site = load_proven(self._site_dir)
        objects = self._objects(site, begun)
        self._refuse_index(site)
        self._check_room(objects)
        for entry in self._manifest.files:  # 2
            if not entry.sealed:
                self._copy(entry, self._target(entry, objects))
        self._refuse_damage()
        for writer, copied in self._manifest.writers.items():
            if copied.sealed:
                self._durably(self._site_dir / DIRECTORY / bytes.fromhex(writer).hex() / "sealed", b"", 0o600)
        key = self._place_key(site.key, key_out, begun)  # 3
        for made in sorted(self._made):
            sync_directory(made)
        Ends(self._site_dir, self._site_key).note({})  # how far the journals came begins anew with what the backup has
        self._open(next(each for each in small if each.path == SITE_FILE))  # 4
        self._refuse_damage()
        return Restored(self._site_dir, key, site.key)

    def _open(self, entry: Entry) -> None:
        found = problem(self._directory, entry, self._advance)
        if found:
            self._damages.append(found)
            return
        sealed = b"".join(bytes(piece) for piece in pieces(self._directory / entry.at, entry.length))
        key, context = sealing(self._site_key, entry.path)
        self._durably(self._site_dir / entry.path, unseal(key, sealed, context), entry.mode)

    def _durably(self, path: Path, content: bytes, mode: int) -> None:
        self._folder(path.parent)
        durably(path, content, mode)

    def _folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._made.update((folder, folder.parent))

    def _copy(self, entry: Entry, target: Path) -> None:
        self._folder(target.parent)
        source = self._directory / entry.at
        with contextlib.suppress(OSError):
            length, digest = copy(Planned(entry.path, entry.length, True, reading_file(source)), target, self._advance)
            if length == entry.length and digest == entry.sha256:
                target.chmod(entry.mode)
                return
        self._damages.append(problem(self._directory, entry) or f"{entry.at}: it cannot be copied to {target}")

    def _target(self, entry: Entry, objects: Path) -> Path:
        folder, _, name = entry.path.partition("/")
        if folder == OBJECTS:
            return objects / name
        if folder != DIRECTORY and entry.path != REGISTER:
            raise StoreFault(f"{entry.path} has no place in a site", hint="upgrade the program")
        return self._site_dir / entry.path

    def _refuse_damage(self) -> None:
        if self._damages:
            named = "; ".join(self._damages[:DAMAGES_NAMED_MAX])
            more = len(self._damages) - DAMAGES_NAMED_MAX
            raise StoreFault(
                f"the backup is damaged, nothing was restored: {named}" + (f"; and {more} more" if more > 0 else ""),
                hint="restore another backup, or put the named files back from another copy of this one",
            )

    # ---- what the site file says

    def _objects(self, site: Site, begun: contextlib.ExitStack) -> Path:
        parts = urlsplit(site.objects)
        if parts.scheme != "file":
            raise Fault(f"no restore into {parts.scheme}:", hint="a restore writes segments into a directory")
        objects = self._site_dir / parts.path
        if not objects.is_relative_to(self._site_dir):
            _refuse_full(objects, "[site] objects names it, and segments of a living site may be in it")
            _made_anew(begun, objects)
        self._folder(objects)
        return objects

    def _refuse_index(self, site: Site) -> None:
        index = self._site_dir / site.index.partition(":")[2]
        if not index.is_relative_to(self._site_dir) and any(index.parent.glob(f"{index.name}*")):
            raise NotChanged(f"{index} is there already, and may be a living site's: move it away, it is derived")

    def _check_room(self, objects: Path) -> None:
        needed = sum(each.length for each in self._manifest.files)
        free = shutil.disk_usage(objects).free
        if needed > free:
            raise StoreFault(
                f"the site needs {needed >> 20} MiB, and {objects} has {free >> 20} MiB free", hint="make room there"
            )

    def _place_key(self, reference: str, key_out: Path | None, begun: contextlib.ExitStack) -> Path:
        scheme, _, name = reference.partition(":")
        if scheme == "file":
            path = self._site_dir / name.removeprefix("//")
        elif key_out is not None:
            path = key_out
        else:
            raise KeyFault(
                f"the site file says {reference}, which is no file",
                hint="name where the site key goes with --key-out FILE",
            )
        if path.exists():
            if SiteKey.parse(path.read_text()).text() != self._site_key.text():
                raise KeyFault(f"{path} is another site's key", hint="move it away first, if nothing needs it there")
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        begun.callback(lambda: path.unlink(missing_ok=True))
        durably(path, (self._site_key.text() + "\n").encode())
        return path


def _refuse_full(place: Path, why: str) -> None:
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise NotChanged(f"{place} is not empty: {why}")


def _made_anew(begun: contextlib.ExitStack, place: Path) -> None:
    """Made, if need be; emptied again where what is begun does not end well."""
    existed = place.exists()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def undo() -> None:
        for each in list(place.iterdir()):
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
        if not existed:
            place.rmdir()

    begun.callback(undo)


@contextlib.contextmanager
def credential(restored: Restored) -> Iterator[None]:
    """A site whose key comes from systemd finds it, for the time of the block, where the restore put it."""
    scheme, _, name = restored.key_reference.partition(":")
    if scheme != "credential":
        yield
        return
    folder = restored.site_dir / KEYS_DIRECTORY / ".credentials"
    folder.mkdir(mode=0o700, exist_ok=True)
    before = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        (folder / name).symlink_to(restored.key.resolve())
        os.environ["CREDENTIALS_DIRECTORY"] = str(folder)
        yield
    finally:
        shutil.rmtree(folder)
        if before is None:
            del os.environ["CREDENTIALS_DIRECTORY"]
        else:
            os.environ["CREDENTIALS_DIRECTORY"] = before
