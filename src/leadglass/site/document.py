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
DEPTH_MAX_LEVELS = 8
VALUES_MAX = 500_000
PROBLEMS_MAX = 200  # what a person can read; the rest is counted
MESSAGE_LENGTH_MAX_CHARACTERS = 500
SUGGESTED_LENGTH_MAX_CHARACTERS = 64
AE_TITLE_MEND = "1 to 16 printable ASCII characters, no backslash, no space at the ends"  # PS3.5 6.2, AE
AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
_INTEGERS = range(-(1 << 63), 1 << 63)  # what TOML promises
_ARRAYS = ("flows", "tests", "never")
_OF_TABLES = ("doors", "notices")  # whose keys are tables of fixed names
_NAMED = (
    "devices",
    "zones",
    "services",
    "roles",
    "providers",
    "directories",
)  # tables whose next key is a name that a person chose


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

    def origin(self, key: str) -> Origin:
        return Origin(self.file, self.line(key))


class Reader:
    """Reads the files of one directory, bounded, and gathers what is wrong with them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._problems: list[Problem] = []
        self._more = 0

    @property
    def full(self) -> bool:
        """True where nobody would read another problem."""
        return len(self._problems) >= PROBLEMS_MAX

    def problems(self) -> tuple[Problem, ...]:
        """By file and line; what was left out is counted at the end."""
        found = sorted(self._problems, key=lambda each: (each.file, each.line))
        if self._more:
            last = found[-1]
            found.append(Problem(last.file, last.line, f"and {self._more} more problems", "mend these first"))
        return tuple(found)

    def problem(self, file: str, line: int, message: str, mend: str) -> None:
        found = Problem(file, line, _printable(message), _printable(mend))
        if self.full:
            self._more += 1
        elif found not in self._problems:
            self._problems.append(found)

    def read(self, name: str) -> Document | None:
        """One file; None where it cannot be used, and a problem that says why."""
        try:
            with (self._directory / name).open("rb") as file:
                content = file.read(FILE_LENGTH_MAX_BYTES + 1)
        except OSError as error:
            self.problem(
                name,
                1,
                f"cannot be read: {error}",
                "`leadglass init` makes a site; of one that serves state/proven/current has a copy",
            )
            return None
        if len(content) > FILE_LENGTH_MAX_BYTES:
            self.problem(name, 1, f"larger than {FILE_LENGTH_MAX_BYTES} bytes", "split devices into devices.d")
            return None
        try:
            text = content.decode()
            document = Document(name, tomllib.loads(text), _key_lines(text))
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.problem(name, line, "not UTF-8", "save it as UTF-8")
        except ValueError as error:  # TOMLDecodeError, and numbers that Python does not convert
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            self.problem(name, line, f"not TOML: {error}", "mend the syntax")
        except RecursionError:
            self.problem(name, 1, "nested too deep", "flatten it")
        else:
            return document if self._bearable(document) else None
        return None

    def _bearable(self, document: Document) -> bool:
        """Depth, number of values and integers within bounds; secrets named where they stand."""
        waiting: list[tuple[str, Any, int]] = [("", document.content, 0)]
        count = 0
        while waiting:
            where, value, depth = waiting.pop()
            count += 1
            if depth > DEPTH_MAX_LEVELS or count > VALUES_MAX:
                self.problem(
                    document.file, document.line(where), "nested too deep, or too long", "flatten it, split it"
                )
                return False
            if isinstance(value, int) and value not in _INTEGERS:
                self.problem(document.file, document.line(where), f"{where} is no 64-bit number", "a smaller number")
                return False
            if isinstance(value, str) and (secret := _secret(value)):
                mend = "keep it in a file of its own and name that: file:PATH or credential:NAME"
                self.problem(document.file, document.line(where), f"{where} holds {secret} in clear", mend)
            elif isinstance(value, dict):
                waiting += ((f"{where}.{key}" if where else key, each, depth + 1) for key, each in value.items())
            elif isinstance(value, list):
                waiting += ((f"{where}.{number}", each, depth + 1) for number, each in enumerate(value))
        return True


def _printable(text: str) -> str:
    """Keys and names come from the file: they neither flood nor steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:MESSAGE_LENGTH_MAX_CHARACTERS])


def _secret(text: str) -> str:
    """What secret a text holds, "" where none can be seen."""
    if "PRIVATE KEY-----" in text:
        return "a private key"
    if re.search(r"://[^/@\s:]*:[^/@\s]+@", text):
        return "a password"
    return ""


