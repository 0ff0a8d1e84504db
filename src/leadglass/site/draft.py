"""How would the site file read with less in it? Edits of its text that leave every other word, comment and line where a person put it.

Nothing is written here. Each edit is checked: the text is parsed again and must say exactly what was meant, and nothing else; where somebody
wrote it in a way that is not understood, the edit is left to a person.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from leadglass.site.model import Flow, Site
from leadglass.wire.uids import keyword_of_class

LINE_CHARACTERS_MAX = 120
_WORD = r'"[^"\\\n]*"'
_WHOLE = re.compile(  # an assignment that ends where its line does: most do, and need no parser
    rf"""\s*[A-Za-z0-9_-]+\s*=\s*(?:{_WORD}|true|false|\d+|\[\s*(?:{_WORD}\s*(?:,\s*)?)*\])\s*(?:\#.*)?"""
)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Flows in the place of one; none: it goes. They differ from it in id, sources, may, SOP classes and destinations alone."""

    flow: str
    into: tuple[Flow, ...]


@dataclass(frozen=True, slots=True)
class Disable:
    """A device is kept out."""

    device: str


@dataclass(frozen=True, slots=True)
class Drop:
    """A service goes."""

    service: str


Edit = Rewrite | Disable | Drop


class ByHand(Exception):
    """The text is written in a way that this does not understand."""


def edited(site: Site, edits: Iterable[Edit]) -> Site:
    """The site with all of them: what the text must say."""
    rewrites = {each.flow: each.into for each in edits if isinstance(each, Rewrite)}
    off = {each.device for each in edits if isinstance(each, Disable)}
    gone = {each.service for each in edits if isinstance(each, Drop)}
    return replace(
        site,
        flows=tuple(new for flow in site.flows for new in rewrites.get(flow.id, (flow,))),
        devices={name: replace(each, enabled=False) if name in off else each for name, each in site.devices.items()},
        services={name: each for name, each in site.services.items() if name not in gone},
    )


def draft(files: Mapping[str, str], site: Site, edits: Sequence[Edit]) -> tuple[dict[str, str], tuple[Edit, ...]]:
    """`files`: text by name, as `site` was read from them. The texts with the edits, and which edits are left to a person."""
    texts, left = dict(files), list[Edit]()
    said = {name: tomllib.loads(text) for name, text in texts.items()}
    for edit in edits:
        try:
            name = _where(said, site, edit)
            texts[name], said[name] = _with(texts[name], said[name], site, edit)
        except ByHand:
            left.append(edit)
    return texts, tuple(left)


def _where(said: Mapping[str, Mapping[str, Any]], site: Site, edit: Edit) -> str:
    """The file that an edit is about. Raises ByHand."""
    if isinstance(edit, Rewrite):
        found = [flow.origin.file for flow in site.flows if flow.id == edit.flow]
    elif isinstance(edit, Disable):
        found = [name for name, content in said.items() if edit.device in content.get("devices", {})]
    else:
        found = [name for name, content in said.items() if edit.service in content.get("services", {})]
    if len(found) != 1 or found[0] not in said:
        raise ByHand
    return found[0]


def _with(text: str, said: Mapping[str, Any], site: Site, edit: Edit) -> tuple[str, dict[str, Any]]:
    """The text, and what it says. `said`: what it said before. Raises ByHand."""
    wanted = copy.deepcopy(dict(said))
    lines = text.split("\n")
    if isinstance(edit, Rewrite):
        (flow,) = (each for each in site.flows if each.id == edit.flow)
        at = next((n for n, each in enumerate(wanted.get("flows", ())) if each.get("id") == flow.id), -1)
        tables = _headers(lines, "flows", array=True)
        if not 0 <= at < len(tables):
            raise ByHand
        changes = [_changes(flow, new) for new in edit.into]
        wanted["flows"][at : at + 1] = [_changed(wanted["flows"][at], each) for each in changes]
        if not wanted["flows"]:
            del wanted["flows"]
        lines = _rewritten(lines, tables[at], changes)
    elif isinstance(edit, Disable):
        wanted["devices"][edit.device]["enabled"] = False
        lines = _assigned(lines, _table(lines, "devices", edit.device), {"enabled": False})
    else:
        del wanted["services"][edit.service]
        lines = _without(lines, _table(lines, "services"), edit.service)
    after = "\n".join(lines)
    try:
        exact = tomllib.loads(after) == wanted
    except tomllib.TOMLDecodeError:
        exact = False
    if not exact:
        raise ByHand
    return after, wanted


def _changes(old: Flow, new: Flow) -> dict[str, Any]:
    """By key of the file, what the new one says otherwise."""
    said = {
        "id": (old.id, new.id),
        "from": (list(old.sources), list(new.sources)),
        "may": (sorted([*old.may, *old.reserved]), sorted([*new.may, *new.reserved])),
        "sop_classes": (_classes(old), _classes(new)),
        "destinations": (_sorted(old.destinations), _sorted(new.destinations)),
    }
    return {key: after for key, (before, after) in said.items() if before != after}


def _classes(flow: Flow) -> list[str] | None:
    return sorted(map(keyword_of_class, flow.sop_classes)) if flow.sop_classes is not None else None


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return sorted(names) if names is not None else None


def _changed(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {**copy.deepcopy(dict(table)), **changes}


# ---- lines


def _headers(lines: Sequence[str], name: str, *, array: bool) -> list[int]:
    """Where each table of that name begins."""
    ends = ("[[", "]]") if array else ("[", "]")
    return [n for n, header in _tables(lines) if header == f"{ends[0]}{name}{ends[1]}"]


def _table(lines: Sequence[str], *names: str) -> int:
    """Raises ByHand."""
    spelled = {f"[{'.'.join(each)}]" for each in ((names[0], *rest) for rest in _spellings(names[1:]))}
    found = [n for n, header in _tables(lines) if header in spelled]
    if len(found) != 1:
        raise ByHand
    return found[0]


def _spellings(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    yield tuple(names)
    yield tuple(f'"{each}"' for each in names)


def _tables(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Every header, without blanks and comment; what stands inside of a value is none."""
    at = 0
    while at < len(lines):
        found = re.match(r"(\[\[?)\s*([^\[\]#]+?)\s*(\]\]?)\s*(?:#.*)?$", lines[at].strip())
        if found is not None:
            yield at, "".join(found.groups())
            at += 1
        else:
            at = _past(lines, at)


