"""Make the table of size, KL and perplexity of formats and recipes on small models. `--help` says how.

    python docs/measure_tiny.py MODEL... --text TEXT --format nvfp4,mxfp4 --recipe mixed_4_8 --out docs/measured.md

Each model is converted once for each format and recipe into `--work` (kept, and reused by the next run when it
is given), and compared with its source on the same windows. The text must be one that no model was trained on.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import click

from convx.convert import convert
from convx.measure.comparison import compare
from convx.measure.run import Settings
from convx.measure.table import to_markdown
from convx.options import Options
from convx.record import package_versions
from convx.session import open_session

FORMATS = "mxfp4,nvfp4,affine4,affine8,mxfp8"


def make_all(model: Path, work: Path, formats: list[str], recipes: list[str]) -> list[Path]:
    """One conversion for each format and recipe, in folders named after them; those already there are kept."""
    made = [_make(model, work / fmt.replace(":", "-"), fmt, None, ()) for fmt in formats]
    for word in recipes:
        name, _, rest = word.partition("@")
        fmt, _, given = rest.partition("?")
        settings = tuple((k, v) for k, _, v in (pair.partition("=") for pair in given.split("&") if pair))
        folder = work / "-".join(
            filter(None, (Path(name).name.removesuffix(".toml"), fmt, *(f"{k}{v}" for k, v in settings)))
        )
        made.append(_make(model, folder, fmt or None, name, settings))
    return made


def _make(model: Path, out: Path, fmt: str | None, recipe: str | None, settings: tuple[tuple[str, str], ...]) -> Path:
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        session = open_session(model, formats=(fmt,) if fmt else (), recipe=recipe, options=Options(settings=settings))
        convert(session, out)
    return out


def page(model: Path, made: list[Path], settings: Settings) -> str:
    """The tables of one model, without the pairs: those of many formats are too many to read."""
    found = compare(made, settings)
    found["pairs"] = []
    found["rows"].sort(key=lambda row: row["bytes"])
    return f"## {model.name}\n\n{to_markdown(found)}"


@click.command(help=__doc__)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--text", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--format", "formats", default=FORMATS, show_default=True)
@click.option("--recipe", "recipes", multiple=True, metavar="NAME[@FORMAT][?SETTING=VALUE&...]")
@click.option("--windows", default=24, show_default=True)
@click.option("--length", default=256, show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Folder to keep the conversions in.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file; stdout if left out.")
def main(
    models: tuple[Path, ...], text: Path, formats: str, recipes: tuple[str, ...], windows: int, length: int,
    work: Path | None, out: Path | None,
) -> None:  # fmt: skip
    words = [word for word in formats.split(",") if word]
    parts = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in models:
            made = make_all(model, (work or Path(scratch)) / model.name, words, list(recipes))
            settings = Settings(text=text, windows=windows, length=length, reference=str(model))
            parts.append(page(model, made, settings))
            click.echo(f"{model.name}: {len(made)} conversions measured", err=True)
    result = introduction(text, windows, length) + "\n".join(parts)
    if out is None:
        click.echo(result, nl=False)
    else:
        out.write_text(result, encoding="utf-8")


def introduction(text: Path, windows: int, length: int) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    command = shlex.join(["python", "docs/measure_tiny.py", *_without_folders(sys.argv[1:])])
    return (
        "# Formats and recipes, measured on small models\n\n"
        f"KL is from the unquantized source, in nats, mean ± standard error over windows; both on {windows} windows "
        f"of {length} tokens of {text.name}, computed in float32 on a CPU. Size is that of the stored tensors, vision "
        f"tower included. The same bits hurt a model of ten million parameters more than one of ten billion.\n\n"
        f"Made by `{command}` with {versions}.\n\n"
    )


def _without_folders(words: list[str]) -> list[str]:
    """The command as another person would type it: no folder of this machine, no place to keep conversions."""
    kept = [w for n, w in enumerate(words) if w != "--work" and (n == 0 or words[n - 1] != "--work")]
    return [Path(word).name if "/" in word else word for word in kept]


if __name__ == "__main__":
    main()