def _key_lines(text: str) -> dict[str, int]:
    """Dotted key -> line; tables of arrays are numbered (`flows.0.id`). Good enough to point a person at the place."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        if stripped.startswith("[["):
            name = stripped[2 : stripped.find("]]")].strip()
            counts[name] = counts.get(name, -1) + 1
            table = f"{name}.{counts[name]}"
            lines[table] = number
        elif stripped.startswith("["):
            table = stripped[1 : stripped.find("]")].strip().replace('"', "")
            lines.setdefault(table, number)
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
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                return None
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
                yield name, table
            else:
                self.bad(f"{dotted}.{name}", f"{dotted}.{name} is not a table", f"[{dotted}.{name}]")

    def arrays(self, name: str) -> Iterator[str]:
        """The dotted key of each table of an array: `flows.0`, `flows.1`."""
        found = self.document.content.get(name, [])
        if not isinstance(found, list):
            self.bad(name, f"{name} is not an array of tables", f"[[{name}]]")
            return
        for number, table in enumerate(found):
            if isinstance(table, dict):
                yield f"{name}.{number}"
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
        self.bad(dotted, f"{dotted} is neither true nor false", "true or false, without quotes")
        return default

    def number(self, dotted: str, default: int) -> int:
        found = self.get(dotted)
        if found is None or (isinstance(found, int) and not isinstance(found, bool)):
            return default if found is None else found
        self.bad(dotted, f"{dotted} is not a number", "a whole number")
        return default

    def words(self, dotted: str, *, numbers: bool = False) -> tuple[str, ...]:
        """A list of texts, or a single one. `numbers`: whole numbers will do too."""
        found = self.get(dotted)
        if found is None:
            return ()
        listed = found if isinstance(found, list) else [found]
        if all(isinstance(each, str) or (numbers and type(each) is int) for each in listed):
            return tuple(map(str, listed))
        self.bad(dotted, f"{dotted} is not a list of words", '["one", "two"]')
        return ()

    def networks(self, dotted: str) -> Iterator[Network]:
        for word in self.words(dotted):
            try:
                yield ipaddress.ip_network(word)
            except ValueError as error:
                self.bad(dotted, f"{word[:64]!r} is no network: {error}", "CIDR such as 10.20.1.0/24")

    def listen(self, dotted: str, default: str) -> tuple[str, int]:
        text = self.text(dotted, default)
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            ipaddress.ip_address(host)
            if not (port.isascii() and port.isdecimal() and int(port) < 65536):
                raise ValueError("no port")
        except ValueError:
            self.bad(dotted, f"{text[:64]!r} is no address to listen on", "ADDRESS:PORT, such as 0.0.0.0:2762")
            return "127.0.0.1", 0
        return host, int(port)

    def ae_title(self, dotted: str, title: str) -> None:
        if not AE_TITLE.fullmatch(title):
            self.bad(dotted, f"{title[:64]!r} is no AE title", AE_TITLE_MEND)

    def unknown_keys(self, document: Document, known: frozenset[str]) -> None:
        """`known`: keys in the form of KEYS, with `*` where a person chose the name."""
        for form, place in _leaves(document.content):
            if form not in known:
                mend = "" if self.reader.full else nearest(form, known)
                self.reader.problem(document.file, document.line(place), f"unknown key {place_name(place)}", mend)

    def bad(self, dotted: str, message: str, mend: str) -> None:
        self.reader.problem(self.document.file, self.document.line(dotted), message, mend)

    def at(self, origin: Origin, message: str, mend: str) -> None:
        self.reader.problem(origin.file, origin.line, message, mend)


def place_name(place: str) -> str:
    """`flows.0.id` is `flows.id` to a person: the line says which."""
    first, _, rest = place.partition(".")
    return f"{first}.{rest.partition('.')[2]}" if first in _ARRAYS and "." in rest else place


def _parts(dotted: str) -> list[str]:
    """`devices.CT.1.zone` names device `CT.1`: only the first and the last part of such a key are fixed."""
    first, _, rest = dotted.partition(".")
    if first in ("devices", "zones", "providers", "directories") and "." in rest:
        name, _, last = rest.rpartition(".")
        return [first, name, last]
    if first == "services" and rest:
        return [first, rest]
    return dotted.split(".")


def _leaves(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key in the form of KEYS, and in the form of the line table."""
    for name, value in content.items():
        if name in _ARRAYS and isinstance(value, list):
            for number, table in enumerate(value):
                if isinstance(table, dict):
                    yield from ((f"{name}.{key}", f"{name}.{number}.{key}") for key in table)
        elif name in ("services", "roles") and isinstance(value, dict):
            yield from ((f"{name}.*", f"{name}.{key}") for key in value)
        elif name in _NAMED and isinstance(value, dict):
            for member, table in value.items():
                if isinstance(table, dict):
                    yield from ((f"{name}.*.{key}", f"{name}.{member}.{key}") for key in table)
        elif isinstance(value, dict):
            yield from _nested(name, value)
        else:
            yield name, name


def _nested(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict) and prefix in _OF_TABLES:
            yield from _nested(f"{prefix}.{key}", value)
        else:
            yield f"{prefix}.{key}", f"{prefix}.{key}"


def nearest(word: str, known: set[str] | frozenset[str]) -> str:
    """What was meant, or what there is."""
    near = difflib.get_close_matches(word[:SUGGESTED_LENGTH_MAX_CHARACTERS], known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(sorted(known)[:12])}" if known else "there are none yet"
