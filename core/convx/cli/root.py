"""The group of commands: their names are known without importing them, and `convert` is the default."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path

import click

COMMANDS = {
    "convert": "Convert a checkpoint (the default command).",
    "plan": "Show what a conversion would write, exactly, and why.",
    "inspect": "Show what is in a checkpoint.",
    "verify": "Audit a checkpoint: files, config rules, strict reload, error against its source.",
    "calibrate": "Run a model on text and images, and write an importance matrix.",
    "measure": "Measure perplexity, divergence, speed, validity, tasks, tensor errors.",
    "compare": "Compare checkpoints of one model: size, quality, speed, and what is significant.",
    "card": "Render the model card again from convx.json.",
    "report": "Write one HTML file to explore a checkpoint with.",
    "publish": "Send a verified checkpoint to the Hub.",
    "patch": "Apply post-save patches to an existing checkpoint.",
    "recipes": "List recipes, show one, or check a file.",
    "plugins": "List plugins, or start a new one.",
    "demo": "Make a tiny real checkpoint, convert it, load it, and show its card.",
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"convx.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in COMMANDS and args[0] not in {"--help", "-h", "--version"}:
            _refuse_typo(args[0])
            args = ["convert", *args]
        return super().parse_args(ctx, args)


def _refuse_typo(word: str) -> None:
    close = difflib.get_close_matches(word, COMMANDS, n=1, cutoff=0.7)
    if close and not Path(word).exists():
        raise click.UsageError(f"No such command or folder {word!r}. Did you mean {close[0]!r}?")


EPILOG = """\
`convx SOURCE OUT --format nvfp4` is short for `convx convert ...`. SOURCE is a checkpoint folder, a
config.json (for plan) or a Hub id; it defaults to the current folder. Run a command with --help for its options.
"""


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="convx")
def cli() -> None:
    """Convert Hugging Face checkpoints to MLX: planned to the byte, streamed in flat memory, checked."""
