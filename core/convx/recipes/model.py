"""What a recipe is once it is read: parameters, replacements and ordered rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

from convx.decide import TensorInfo
from convx.errors import RecipeError
from convx.recipes.expressions import SpecExpression, Value
from convx.recipes.layers import Layers
from convx.roles import Role


@dataclass(frozen=True)
class Parameter:
    """A value that `--set` may change; its type is that of its default."""

    name: str
    default: Value
    where: str
    help: str = ""
    least: int | None = None
    most: int | None = None

    def read(self, text: str) -> Value:
        """The value that `--set NAME=text` gives. Raises RecipeError for another type, or out of bounds."""
        value = self._typed(text)
        self.check(value, f"--set {self.name}={text}")
        return value

    def _typed(self, text: str) -> Value:
        if isinstance(self.default, bool):
            if text not in {"true", "false"}:
                raise RecipeError(f"--set {self.name}={text}: takes true or false", hint=self.where)
            return text == "true"
        if isinstance(self.default, int):
            if not re.fullmatch(r"-?\d+", text):
                raise RecipeError(f"--set {self.name}={text}: takes a whole number", hint=self.where)
            return int(text)
        return text

    def check(self, value: Value, said: str) -> None:
        if isinstance(value, int) and not isinstance(value, bool):
            for bound, outside in ((self.least, "least"), (self.most, "most")):
                if bound is not None and (value < bound if outside == "least" else value > bound):
                    raise RecipeError(f"{said}: must be at {outside} {bound}", hint=self.where)


@dataclass(frozen=True)
class Rule:
    """Conditions, all of which a weight must meet, and the SPEC that it then gets."""

    spec: SpecExpression
    where: str
    roles: frozenset[Role] | None = None
    path: re.Pattern[str] | None = None
    layers: Layers | None = None
    expert: bool | None = None
    attention: frozenset[str] | None = None
    model: str | None = None
    reason: str | None = None
    optional: bool = False
    replaceable: bool = True

    def fits(self, tensor: TensorInfo, model: str) -> bool:
        place = tensor.placement
        return (
            (self.roles is None or place.role in self.roles)
            and (self.path is None or self.path.search(tensor.module) is not None)
            and (self.layers is None or _stands_in(self.layers, place.layer, place.layers))
            and (self.expert is None or place.expert == self.expert)
            and (self.attention is None or place.attention in self.attention)
            and (self.model is None or self.model == model)
        )


def _stands_in(layers: Layers, layer: int | None, count: int | None) -> bool:
    return layer is not None and count is not None and layer in layers.of(count)


@dataclass(frozen=True)
class Replacement:
    """Turn one SPEC into another wherever a rule gives it, while a parameter is true."""

    parameter: str
    old: SpecExpression
    new: SpecExpression


@dataclass(frozen=True)
class RecipeSource:
    """Which recipe made a plan: name, version and full text, parents included. Kept in the record."""

    name: str
    version: str
    text: str

    @property
    def sha256(self) -> str:
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Recipe:
    """A recipe with everything that it inherits. `rules` are asked in order; the first that fits speaks."""

    source: RecipeSource
    description: str
    label: str
    published: str | None = None
    base: SpecExpression | None = None
    extends: str | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    replacements: tuple[Replacement, ...] = ()
    rules: tuple[Rule, ...] = ()

    @property
    def name(self) -> str:
        return self.source.name

    @cached_property
    def own_rules(self) -> frozenset[Rule]:
        """Rules of the file itself, not inherited."""
        return frozenset(rule for rule in self.rules if rule.where.startswith(f"{self.label}:"))
