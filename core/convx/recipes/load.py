"""Find a recipe by name or path, and join it with those that it extends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from convx.errors import RecipeError
from convx.formats import Format
from convx.plugins import RECIPES, Hooks, find
from convx.recipes.document import Document
from convx.recipes.expressions import Scope, Value
from convx.recipes.model import Parameter, Recipe, RecipeSource
from convx.recipes.plugin import RecipePlugin
from convx.recipes.schema import parse_recipe
from convx.specs import parse_spec, suggestion


def load_recipe(name: str, settings: Mapping[str, str], formats: Mapping[str, Format]) -> RecipePlugin:
    """The recipe of a name or file, with the values of `--set`, ready to take part in a run.

    Raises RecipeError, naming file and line, for anything that could not be applied to any model.
    """
    recipe = read_recipe(name)
    values = read_settings(recipe, settings)
    _check_specs(recipe, Scope(formats, values))
    return RecipePlugin(recipe, formats, values, tuple(settings))


def read_recipe(name: str) -> Recipe:
    """A recipe by name, or by the path of a TOML file, with everything that it inherits."""
    return _read(name, None, ())


def _read(name: str, folder: Path | None, above: tuple[Recipe, ...]) -> Recipe:
    document = _document(name, folder)
    own = parse_recipe(_name(name), document)
    if own.extends is None:
        return own
    if any(Path(other.label).resolve() == Path(own.label).resolve() for other in above):
        chain = " -> ".join([*(other.name for other in above), own.name])
        raise document.error(f"recipes extend each other in a circle: {chain}", "extends")
    try:
        parent = _read(own.extends, _folder(name, folder), (*above, own))
    except RecipeError as error:
        missing = error.message.startswith(_MISSING)
        raise document.error(error.message, "extends", hint=error.hint) from None if missing else error
    return _joined(own, parent, document)


_MISSING = "no recipe "


def _document(name: str, folder: Path | None) -> Document:
    if _is_path(name):
        path = (folder or Path()) / name
        if not path.is_file():
            raise RecipeError(f"{_MISSING}{str(path)!r}: no such file")
        try:
            return Document(str(path), path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    found = Hooks([(name, find(RECIPES, name).load())]).recipe()
    if found is None:
        raise RecipeError(f"{_MISSING}{name!r}: its plugin gives none", hint="implement convx_recipe")
    return Document(str(found), found.read_text(encoding="utf-8"))


def _is_path(name: str) -> bool:
    return name.endswith(".toml") or os.sep in name


def _folder(name: str, folder: Path | None) -> Path | None:
    """Where relative names in a file start: beside it."""
    return ((folder or Path()) / name).parent if _is_path(name) else None


def _name(name: str) -> str:
    return Path(name).stem if _is_path(name) else name


def _joined(own: Recipe, parent: Recipe, document: Document) -> Recipe:
    """Own rules are asked before inherited ones; own defaults, base and replacements stand in their place."""
    for name, parameter in own.parameters.items():
        inherited = parent.parameters.get(name)
        if inherited is not None and type(inherited.default) is not type(parameter.default):
            raise document.error(f"parameter {name} is of another type in {parent.name}", name, "parameters")
    seam = f"# extends {parent.name} {parent.source.version}:"
    text = f"{own.source.text.rstrip()}\n\n{seam}\n{parent.source.text}"
    return replace(
        own,
        source=RecipeSource(own.name, own.source.version, text),
        base=own.base or parent.base,
        parameters={**parent.parameters, **{n: _bounded(p, parent) for n, p in own.parameters.items()}},
        replacements=own.replacements + parent.replacements,
        rules=own.rules + parent.rules,
    )


def _bounded(parameter: Parameter, parent: Recipe) -> Parameter:
    """A parameter given anew keeps the help and bounds that it does not give anew."""
    inherited = parent.parameters.get(parameter.name)
    if inherited is None:
        return parameter
    least = inherited.least if parameter.least is None else parameter.least
    most = inherited.most if parameter.most is None else parameter.most
    made = replace(parameter, help=parameter.help or inherited.help, least=least, most=most)
    made.check(made.default, f"{made.where}: default {made.default}")
    return made


def read_settings(recipe: Recipe, settings: Mapping[str, str]) -> dict[str, Value]:
    """Every parameter's value. Raises RecipeError for a `--set` of a name or type that the recipe has not."""
    values = {name: parameter.default for name, parameter in recipe.parameters.items()}
    for name, text in settings.items():
        if name not in recipe.parameters:
            known = list(recipe.parameters)
            hint = suggestion(name, known) if known else "it has no parameters"
            raise RecipeError(f"--set {name}={text}: recipe {recipe.name} has no such parameter", hint=hint)
        values[name] = recipe.parameters[name].read(text)
    return values


def _check_specs(recipe: Recipe, scope: Scope) -> None:
    """Resolve everything once, against a base that any expression fits: before a model is open."""
    if recipe.base is not None:
        recipe.base.resolve(scope)
    trial = replace(scope, base=parse_spec("affine4", scope.formats))
    for rule in recipe.rules:
        rule.spec.resolve(trial)
    for entry in recipe.replacements:
        if not isinstance(scope.values.get(entry.parameter), bool):
            raise RecipeError(f"{entry.old.where}: {entry.parameter!r} is no parameter that is true or false")
        entry.old.resolve(trial)
        entry.new.resolve(trial)
