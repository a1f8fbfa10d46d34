"""The recipes that come with convx, one TOML file each. A file's name is the recipe's."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from convx import hookimpl


@dataclass(frozen=True)
class RecipeFile:
    """A plugin object for one file."""

    name: str

    @hookimpl
    def convx_recipe(self) -> Traversable:
        return files("convx_recipes") / f"{self.name}.toml"


uniform = RecipeFile("uniform")
dense_mlp_8 = RecipeFile("mixed-4-8")
ud = RecipeFile("ud")
tiers_4_7 = RecipeFile("tiers-4.7")
mixed = RecipeFile("mixed")
mixed_2_6 = RecipeFile("mixed_2_6")
mixed_3_4 = RecipeFile("mixed_3_4")
mixed_3_5 = RecipeFile("mixed_3_5")
mixed_3_6 = RecipeFile("mixed_3_6")
mixed_3_8 = RecipeFile("mixed_3_8")
mixed_4_6 = RecipeFile("mixed_4_6")
mixed_4_8 = RecipeFile("mixed_4_8")
oq = RecipeFile("oq")
oq2 = RecipeFile("oq2")
oq3 = RecipeFile("oq3")
oq4 = RecipeFile("oq4")
oq5 = RecipeFile("oq5")
oq6 = RecipeFile("oq6")
