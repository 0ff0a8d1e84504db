"""Who takes part: devices that were enrolled, the archive that they call, and the processes that must live through whatever is tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from leadglass.lab.peers import Archive, Identity
from tests.running import RunningSite


def who(site: RunningSite, name: str, **changes: object) -> Identity:
    """An enrolled device with its own stick, but for what is changed about it."""
    return dataclasses.replace(Identity(name, "127.0.0.1", site.bundles[name].directory), **changes)  # type: ignore[arg-type]


def archive(site: RunningSite) -> Archive:
    return Archive("127.0.0.1", site.port)


@contextmanager
def same_processes(site: RunningSite) -> Iterator[None]:
    """None of the site's processes dies within the block."""
    assert site.process is not None
    before = site.children(site.process.pid)
    yield
    assert site.children(site.process.pid) == before, "a process died"
