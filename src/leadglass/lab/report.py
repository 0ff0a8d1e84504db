"""How does the lab tell what happened? A short report for a person at a terminal, plain where nobody watches, with a bar for what takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

LABEL_WIDTH = 11


class Report:
    """Facts as they come. `broken`: what was not as promised."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self.broken: list[str] = []

    def title(self, text: str) -> None:
        self._console.print(f"\n[bold]{text}[/bold]\n")

    def fact(self, label: str, text: str) -> None:
        self._console.print(f"  [dim]{label:<{LABEL_WIDTH}}[/dim]", end="")
        self._console.print(text, markup=False)

    def check(self, label: str, text: str, *, holds: bool) -> bool:
        """A fact that was promised."""
        if holds:
            self.fact(label, text)
        else:
            self.broken.append(f"{label}: {text}")
            self._console.print(f"  [red]{label:<{LABEL_WIDTH}}[/red]", end="")
            self._console.print(f"{text}  (not as promised)", markup=False)
        return holds

    def attack(self, number: int, title: str, heard: str, reason: str, *, refused: bool) -> None:
        """What was tried, what the attacker heard, and what the operator reads in `leadglass events`."""
        mark = "[green]refused[/green]" if refused else "[red]NOT refused as promised[/red]"
        self._console.print(f"  {number}  [bold]{title}[/bold]  {mark}")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
        table.add_column(min_width=5)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row("", "the attacker hears", heard)
        table.add_row("", "the operator reads", reason or "nothing")
        self._console.print(table, soft_wrap=False)
        if not refused:
            self.broken.append(f"attack {number}, {title}: heard {heard!r}, recorded {reason!r}")

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def verdict(self) -> int:
        """The last line, and the exit code."""
        if not self.broken:
            self._console.print("\n  [green]Everything as promised.[/green]")
            return 0
        self._console.print("\n  [red]Not as promised:[/red]")
        for each in self.broken:
            self._console.print(f"    {each}", markup=False)
        return 1

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar that goes away when its work is done; nothing where the output is no terminal."""
        with Progress(
            TextColumn(f"  {title:<{LABEL_WIDTH}}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)
