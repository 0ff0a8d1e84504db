"""The repository enforces its own taste: budgets, names, words, links, and that nothing lies about unused."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "leadglass"
MODULES = sorted(SOURCE.rglob("*.py"))
TOP = {
    "gateway.py", "terms", "__main__.py", "wire", "site", "identity", "policy", "inspection", "archive", "audit", "assets", "watch",
    "doors", "lab", "__init__.py", "py.typed",
}  # fmt: skip
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
MODULE_LINES_MAX, FUNCTION_LINES_MAX, GATEWAY_LINES_MAX = 500, 60, 150


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_the_tree_shows_the_path() -> None:
    names = {path.name for path in SOURCE.iterdir() if path.name != "__pycache__"}
    assert names <= TOP, f"argue for a new top-level name first: {names - TOP}"
    assert {"gateway.py", "terms", "wire", "site", "identity", "policy", "archive", "audit", "doors", "lab"} <= names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_budgets(path: Path) -> None:
    text = text_of(path)
    assert text.count("\n") <= MODULE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= FUNCTION_LINES_MAX, f"{node.name} is too long"


def test_the_path_fits_one_screen() -> None:
    assert text_of(SOURCE / "gateway.py").count("\n") <= GATEWAY_LINES_MAX


def test_names_say_something() -> None:
    assert not [path for path in MODULES if path.stem in BANNED_NAMES or path.parent.name in BANNED_NAMES]


def test_nothing_is_left_for_later_in_the_source() -> None:
    words = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r"|NotImplementedError")
    found = [f"{path}: {line}" for path in MODULES for line in text_of(path).splitlines() if words.search(line)]
    assert not found


def test_no_registry_is_named() -> None:
    hosts = ("py" + "pi.org", "python" + "hosted.org", "registry." + "npmjs", "deb." + "debian.org", "crates" + ".io")
    found = [
        path
        for path in tracked()
        if path.suffix not in (".png", ".dcm") and any(host in text_of(path) for host in hosts)
    ]
    assert not found
    locks = list(ROOT.glob("requirements*.lock"))
    assert locks and all("http" not in text_of(lock) and "--hash=sha256:" in text_of(lock) for lock in locks)


def test_every_module_is_used() -> None:
    imported = set()
    for path in [*MODULES, *(ROOT / "bench").glob("*.py")]:
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    names = {".".join(("leadglass", *path.relative_to(SOURCE).with_suffix("").parts)) for path in MODULES}
    unused = {name for name in names if name not in imported and not name.endswith(("__init__", "__main__"))}
    assert not unused


def test_links_resolve() -> None:
    broken = []
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(path)):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert not broken


def test_decisions_are_listed() -> None:
    listed = text_of(ROOT / "docs" / "adr" / "README.md")
    assert [path.name for path in (ROOT / "docs" / "adr").glob("0*.md") if path.name not in listed] == []


def test_the_two_commands_exist() -> None:
    readme, makefile = text_of(ROOT / "README.md"), text_of(ROOT / "Makefile")
    for command in ("demo", "test"):
        assert f"make {command}" in readme and re.search(rf"^{command}:", makefile, re.MULTILINE)