def _past(lines: Sequence[str], at: int) -> int:
    """The line after the assignment, blank or comment that begins here. Raises ByHand."""
    if not lines[at].strip() or lines[at].lstrip().startswith("#") or _WHOLE.fullmatch(lines[at]):
        return at + 1
    for end in range(at + 1, len(lines) + 1):
        try:
            tomllib.loads("\n".join(lines[at:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    raise ByHand


def _assignments(lines: Sequence[str], header: int) -> Iterator[tuple[str, int, int]]:
    """Key, first line and the one after the last, of a table. Raises ByHand."""
    at = header + 1
    while at < len(lines) and not lines[at].lstrip().startswith("["):
        end = _past(lines, at)
        keys = list(tomllib.loads("\n".join(lines[at:end])))
        if keys:
            yield keys[0], at, end
        at = end


def _assigned(lines: Sequence[str], header: int, changes: Mapping[str, Any]) -> list[str]:
    """With these keys of a table saying that; new ones stand behind `may`, or at its end."""
    found = list(lines)
    for key, value in changes.items():
        places = {name: (first, end) for name, first, end in _assignments(found, header)}
        text = _text(key, value)
        if key in places:
            first, end = places[key]
            found[first:end] = text
        else:
            behind = places["may"][1] if "may" in places else max([header + 1, *(end for _, end in places.values())])
            found[behind:behind] = text
    return found


def _rewritten(lines: Sequence[str], header: int, changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The block once for each; what stood behind it stays."""
    end = max([header + 1, *(last for _, _, last in _assignments(lines, header))])
    block = list(lines[header:end])
    blocks: list[str] = []
    for each in changes:
        blocks += [*([""] if blocks else []), *_assigned(block, 0, each)]
    rest = list(lines[end:])
    while not blocks and rest and not rest[0].strip() and header and not lines[header - 1].strip():
        rest = rest[1:]  # one blank line is enough
    return [*lines[:header], *blocks, *rest]


def _without(lines: Sequence[str], header: int, key: str) -> list[str]:
    for name, first, end in _assignments(lines, header):
        if name == key:
            return [*lines[:first], *lines[end:]]
    raise ByHand


def _text(key: str, value: Any) -> list[str]:
    """An assignment in TOML, whose strings and lists are JSON's for what stands in them here."""
    if not isinstance(value, list):
        return [f"{key} = {json.dumps(value)}"]
    line = f"{key} = {json.dumps(value)}"
    if len(line) <= LINE_CHARACTERS_MAX:
        return [line]
    return [f"{key} = [", *(f"    {json.dumps(each)}," for each in value), "]"]
