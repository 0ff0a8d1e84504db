"""Tables of the kernel by the program `nft`: examined, exchanged in one transaction, listed."""

from __future__ import annotations

import shutil
import subprocess

SECONDS_MAX = 30.0
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SAID_CHARACTERS_MAX = 300


class NftFault(Exception):
    """There is no nft, it may not, or it refused; in its own words."""


def load(text: str) -> None:
    """All of it or nothing: examined first (`nft -c`), then exchanged. Raises NftFault."""
    _run("-c", "-f", "-", given=text)
    _run("-f", "-", given=text)


def listing() -> str:
    """Every table of this network namespace, in nft's JSON. Raises NftFault."""
    return _run("-j", "list", "ruleset")


def _run(*words: str, given: str = "") -> str:
    program = shutil.which("nft", path=PATH)
    if program is None:
        raise NftFault("nft is not installed (apt install nftables)")
    try:
        done = subprocess.run(  # noqa: S603 - the words are ours, and no shell reads them
            [program, *words], input=given, capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NftFault(f"nft: {error}") from error
    if done.returncode != 0:
        raise NftFault(f"nft: {' '.join(done.stderr.split())[:_SAID_CHARACTERS_MAX]}")
    return done.stdout
