"""convx recipes, and recipes and targets on the command line."""

from __future__ import annotations

import json
import subprocess
import sys

from convx.cli import run
from convx.plugins import RECIPES, offers


def test_list(capsys):
    assert run(["recipes"]) == 0
    said = capsys.readouterr().out
    assert run(["recipes", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in listed} == set(offers(RECIPES))
    for row in listed:
        assert row["name"] in said and row["description"] in said
        assert not row["description"].startswith("error")


def test_listing_imports_nothing_heavy():
    code = "import sys; from convx.cli import run; run(['recipes']); print('|', *sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = {name.partition(".")[0] for name in out.rpartition("|")[2].split()}
    assert not modules & {"mlx", "mlx_lm", "mlx_vlm", "transformers", "numba", "rich", "huggingface_hub"}


def test_show(capsys):
    assert run(["recipes", "show", "mixed_3_5"]) == 0
    said = capsys.readouterr().out
    assert "--set low=3" in said
    assert 'extends = "mixed"' in said and "# extends mixed 1.0:" in said


def test_show_of_a_name_that_is_not_there(capsys):
    assert run(["recipes", "show", "mixed_3_7"]) == 1
    assert "did you mean 'mixed_3_" in capsys.readouterr().err


def test_check(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('version = "1.0"\ndescription = "mine"\n\n[[rules]]\nrole = "expert-dwon"\nspec = "affine8"\n')
    assert run(["recipes", "check", str(path)]) == 1
    assert f"error: {path}:5: unknown word 'expert-dwon'\n  did you mean 'expert-down'" in capsys.readouterr().err
    path.write_text(path.read_text().replace("dwon", "down"))
    assert run(["recipes", "check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok, 1 rules, 0 parameters\n"


def test_a_recipe_of_ones_own(tiny, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('version = "2"\ndescription = "mine"\n[[rules]]\nrole = "experts"\nspec = "base+1"\n')
    assert run(["plan", str(tiny()), "--format", "affine4", "--recipe", str(path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["recipe"], plan["recipe_version"]) == ("mine", "2")
    assert {t["format"] for t in plan["tensors"] if t["role"] == "expert-up"} == {"affine5:g64"}


def test_set_needs_a_recipe(tiny, capsys):
    assert run(["plan", str(tiny()), "--set", "bits=4"]) == 2
    assert "there is no --recipe" in capsys.readouterr().err


def test_targets_with_commas(tiny, capsys):
    assert run(["plan", str(tiny()), "--format", "nvfp4", "--target", "mlx-lm,mlx-node", "--target", "lmstudio"]) == 1
    said = capsys.readouterr().err
    assert "mlx-node: language_model.model.embed_tokens" in said
    assert "mlx-lm:" not in said and "lmstudio:" not in said


def test_the_recorded_command_makes_the_same(tiny, tmp_path, capsys):
    """With the recipe's own base there is no --format to repeat."""
    assert run([str(tiny()), str(tmp_path / "out"), "--recipe", "uniform", "--set", "bits=6", "--quiet"]) == 0
    command = json.loads((tmp_path / "out" / "convx.json").read_text())["command"]
    assert command.endswith("out --recipe uniform --set bits=6")
