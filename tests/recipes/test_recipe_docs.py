"""docs/recipes.md shows every built-in recipe as it is, and all TOML in it is TOML."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from convx.plugins import RECIPES, Formats, offers
from convx.recipes import load_recipe
from convx.recipes.schema import _RULE, ROLE_WORDS

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
NAMES = sorted(name for name, offer in offers(RECIPES).items() if offer.distribution == "convx")


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_is_shown_as_it_is(name):
    section = PAGE.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    shown = re.search(r"```toml\n(.*?)```", section, re.S)
    assert shown, f"docs/recipes.md has no section on {name}"
    assert shown[1] == (files("convx_recipes") / f"{name}.toml").read_text()


def test_each_file_is_a_recipe_on_offer():
    assert {p.name.removesuffix(".toml") for p in files("convx_recipes").iterdir() if p.name.endswith(".toml")} == set(
        NAMES
    )


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_each_block_parses(block):
    assert tomllib.loads(BLOCKS[block])


def test_the_first_recipe_is_sound(tmp_path):
    path = tmp_path / "first.toml"
    path.write_text(BLOCKS[0])
    assert len(load_recipe(str(path), {}, Formats()).recipe.rules) == 2


@pytest.mark.parametrize("word", [*ROLE_WORDS, *_RULE])
def test_each_word_is_documented(word):
    assert re.search(rf"`{word}`|`{word} =", PAGE)


def test_a_plugin_may_ship_one(tmp_path, monkeypatch):
    """As the page says: an object with the hook, under an entry point."""
    from convx import hookimpl
    from convx.recipes import load

    class Frugal:
        @hookimpl
        def convx_recipe(self):
            return tmp_path / "frugal.toml"

    class Offered:
        def load(self):
            return Frugal()

    (tmp_path / "frugal.toml").write_text('version = "3"\ndescription = "frugal"\nextends = "uniform"\n')
    installed = load.find
    monkeypatch.setattr(load, "find", lambda group, name: Offered() if name == "frugal" else installed(group, name))
    plugin = load_recipe("frugal", {"bits": "3"}, Formats())
    assert (plugin.recipe.name, plugin.recipe.source.version) == ("frugal", "3")
    assert plugin.base.spec == "affine3:g64"
