"""Where is what the tidy tests look at?"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "leadglass"
MODULES = sorted(SOURCE.rglob("*.py"))
_NOT_TEXT = {".png", ".dcm", ".gz"}


def tracked() -> list[Path]:
    """Every file that is in the repository or would be with the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in sorted(filter(None, listed.stdout.split("\0"))) if (ROOT / name).is_file()]


def texts(*suffixes: str) -> list[tuple[str, str]]:
    """Name from the root and content of each text file, of those with one of the suffixes where any is given."""
    return [
        (str(path.relative_to(ROOT)), text_of(path))
        for path in tracked()
        if path.suffix not in _NOT_TEXT and (not suffixes or path.suffix in suffixes)
    ]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def module_name(path: Path) -> str:
    parts = ("leadglass", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
