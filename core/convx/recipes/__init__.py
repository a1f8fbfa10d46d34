"""Recipes as data: TOML files of ordered rules that say which weights differ from `--format`, and why.

`document` reads a file and knows its lines, `schema` makes of it what `model` defines, `load` finds recipes
and joins those that extend one another, `plugin` decides by one in a run. docs/recipes.md has the language.
"""

from __future__ import annotations

from convx.recipes.load import load_recipe, read_recipe
from convx.recipes.model import Parameter, Recipe, RecipeSource, Rule
from convx.recipes.plugin import RecipePlugin

__all__ = ["Parameter", "Recipe", "RecipePlugin", "RecipeSource", "Rule", "load_recipe", "read_recipe"]
