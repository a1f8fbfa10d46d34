"""What `measure` and `compare` share: options about texts and results, progress, and plain output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from convx.measure.steps import Steps

if TYPE_CHECKING:
    from convx.measure.results import Entry
    from convx.measure.run import Settings

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path)

TEXTS: list[Callable[[Any], Any]] = [
    click.option("--text", type=_FILE, help="Text file to measure on; never one that was calibrated on."),
    click.option("--data", metavar="ID:CONFIG:SPLIT:COLUMN", help="Data set of the Hub to measure on."),
    click.option("--windows", type=click.IntRange(1), default=128, show_default=True, help="Windows of the text."),
    click.option("--length", type=click.IntRange(2), default=2048, show_default=True, help="Tokens a window."),
    click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Windows at a time."),
    click.option("--bos", is_flag=True, help="Begin each window with the beginning-of-sequence token."),
    click.option("--tokenizer", type=click.Choice(["file", "loader"]), default="file", show_default=True,
                 help="tokenizer.json as stored, or as the stock loader rebuilds it."),
    click.option("--reference", metavar="SOURCE", help="What to compare with: the source, or another checkpoint."),
    click.option("--save-logits", type=_FILE, help="Keep the reference's predictions in a file."),
    click.option("--logits", type=_FILE, help="Use predictions that --save-logits kept."),
    click.option("--exact", is_flag=True, help="Keep every token's, not only the likeliest and the rest's sum."),
    click.option("--top-k", type=click.IntRange(1), default=256, show_default=True, help="How many likeliest to keep."),
]  # fmt: skip
RESULTS: list[Callable[[Any], Any]] = [
    click.option("--no-record", is_flag=True, help="Do not write the results into convx.json."),
    click.option("--quiet", is_flag=True, help="Say nothing but errors and results."),
    click.option("--json", "as_json", is_flag=True, help="The results as JSON on stdout."),
]


def texts(function: F) -> F:
    """The options about text, windows and reference."""
    return _with(TEXTS, function)


def results(function: F) -> F:
    """The options about what happens with results."""
    return _with(RESULTS, function)


def _with(options: list[Callable[[Any], Any]], function: F) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def settings(given: Mapping[str, Any]) -> Settings:
    """The engine's settings, from the options that carry the same names."""
    from convx.measure.run import Settings

    names = {f.name for f in fields(Settings)}
    return Settings(**{name: value for name, value in given.items() if name in names})


class Lines(Steps):
    """One line a stage."""

    def begin(self, name: str, total: int = 0) -> None:
        click.echo(f"stage: {name}", err=True)


class Bar(Steps):
    """A bar that starts again with each stage."""

    def __init__(self, progress: Any) -> None:  # noqa: ANN401
        self._progress = progress
        self._task = progress.add_task("measure", total=None)

    def begin(self, name: str, total: int = 0) -> None:
        self._progress.reset(self._task, description=name, total=total or None)

    def advance(self, steps: int = 1) -> None:
        self._progress.advance(self._task, steps)


@contextmanager
def watching(quiet: bool) -> Iterator[Steps]:
    """A bar on a terminal, one line a stage elsewhere, nothing when quiet; always on stderr."""
    if quiet:
        yield Steps()
    elif not sys.stderr.isatty():
        yield Lines()
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield Bar(progress)


def print_entries(found: Mapping[str, Entry]) -> None:
    """Each measurement as a heading and lines of name and value; lists by window or tensor are left to --json."""
    for kind, entry in found.items():
        about = _about(entry["settings"])
        click.echo(f"{kind} ({about})" if about else kind)
        for name, value in _flat(entry["values"]):
            click.echo(f"  {name:34} {value}")


def _about(settings: Mapping[str, Any]) -> str:
    words = (settings.get("data"), settings.get("reference"), settings.get("loader"))
    shape = f"{settings['windows']} x {settings['length']} tokens" if "windows" in settings else None
    return ", ".join(str(word) for word in (*words, shape) if word)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, those of inner objects under `outer.inner`, of listed objects under their name."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list):
            rows = [row for row in value if isinstance(row, dict)]
            if len(rows) <= 16:
                for row in rows:
                    yield from _flat({k: v for k, v in row.items() if k not in _TITLES}, f"{_title(row)}.")
        else:
            yield name, _shown(value)


_TITLES = ("name", "context")


def _title(row: Mapping[str, Any]) -> str:
    return str(next((row[key] for key in _TITLES if key in row), "row"))


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
