"""Set up one run: which plugins take part, in which order they are asked, and what they plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convx import defaults
from convx.errors import PluginError
from convx.options import Options
from convx.plan import Plan, Prepared, make_plan, prepare
from convx.plugins import (
    ARCHITECTURES,
    EXTENSIONS,
    FORMATS,
    Formats,
    Hooks,
    detect_architecture,
    find,
    load_file,
    offers,
)
from convx.recipes import RecipePlugin, load_recipe
from convx.source import Source, open_source
from convx.specs import Spec, parse_spec


@dataclass(frozen=True)
class Session:
    """A source, opened and sanitized for one architecture, and the plans of its outputs."""

    prepared: Prepared
    plans: tuple[Plan, ...]


def open_session(
    source: str | Path | Source,
    *,
    arch: str | object | None = None,
    formats: Sequence[str] = ("bf16",),
    recipe: str | None = None,
    options: Options | None = None,
    revision: str | None = None,
) -> Session:
    """Open a source and plan one output a format. Reads headers only.

    `arch` names an architecture plugin, or is one (for plugins that are not installed).

    Raises the error of whichever step cannot go on: SourceError, PluginError, RecipeError, PlanError.
    """
    options = options or Options()
    catalog = Formats()
    bases = [parse_spec(word, catalog) for word in formats]
    opened = source if isinstance(source, Source) else open_source(source, revision=revision)
    architecture = arch or detect_architecture(opened.config)
    name = architecture if isinstance(architecture, str) else getattr(architecture, "__name__", "local")
    chosen = load_recipe(recipe, dict(options.settings), catalog) if recipe else None
    hooks = make_hooks(architecture, formats, chosen, options)
    if hooks.detect(opened.config) is None:
        raise PluginError(
            f"--arch {name} does not know model_type {opened.config.get('model_type')!r} of {opened.name}",
            hint="leave --arch out to detect it",
        )
    prepared = prepare(opened, name, hooks, options)
    plans = tuple(_plan(prepared, base, catalog, chosen) for base in bases)
    return Session(prepared, plans)


def _plan(prepared: Prepared, base: Spec, catalog: Formats, recipe: RecipePlugin | None) -> Plan:
    if recipe is not None:
        recipe.begin(base)
    plan = make_plan(prepared, base, catalog, recipe=recipe.recipe.name if recipe else None)
    if recipe is not None:
        recipe.check_all_used()
    return plan


def make_hooks(
    architecture: str | object, formats: Sequence[str], recipe: RecipePlugin | None, options: Options
) -> Hooks:
    """The manager of one run: defaults, formats, recipe, architecture, extensions; the last is asked first."""
    hooks = Hooks([("defaults", defaults)])
    for name in dict.fromkeys(word.partition(":")[0] for word in formats):
        if name in offers(FORMATS):
            hooks.register(find(FORMATS, name).load(), f"format {name}")
    if recipe is not None:
        hooks.register(recipe, f"recipe {recipe.recipe.name}")
    if isinstance(architecture, str):
        hooks.register(find(ARCHITECTURES, architecture).load(), f"architecture {architecture}")
    else:
        hooks.register(architecture, f"architecture {getattr(architecture, '__name__', 'local')}")
    for name, offer in sorted(offers(EXTENSIONS).items()):
        hooks.register(offer.load(), f"extension {name}")
    for path in options.plugins:
        hooks.register(load_file(path), f"file {path}")
    return hooks


