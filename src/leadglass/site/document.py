"""What does a TOML file say, and where? Typed reading of a parsed file that remembers lines, and the problems found on the way."""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leadglass.site.model import Network, Origin
from leadglass.terms import Fault

FILE_LENGTH_MAX_BYTES = 4 << 20
_AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, where, and how to mend it."""

    file: str
    line: int
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}; {self.mend}"


class SiteInvalid(Fault):
    """The site file cannot serve; `problems` says why."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems[:3])), hint="`leadglass check` names every problem")
        self.problems = problems


@dataclass(slots=True)
class Document:
    file: str
    content: Mapping[str, Any]
    lines: Mapping[str, int]

    def line(self, key: str) -> int:
        """Where a dotted key stands; its nearest table where the key itself is not found."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key.rpartition(".")[0]
        return 1


class Reader:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.problems: list[Problem] = []

    def read(self, name: str) -> Document | None:
        path = self._directory / name
        try:
            if path.stat().st_size > FILE_LENGTH_MAX_BYTES:
                self.problem(name, 1, f"larger than {FILE_LENGTH_MAX_BYTES} bytes", "split devices into devices.d")
                return None
            text = path.read_text(encoding="utf-8")
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"line (\d+)", str(error))
            self.problem(name, int(found[1]) if found else 1, f"not TOML: {error}", "mend the syntax")
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.problem(name, 1, f"cannot be read: {error}", "`leadglass init` makes a site; check its permissions")
            return None
        except RecursionError:
            self.problem(name, 1, "nested too deep", "flatten it")
            return None
        return Document(name, content, _key_lines(text))

    def problem(self, file: str, line: int, message: str, mend: str) -> None:
        self.problems.append(Problem(file, line, message, mend))


def _key_lines(text: str) -> dict[str, int]:
    """Dotted key -> line; tables of arrays are numbered (`flows.0.id`). Good enough to point a person at the place."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("[["):
            name = stripped[2 : stripped.find("]]")].strip()
            counts[name] = counts.get(name, -1) + 1
            table = f"{name}.{counts[name]}"
            lines[table] = number
        elif stripped.startswith("["):
            table = stripped[1 : stripped.find("]")].strip().replace('"', "")
            lines[table] = number
        elif (found := re.match(r'"?([A-Za-z0-9_.-]+)"?\s*=', stripped)) is not None:
            lines.setdefault(f"{table}.{found[1]}" if table else found[1], number)
    return lines


@dataclass(slots=True)
class Values:
    """Reads values by dotted key from the current document; what is not as it should be becomes a problem, and the default stands in."""

    reader: Reader
    main: Document
    document: Document = field(init=False)

    def __post_init__(self) -> None:
        self.document = self.main

    def get(self, dotted: str) -> Any:
        found: Any = self.document.content
        for part in _parts(dotted):
            if not isinstance(found, dict) or part not in found:
                return None
            found = found[part]
        return found

    def table(self, dotted: str) -> Mapping[str, Any]:
        found = self.get(dotted)
        if found is None or isinstance(found, dict):
            return found or {}
        self.bad(dotted, f"{dotted} is not a table", f"[{dotted}]")
        return {}

    def tables(self, dotted: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, table in self.table(dotted).items():
            if isinstance(table, dict):
                yield str(name), table
            else:
                self.bad(f"{dotted}.{name}", f"{dotted}.{name} is not a table", f"[{dotted}.{name}]")

    def arrays(self, name: str) -> Iterator[Mapping[str, Any]]:
        found = self.document.content.get(name, [])
        if not isinstance(found, list):
            self.bad(name, f"{name} is not an array of tables", f"[[{name}]]")
            return
        for number, table in enumerate(found):
            if isinstance(table, dict):
                yield table
            else:
                self.bad(name, f"{name} number {number + 1} is not a table", f"[[{name}]]")

    def text(self, dotted: str, default: str) -> str:
        found = self.get(dotted)
        if found is None or isinstance(found, str):
            return default if found is None else found
        self.bad(dotted, f"{dotted} is not text", f'{dotted.rpartition(".")[2]} = "..."')
        return default

    def flag(self, dotted: str, default: bool = False) -> bool:
        found = self.get(dotted)
        if found is None or isinstance(found, bool):
            return default if found is None else found
        self.bad(dotted, f"{dotted} is neither true nor false", "true or false")
        return default

    def number(self, dotted: str, default: int) -> int:
        found = self.get(dotted)
        if found is None or (isinstance(found, int) and not isinstance(found, bool)):
            return default if found is None else found
        self.bad(dotted, f"{dotted} is not a number", "a whole number")
        return default

    def words(self, dotted: str) -> tuple[str, ...]:
        found = self.get(dotted)
        if found is None:
            return ()
        if isinstance(found, str | int):
            return (str(found),)
        if isinstance(found, list) and all(isinstance(each, str | int) for each in found):
            return tuple(map(str, found))
        self.bad(dotted, f"{dotted} is not a list of words", '["one", "two"]')
        return ()

    def networks(self, dotted: str, found: object) -> Iterator[Network]:
        for each in found if isinstance(found, list) else [found]:
            try:
                yield ipaddress.ip_network(each if isinstance(each, str) else "?")
            except ValueError as error:
                self.bad(dotted, f"{each!r} is no network: {error}", "CIDR such as 10.20.1.0/24")

    def listen(self, dotted: str, default: str) -> tuple[str, int]:
        host, _, port = self.text(dotted, default).rpartition(":")
        host = host.strip("[]")
        try:
            ipaddress.ip_address(host)
            number = int(port)
            if not 0 <= number < 65536:
                raise ValueError("no port")
        except ValueError:
            self.bad(
                dotted,
                f"{self.text(dotted, default)!r} is no address to listen on",
                "ADDRESS:PORT, such as 0.0.0.0:2762",
            )
            return "127.0.0.1", 0
        return host, number

    def ae_title(self, dotted: str, title: str) -> None:
        if not _AE_TITLE.fullmatch(title):
            self.bad(
                dotted,
                f"{title!r} is no AE title",
                "1 to 16 printable ASCII characters, no backslash, no space at the ends",
            )

    def unknown_keys(self, document: Document, known: set[str]) -> None:
        patterns = {key: re.compile(re.escape(key).replace(r"\*", r"[^.]+(?:\.[^.]+)*?")) for key in known}
        for dotted, place in _leaves(document.content):
            if not any(pattern.fullmatch(dotted) for pattern in patterns.values()) and not dotted.startswith("roles."):
                mend = nearest(dotted, known)
                self.reader.problem(document.file, document.line(place), f"unknown key {dotted}", mend)

    def bad(self, dotted: str, message: str, mend: str) -> None:
        self.reader.problem(self.document.file, self.document.line(dotted), message, mend)

    def at(self, origin: Origin, message: str, mend: str) -> None:
        self.reader.problem(origin.file, origin.line, message, mend)


def many(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _parts(dotted: str) -> list[str]:
    """`devices.CT.1.zone` names device `CT.1`: only the first and the last part of such a key are fixed."""
    first, _, rest = dotted.partition(".")
    if first in ("devices", "zones") and "." in rest:
        name, _, last = rest.rpartition(".")
        return [first, name, last]
    return [part for part in dotted.split(".") if part]


def _leaves(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key with its path in the form of KEYS, and in the form of the line table."""
    for name, value in content.items():
        if name in ("flows", "tests", "never") and isinstance(value, list):
            for number, table in enumerate(value):
                if isinstance(table, dict):
                    yield from ((f"{name}.{key}", f"{name}.{number}.{key}") for key in table)
        elif isinstance(value, dict) and name in ("devices", "zones"):
            for member, table in value.items():
                if isinstance(table, dict):
                    yield from ((f"{name}.{member}.{key}", f"{name}.{member}.{key}") for key in table)
        elif isinstance(value, dict) and name != "roles":
            yield from _nested(name, value)
        elif not isinstance(value, dict):
            yield name, name


def _nested(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict) and prefix == "doors":
            yield from _nested(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}", f"{prefix}.{key}"


def nearest(word: str, known: set[str] | frozenset[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known)[:12])}"
