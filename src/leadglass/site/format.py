"""Which version of the layout is this site? One number in `SITE/format`; older ones are migrated step by step, newer ones refused."""

from __future__ import annotations

import os
from pathlib import Path

from leadglass.site.migrations import Migration, pending
from leadglass.site.writer import sync_directory
from leadglass.terms import Fault

FILE = "format"
# Each step takes the site's directory. The first does nothing: it proves the runner.
MIGRATIONS: tuple[Migration[Path], ...] = (Migration(1, "the first layout", lambda site_dir: None),)
CURRENT = MIGRATIONS[-1].number


def write_format(site_dir: Path, number: int = CURRENT) -> None:
    part = site_dir / f".{FILE}.part"
    with part.open("w") as file:
        file.write(f"leadglass site format {number}\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(site_dir / FILE)
    sync_directory(site_dir)


def read_format(site_dir: Path) -> int:
    """0 for a site from before there was a number. Raises Fault."""
    try:
        text = (site_dir / FILE).read_text()
        return int(text.rsplit(" ", 1)[-1])
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise Fault(f"{FILE} is damaged", hint="restore it from a backup") from error


def migrate(site_dir: Path) -> int:
    """Brings the layout up to date, a step at a time, each durable before the next: how many steps. Raises Fault for a newer site."""
    steps = pending("site", read_format(site_dir), MIGRATIONS)
    for step in steps:
        step.run(site_dir)
        write_format(site_dir, step.number)
    return len(steps)
