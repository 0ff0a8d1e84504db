"""The source keeps its shape: names, budgets, import direction, and nothing that lies about unused."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.tidy.repository import MODULES, ROOT, SOURCE, module_name, text_of, tracked

TOP = {
    "gateway.py", "terms", "__main__.py", "wire", "site", "identity", "policy", "inspection", "archive", "audit", "assets", "watch",
    "doors", "lab", "__init__.py", "py.typed",
}  # fmt: skip
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "shared"}
MODULE_LINES_MAX, FUNCTION_LINES_MAX, GATEWAY_LINES_MAX = 500, 60, 150
PURE = ("leadglass.wire", "leadglass.terms", "leadglass.policy.decide", "leadglass.audit.ledger")
CLOCK_OR_CHANCE = {"now", "utcnow", "today", "urandom", "token_bytes", "uuid1", "uuid4"}

relative = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))


def test_the_tree_shows_the_path() -> None:
    names = {path.relative_to(SOURCE).parts[0] for path in tracked() if path.is_relative_to(SOURCE)}
    assert names <= TOP, f"argue for a new top-level name first: {names - TOP}"
    assert not TOP - names, "a step of the path is missing"


@relative
def test_budgets(path: Path) -> None:
    text = text_of(path)
    assert text.count("\n") <= MODULE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno + 1 <= FUNCTION_LINES_MAX, f"{node.name} is too long"


def test_the_path_fits_one_screen() -> None:
    assert text_of(SOURCE / "gateway.py").count("\n") <= GATEWAY_LINES_MAX


@relative
def test_a_module_says_its_question(path: Path) -> None:
    assert ast.get_docstring(ast.parse(text_of(path))) or not text_of(path).strip()


def test_names_say_something() -> None:
    assert not [path for path in MODULES if path.stem in BANNED_NAMES or path.parent.name in BANNED_NAMES]


@relative
def test_every_module_imports(path: Path) -> None:
    assert importlib.import_module(module_name(path)).__name__ == module_name(path)


def imports_of(path: Path) -> Iterator[str]:
    """Every name that a module may load: `from a import b` can mean the module a or the module a.b."""
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# `wire/` is a library that could stand alone; the DICOM JSON Model is complete and tested before the web door that will speak it.
LIBRARY = {"leadglass.wire.dicomjson"}


def test_every_module_is_used() -> None:
    used = {name for path in MODULES for name in imports_of(path) if name != module_name(path)}
    modules = {module_name(path) for path in MODULES if path.stem not in ("__init__", "__main__")}
    assert not modules - used - LIBRARY


def test_product_code_never_imports_the_oracles() -> None:
    oracles = ("pydicom", "pynetdicom", "tests", "pytest", "hypothesis", "z3")
    found = [
        f"{module_name(path)} imports {name}"
        for path in MODULES
        if not path.is_relative_to(SOURCE / "lab")
        for name in imports_of(path)
        if name.partition(".")[0] in oracles
    ]
    assert not found


def test_product_code_imports_only_what_it_declares() -> None:
    """What another package happens to bring along is missing where only the runtime lock is installed."""
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    declared = {canonicalize_name(Requirement(each).name) for each in project["dependencies"]}
    for_the_lab = {canonicalize_name(Requirement(each).name) for each in project["optional-dependencies"]["demo"]}
    owners = packages_distributions()
    found = [
        f"{module_name(path)} imports {name}"
        for path in MODULES
        for name in imports_of(path)
        if (top := name.partition(".")[0]) != "leadglass" and top not in sys.stdlib_module_names
        if not {canonicalize_name(owner) for owner in owners.get(top, [])}
        & (declared | for_the_lab if path.is_relative_to(SOURCE / "lab") else declared)
    ]
    assert not found


def test_pure_cores_take_time_and_chance_as_arguments() -> None:
    """The import contract keeps modules out; `datetime` must stay in, so its clock is looked for by name."""
    found = [
        f"{module_name(path)}:{node.lineno} calls {node.func.attr}"
        for path in MODULES
        if module_name(path).startswith(PURE)
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_OR_CHANCE
    ]
    assert not found


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
