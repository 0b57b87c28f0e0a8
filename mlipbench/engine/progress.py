"""What runs where, and how long is left? A live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mlipbench.engine.schedule import Standing, seconds_left

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

QUIET_S: Final = 15.0


@contextmanager
def shown(console: Console, slots: int) -> Iterator[Callable[[Standing, str], None]]:
    """Show a run while it goes on; yields what `schedule.run` calls."""
    if console.is_terminal:
        with _live(console, slots) as watch:
            yield watch
    else:
        yield _Lines(console, slots)


@contextmanager
def _live(console: Console, slots: int) -> Iterator[Callable[[Standing, str], None]]:
    """A table that is drawn anew."""
    from rich.live import Live

    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def watch(standing: Standing, news: str) -> None:
            if news:
                live.console.print(_numbered(standing, news), highlight=False, markup=False)
            live.update(_table(standing, slots))

        yield watch


class _Lines:
    """One line for each job that ends, and one now and then while a long one runs."""

    def __init__(self, console: Console, slots: int) -> None:
        self._console = console
        self._slots = slots
        self._last = time.monotonic()

    def __call__(self, standing: Standing, news: str) -> None:
        now = time.monotonic()
        if not news and now - self._last < QUIET_S:
            return
        line = _numbered(standing, news) if news else _running(standing)
        if line:
            self._console.print(f"{line}{_left(standing, self._slots)}", highlight=False, markup=False, soft_wrap=True)
            self._last = now


def _numbered(standing: Standing, news: str) -> str:
    return f"[{len(standing.ended)}/{len(standing.jobs)}] {news}"


def _left(standing: Standing, slots: int) -> str:
    rest = seconds_left(standing, slots)
    return f", about {duration(rest)} left" if rest > 0.5 else ""


def _running(standing: Standing) -> str:
    """Say in one line what runs."""
    parts = []
    for job, news in standing.running.values():
        share = f" {news.done}/{news.total} {news.remark}".rstrip() if news is not None and news.total else ""
        parts.append(f"{job.label}{share}")
    return "running: " + "; ".join(parts) if parts else ""


def _table(standing: Standing, slots: int) -> RenderableType:
    """Draw the running jobs with their bars, and a line on the whole."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for job, news in standing.running.values():
        known = news is not None and news.total > 0
        bar = ProgressBar(
            total=news.total if known and news else None, completed=news.done if news else 0, width=24, pulse=not known
        )
        table.add_row(Text(job.label), bar, Text(news.remark if news else "", overflow="ellipsis", no_wrap=True))
    whole = f"{len(standing.ended)} of {len(standing.jobs)} jobs ended, {len(standing.running)} running"
    return Group(table, Text(whole + _left(standing, slots), style="bold"))


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(42.0), duration(150.0), duration(7300.0)
    ('42 s', '2.5 min', '2.0 h')
    """
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400.0 else f"{seconds / 3600:.1f} h"
