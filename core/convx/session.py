"""Set up one run: which plugins take part, in which order they are asked, and what they plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convx import defaults
from convx.errors import PluginError, UsageError
from convx.formats import Format
from convx.options import Options
from convx.plan import Plan, make_plan
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
from convx.prepare import Prepared, prepare
from convx.recipes import RecipePlugin, load_recipe
from convx.source import Source, open_source
from convx.specs import Spec, parse_spec
from convx.targets import check_targets


@dataclass(frozen=True)
class Session:
    """A source, opened and sanitized for one architecture, and the plans of its outputs."""

    prepared: Prepared
    plans: tuple[Plan, ...]


def open_session(
    source: str | Path | Source,
    *,
    arch: str | object | None = None,
    formats: Sequence[str] = (),
    recipe: str | None = None,
    options: Options | None = None,
    revision: str | None = None,
) -> Session:
    """Open a source and plan one output a format. Reads headers only.

    `arch` names an architecture plugin, or is one (for plugins that are not installed). Without `formats`
    the base is the recipe's own, else bf16.

    Raises the error of whichever step cannot go on: SourceError, PluginError, RecipeError, PlanError.
    """
    options = options or Options()
    local = {Path(path).stem: load_file(path) for path in options.plugins}
    catalog = Formats(_local_formats(local))
    chosen = _recipe(recipe, options, catalog)
    formats = formats or [chosen.base.spec if chosen and chosen.base else "bf16"]
    bases = [parse_spec(word, catalog) for word in formats]
    opened = source if isinstance(source, Source) else open_source(source, revision=revision)
    architecture = arch or detect_architecture(opened.config)
    name = architecture if isinstance(architecture, str) else getattr(architecture, "__name__", "local")
    if name in local and hasattr(local[name], "convx_detect"):
        architecture = local[name]
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
        recipe.begin(base, prepared.infos)
    plan = make_plan(prepared, base, catalog, recipe=recipe.recipe.source if recipe else None)
    if recipe is not None:
        recipe.check_all_used()
    check_targets(plan, prepared.options.target)
    return plan


def _recipe(name: str | None, options: Options, catalog: Formats) -> RecipePlugin | None:
    if name is not None:
        return load_recipe(name, dict(options.settings), catalog)
    if options.settings:
        raise UsageError(f"--set {options.settings[0][0]}: there is no --recipe whose parameter it could be")
    return None


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
        if load_file(path) is not architecture:
            hooks.register(load_file(path), f"file {path}")
    return hooks


def _local_formats(local: dict[str, object]) -> dict[str, Format]:
    """Formats that plugin files add, by their own names."""
    found = [Hooks([(name, module)]).format() for name, module in local.items() if hasattr(module, "convx_format")]
    return {form.name: form for form in found if form is not None}
