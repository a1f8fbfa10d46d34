"""Options that several commands share, and their translation into the engine's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from convx.errors import UsageError
from convx.options import Options

F = TypeVar("F", bound=Callable[..., Any])

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def _names(group: str) -> str:
    """Names on offer, from metadata: no plugin is imported for a help text."""
    from convx.plugins import offers

    return ", ".join(sorted(offers(group)))


class LazyHelp(click.Option):
    """An option whose help is completed only when help is shown."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (record[0], f"{record[1]}  On offer: {_names(self.group)}.")


def planning(function: F) -> F:
    """The options that decide what an output is."""
    for option in reversed(PLANNING):
        function = option(function)
    return function


PLANNING: list[Callable[[Any], Any]] = [
    click.option("--arch", cls=LazyHelp, group="convx.architectures", help="Architecture plugin; detected if left out."),
    click.option(
        "--format", "formats", cls=LazyHelp, group="convx.formats",
        help="Format SPEC, or several with commas: nvfp4, affine4:g32, bf16.",
    ),
    click.option("--recipe", help="Named recipe or TOML file that says which tensors differ from --format."),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the recipe."),
    click.option("--tensor", "tensors", multiple=True, metavar="REGEX=SPEC", help="Store matching modules so; last wins."),
    click.option("--target", "targets", multiple=True, metavar="LOADER",
                 help="Refuse a plan that LOADER cannot open: mlx-lm, mlx-vlm, lmstudio, mlx-swift, mlx-node."),
    click.option("--bits", "--q-bits", type=int, help="Bits of an affine format."),
    click.option("--group-size", "--q-group-size", type=int, help="Group size of the format."),
    click.option("--q-mode", help="mlx-lm's word for --format: affine, mxfp4, mxfp8, nvfp4."),
    click.option("-q", "--quantize", is_flag=True, hidden=True),
    click.option("--dtype", type=click.Choice(["bfloat16", "float16", "float32", "bf16", "fp16", "fp32"]),
                 help="Type of unquantized weights; the config's if left out."),
    click.option("--modality", type=click.Choice(["all", "text"]), default="all", show_default=True,
                 help="text leaves vision and audio out."),
    click.option("--mtp", type=click.Choice(["drop", "keep", "split"]), default="drop", show_default=True,
                 help="Multi-token-prediction layers."),
    click.option("--shared-kv", type=click.Choice(["drop", "keep"]), default="drop", show_default=True,
                 help="Key and value projections that loaders ignore."),
    click.option("--imatrix", type=click.Path(), help="Importance matrix (GGUF or .dat) to fold into the weights."),
    click.option("--generation", multiple=True, metavar="KEY=VALUE", help="Set a value of generation_config.json."),
    click.option("--requantize", is_flag=True, help="Accept a source that is quantized already."),
    click.option("--allow-nonfinite", is_flag=True, help="Write NaN and Inf weights instead of stopping."),
    click.option("--base-model", help="Hub id of the original, for the card."),
    click.option("--license", "license_", help="Licence id, for the card."),
    click.option("--language", multiple=True, help="Language code, for the card."),
    click.option("--plugin", "plugins", multiple=True, type=click.Path(), help="Local Python file that is a plugin."),
    click.option("--revision", help="Branch, tag or commit of a Hub source."),
]  # fmt: skip


def session_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `open_session` from the values of the planning options, which are taken out of `given`."""
    formats = _formats(
        given.pop("formats"), given.pop("q_mode"), given.pop("bits"), given.pop("group_size"), given["recipe"]
    )
    given.pop("quantize")
    options = Options(
        modality=given.pop("modality"),
        mtp=given.pop("mtp"),
        shared_kv=given.pop("shared_kv"),
        dtype=_dtype(given.pop("dtype")),
        tensor_overrides=tuple(_pair(t, "--tensor") for t in given.pop("tensors")),
        settings=tuple(_pair(t, "--set") for t in given.pop("settings")),
        generation=tuple((k, _value(v)) for k, v in (_pair(t, "--generation") for t in given.pop("generation"))),
        imatrix=given.pop("imatrix"),
        allow_nonfinite=given.pop("allow_nonfinite"),
        requantize=given.pop("requantize"),
        base_model=given.pop("base_model"),
        license=given.pop("license_"),
        language=given.pop("language"),
        target=tuple(_words(",".join(given.pop("targets")))),
        plugins=given.pop("plugins"),
    )
    return {
        "arch": given.pop("arch"),
        "formats": formats,
        "recipe": given.pop("recipe"),
        "options": options,
        "revision": given.pop("revision"),
    }


def _words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _formats(
    text: str | None, mode: str | None, bits: int | None, group_size: int | None, recipe: str | None
) -> tuple[str, ...]:
    """The formats named; none where the recipe is to say its own base."""
    if text and mode:
        raise UsageError("--format and --q-mode are the same choice", hint="give one of them")
    if recipe and not (text or mode or bits or group_size):
        return ()
    words = text if text is not None else mode or ("affine" if bits or group_size else "bf16")
    named = tuple(_sized(word, bits, group_size) for word in _words(words))
    if not named or len(set(named)) < len(named):
        raise UsageError(f"--format {words!r} names {'one format twice' if named else 'no format'}")
    return named


def _sized(word: str, bits: int | None, group_size: int | None) -> str:
    if word == "affine":
        word = f"affine{bits or 4}"
    elif bits is not None and not re.fullmatch(rf"[a-z]+{bits}(:.*)?", word):
        raise UsageError(f"--bits {bits} contradicts --format {word}", hint="--bits goes with --format affine")
    if group_size is not None:
        if ":" in word:
            raise UsageError(f"--group-size {group_size} contradicts --format {word}")
        word = f"{word}:g{group_size}"
    return word


def _dtype(word: str | None) -> Any:  # noqa: ANN401
    if word is None:
        return None
    from convx.dtypes import SPEC_NAMES

    return SPEC_NAMES[word]


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=") if option == "--tensor" else text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{option} {text!r}: give it as {'REGEX=SPEC' if option == '--tensor' else 'NAME=VALUE'}")
    return name, value


def _value(text: str) -> Any:  # noqa: ANN401
    def refuse(word: str) -> None:
        raise UsageError(f"{text}: {word} is not a number that JSON can hold")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError:
        return text


def size(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Callback for sizes: `512M`, `2GiB`, `1000000`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text.strip(), re.I)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size like 512M or 2GiB")
    return int(float(match[1]) * _SIZES[(match[2] or "").lower()])
