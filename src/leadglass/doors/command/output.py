"""How does a command speak? To a script one JSON object a line, to a person a calm table; problems and hints go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Row = Mapping[str, Any]


class Output:
    """`as_json`: one object a line on stdout, nothing else there."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def object(self, row: Row, text: str) -> None:
        """One fact."""
        if self.as_json:
            print(json.dumps(row, default=str), flush=True)
        else:
            self._console.print(text, markup=False)

    def table(self, rows: Iterable[Row], columns: Mapping[str, str], *, empty: str) -> int:
        """Rows as they come; `columns`: key -> heading. The number of rows."""
        if self.as_json:
            count = 0
            for count, row in enumerate(rows, start=1):  # noqa: B007 - the number is the result
                print(json.dumps(row, default=str), flush=True)
            return count
        known = list(rows)
        if not known:
            self._console.print(empty, markup=False)
            return 0
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in columns.values():
            table.add_column(heading, overflow="fold")
        for row in known:
            table.add_row(*(_cell(row.get(key, "")) for key in columns))
        self._console.print(table)
        return len(known)

    def lines(self, rows: Iterable[Row], render: Any) -> None:
        """An endless stream, a line a row."""
        for row in rows:
            if self.as_json:
                print(json.dumps(row, default=str), flush=True)
            else:
                self._console.print(render(row), markup=False)

    def say(self, text: str) -> None:
        """For a person only."""
        if not self.as_json:
            self._console.print(text, markup=False)

    def problem(self, text: str, hint: str = "") -> None:
        self._errors.print(f"leadglass: {text}", markup=False, style="red" if sys.stderr.isatty() else None)
        if hint:
            self._errors.print(f"  {hint}", markup=False)

    @contextmanager
    def progress(self, title: str) -> Iterator[Any]:
        """A bar for long work: yields `advance(done, total)`; silent for scripts and where stderr is no terminal."""
        if self.as_json or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._errors,
        ) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return "" if value is None else str(value)
