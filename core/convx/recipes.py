"""(to come) Recipes as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from convx.formats import Format
from convx.specs import Spec


@dataclass
class Recipe:
    name: str


@dataclass
class RecipePlugin:
    recipe: Recipe

    def begin(self, base: Spec) -> None: ...

    def check_all_used(self) -> None: ...


def load_recipe(name: str, settings: Mapping[str, str], formats: Mapping[str, Format]) -> RecipePlugin:
    raise NotImplementedError
