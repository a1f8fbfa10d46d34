"""What a recipe file may say, checked key by key. Every fault is an error that names file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from convx.errors import RecipeError
from convx.recipes.document import Document
from convx.recipes.expressions import SpecExpression
from convx.recipes.layers import Layers
from convx.recipes.model import Parameter, Recipe, RecipeSource, Replacement, Rule
from convx.roles import GROUPS, Role
from convx.specs import suggestion

T = TypeVar("T")

ATTENTION = ("full", "sliding", "linear")
MODELS = ("moe", "dense")
ROLE_WORDS: Mapping[str, frozenset[Role]] = {**{str(r): frozenset({r}) for r in Role}, **GROUPS}
"""Words for roles and for groups of them; where a group is called as a role, the word means the group."""

_TOP: dict[str, type] = {
    "version": str, "description": str, "published": str, "extends": str, "base": str, "parameters": dict,
    "replace": dict, "rules": list,
}  # fmt: skip
_RULE: dict[str, tuple[type, ...]] = {
    "role": (str, list), "path": (str,), "layers": (str, int, list), "expert": (bool,),
    "attention": (str, list), "model": (str,), "spec": (str,), "reason": (str,), "optional": (bool,),
    "replace": (bool,),
}  # fmt: skip
_PARAMETER: dict[str, tuple[type, ...]] = {
    "default": (int, bool, str),
    "help": (str,),
    "min": (int,),
    "max": (int,),
}
_KINDS = {str: "text", dict: "a table", list: "a list", int: "a number", bool: "true or false"}


def parse_recipe(name: str, document: Document) -> Recipe:
    """A recipe from its file alone, before what it extends. Raises RecipeError naming file and line."""
    data = document.data
    for key, value in data.items():
        _known(key, list(_TOP), document, key)
        _typed(value, (_TOP[key],), document, key)
    for key in ("version", "description"):
        if key not in data:
            raise document.error(f"a recipe needs a {key}")
    return Recipe(
        RecipeSource(name, data["version"], document.text),
        data["description"],
        document.label,
        data.get("published"),
        SpecExpression(data["base"], document.where("base")) if "base" in data else None,
        data.get("extends"),
        {n: _parameter(n, v, document) for n, v in data.get("parameters", {}).items()},
        tuple(r for n, v in data.get("replace", {}).items() for r in _replacements(n, v, document)),
        tuple(_rule(entry, n, document) for n, entry in enumerate(data.get("rules", []))),
    )


def _known(word: str, known: list[str], document: Document, key: str, table: str | None = None, n: int = 0) -> None:
    if word not in known:
        raise document.error(f"unknown key {word!r}", key, table, n, hint=suggestion(word, known))


def _typed(
    value: object, types: tuple[type, ...], document: Document, key: str, table: str | None = None, n: int = 0
) -> None:
    """bool is an int to Python, but true is not a number in a recipe."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        said = " or ".join(_KINDS[t] for t in types)
        raise document.error(f"{key} is {said}, not {value!r}", key, table, n)


def _parameter(name: str, value: Any, document: Document) -> Parameter:  # noqa: ANN401
    where = document.where(name, "parameters")
    if not re.fullmatch(r"[a-z_]\w*", name) or name == "base":
        raise RecipeError(f"{where}: a parameter cannot be called {name!r}")
    given = value if isinstance(value, dict) else {"default": value}
    for key in given:
        _known(key, list(_PARAMETER), document, key, f"parameters.{name}")
        _typed(given[key], _PARAMETER[key], document, key, f"parameters.{name}")
    if "default" not in given:
        raise RecipeError(f"{where}: parameter {name} needs a default")
    made = Parameter(name, given["default"], where, given.get("help", ""), given.get("min"), given.get("max"))
    made.check(made.default, f"{where}: default {made.default}")
    return made


def _replacements(parameter: str, table: Any, document: Document) -> list[Replacement]:  # noqa: ANN401
    name = f"replace.{parameter}"
    if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
        raise document.error(f'{name} is a table of SPECs: "affine8:g64" = "mxfp8"', parameter, "replace")
    return [
        Replacement(parameter, SpecExpression(old, where), SpecExpression(new, where))
        for old, new in table.items()
        for where in [document.where(old, name)]
    ]


def _rule(entry: Any, n: int, document: Document) -> Rule:  # noqa: ANN401
    if not isinstance(entry, dict):
        raise document.error("rules are tables: [[rules]]", "rules")
    for key, value in entry.items():
        _known(key, list(_RULE), document, key, "rules", n)
        _typed(value, _RULE[key], document, key, "rules", n)
    if "spec" not in entry:
        raise document.error("a rule needs a spec", None, "rules", n)
    try:
        return _made_rule(entry, document.where(None, "rules", n), document.where("spec", "rules", n))
    except _FaultError as fault:
        raise document.error(fault.message, fault.key, "rules", n, hint=fault.hint) from None


class _FaultError(RecipeError):
    """A fault of one key of a rule, whose line is not known yet."""

    def __init__(self, key: str, error: RecipeError) -> None:
        super().__init__(error.message, hint=error.hint)
        self.key = key


def _made_rule(entry: Mapping[str, Any], where: str, spec_where: str) -> Rule:
    return Rule(
        SpecExpression(entry["spec"], spec_where),
        where,
        roles=_read(entry, "role", _roles),
        path=_read(entry, "path", _pattern),
        layers=_read(entry, "layers", lambda v: Layers(tuple(map(str, _listed(v))))),
        expert=entry.get("expert"),
        attention=_read(entry, "attention", lambda v: frozenset(_one_of(w, ATTENTION) for w in _listed(v))),
        model=_read(entry, "model", lambda v: _one_of(v, MODELS)),
        reason=entry.get("reason"),
        optional=entry.get("optional", False),
        replaceable=entry.get("replace", True),
    )


def _read(entry: Mapping[str, Any], key: str, reader: Callable[[Any], T]) -> T | None:
    try:
        return reader(entry[key]) if key in entry else None
    except RecipeError as error:
        raise _FaultError(key, error) from None


def _listed(value: Any) -> list[Any]:  # noqa: ANN401
    return value if isinstance(value, list) else [value]


def _roles(value: Any) -> frozenset[Role]:  # noqa: ANN401
    return frozenset().union(*(ROLE_WORDS[_one_of(word, tuple(ROLE_WORDS))] for word in _listed(value)))


def _one_of(word: Any, known: tuple[str, ...]) -> str:  # noqa: ANN401
    if not isinstance(word, str) or word not in known:
        raise RecipeError(f"unknown word {word!r}", hint=suggestion(str(word), list(known)))
    return word


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise RecipeError(f"{text!r} is not a regular expression: {error}") from None
