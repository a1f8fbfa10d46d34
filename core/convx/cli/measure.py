"""convx measure: perplexity, KL, speed, validation probes, task suites, tensor errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convx.cli.measuring import results, texts
from convx.errors import UsageError

_FILE = click.Path(path_type=Path)


@click.command("measure", short_help="Measure a checkpoint.")
@click.argument("path", type=_FILE)
@click.option("--perplexity", is_flag=True, help="Perplexity on --text or --data.")
@click.option("--kl", is_flag=True, help="Divergence from --reference on --text or --data.")
@click.option("--speed", is_flag=True, help="Loading, prefill and generation.")
@click.option("--validate", is_flag=True, help="Load, short and long text, image, sound, unload.")
@click.option("--tensors", is_flag=True, help="Error of each tensor against --reference, its source.")
@click.option("--tasks", metavar="NAMES", help="Task suites: mmlu, gsm8k, ifeval, humaneval, bfcl; with commas.")
@click.option("--only", metavar="KINDS", help="The same choices as a list: perplexity,kl.")
@texts
@click.option("--contexts", default="1024,4096", show_default=True, help="Prompt lengths for --speed.")
@click.option(
    "--trials", type=click.IntRange(1), default=5, show_default=True, help="Runs after the one that warms up."
)
@click.option("--generate", type=click.IntRange(2), default=128, show_default=True, help="Tokens to write for --speed.")
@click.option("--image", type=_FILE, help="Picture to show for --validate; one is made if left out.")
@click.option("--audio", type=_FILE, help="Sound to play for --validate; one is made if left out.")
@click.option("--server", is_flag=True, help="Validate through mlx_vlm.server on the loopback address.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="Length of probes' answers.")
@click.option("--long-characters", type=int, default=6000, show_default=True, help="Length of the long text.")
@click.option("--task-data", multiple=True, metavar="NAME=FILE", help="Local JSON lines for a suite; else the Hub's.")
@click.option("--shots", type=click.IntRange(0), help="Examples shown before each task; the suite's own if left out.")
@click.option("--limit", type=click.IntRange(1), help="First samples of each suite only.")
@click.option("--task-tokens", type=click.IntRange(1), help="Length of answers in suites.")
@click.option("--allow-code", is_flag=True, help="Let humaneval run what the model writes, in a sandbox.")
@click.option("--imatrix", type=_FILE, help="The importance matrix that PATH was made with, for --tensors.")
@click.option("--seed", type=int, default=0, show_default=True)
@results
def command(path: Path, **given: Any) -> None:  # noqa: ANN401
    """Measure PATH and write the results into its convx.json.

    Without a choice, everything is measured that can be with what is given: speed and validation always, perplexity
    with --text, KL with --text and --reference, suites with --tasks.
    """
    kinds = _kinds(given)
    given["contexts"] = _lengths(given["contexts"])
    given["task_data"] = dict(_pair(text) for text in given["task_data"])
    from convx.cli.measuring import print_entries, settings, watching
    from convx.cli.output import print_json
    from convx.measure.run import measure

    as_json, quiet, no_record = given.pop("as_json"), given.pop("quiet"), given.pop("no_record")
    with watching(quiet) as steps:
        found = measure(path, kinds, settings(given), record=not no_record, steps=steps)
    if as_json:
        print_json(found)
    else:
        print_entries(found)


def _kinds(given: dict[str, Any]) -> list[str] | None:
    """The kinds that were chosen, taken out of `given`; None when none was. `tasks` becomes a tuple of names."""
    flags = ("perplexity", "kl", "speed", "validate", "tensors")
    chosen = [kind for kind in flags if given.pop(kind)] + _words(given.pop("only") or "")
    given["tasks"] = tuple(_words(given["tasks"] or ""))
    chosen += ["tasks"] if given["tasks"] else []
    return chosen or None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise UsageError(f"--contexts {text!r}: give lengths with commas, such as 1024,4096") from None


def _pair(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not name or not file:
        raise UsageError(f"--task-data {text!r}: give it as NAME=FILE")
    return name, Path(file)
