"""Every recipe converts; what is on disk is what was planned, and both loaders open it."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from pathlib import Path

import pytest
from support import MODELS, run_convert

from convx.checkpoint import read_record
from convx.plugins import RECIPES, offers
from convx.session import open_session
from convx.source import open_source
from convx.verify import verify

NAMES = sorted(name for name, offer in offers(RECIPES).items() if offer.distribution == "convx")
BASES = {"gemma4-moe": "", "gemma4-e4b": "mxfp4", "qwen35-moe": "nvfp4"}
"""Each model with another base: the recipe's own, and two that are not affine."""
QUICK = {(name, MODELS[n % len(MODELS)]) for n, name in enumerate(NAMES)}
MATRIX = [pytest.param(n, m, marks=() if (n, m) in QUICK else pytest.mark.slow) for n in NAMES for m in MODELS]


@pytest.mark.parametrize(("recipe", "model"), MATRIX)
def test_a_recipe_converts(tiny, tmp_path, recipe, model):
    base = [BASES[model]] if BASES[model] else []
    plan = open_session(tiny(model), formats=base, recipe=recipe).plans[0]
    path = run_convert(tiny(model), tmp_path / "out", BASES[model], recipe=recipe)[0].path
    assert open_source(path).nbytes == plan.total_bytes
    verdict = verify(path)
    assert verdict.findings == ()
    assert verdict.loaders == ("mlx-vlm", "mlx-lm")


def test_the_record_keeps_the_recipe(tiny, tmp_path):
    path = run_convert(tiny(), tmp_path / "out", "", recipe="mixed_3_6", settings=(("high", "8"),))[0].path
    record = read_record(path)
    assert (record["recipe"], record["recipe_version"]) == ("mixed_3_6", "1.0")
    plan = open_session(tiny(), recipe="mixed_3_6").plans[0]
    assert plan.recipe is not None
    assert record["recipe_sha256"] == plan.recipe.sha256
    assert record["recipe_text"] == plan.recipe.text
    assert record["options"]["settings"] == {"high": "8"}
    assert {t["reason"] for t in record["tensors"] if t["role"] == "attention-v"} == {
        "values and down projections of outer layers and every third one (mixed_3_6)", "recipe mixed_3_6",
    }  # fmt: skip


def their_bits(tool: str, source: Path, out: Path, recipe: str) -> dict[str, int]:
    """module -> bits, as mlx_lm.convert or mlx_vlm.convert chooses them for one of its own recipes."""
    convert = importlib.import_module(f"{tool}.convert").convert
    with contextlib.redirect_stdout(io.StringIO()):
        convert(str(source), str(out), quantize=True, quant_predicate=recipe)
    entries = json.loads((out / "config.json").read_text())["quantization"]
    return {module: entry["bits"] for module, entry in entries.items() if isinstance(entry, dict)}


THEIRS = [
    ("mlx_lm", "gemma4-moe", "mixed_3_6"),
    ("mlx_lm", "qwen35-moe", "mixed_2_6"),
    ("mlx_lm", "qwen35-moe", "mixed_3_4"),
    ("mlx_lm", "gemma4-e4b", "mixed_4_6"),
    ("mlx_vlm", "gemma4-moe", "mixed_3_5"),
    ("mlx_vlm", "gemma4-e4b", "mixed_3_8"),
    ("mlx_vlm", "qwen35-moe", "mixed_4_8"),
]
SOON = {("mlx_lm", "gemma4-moe"), ("mlx_lm", "qwen35-moe"), ("mlx_vlm", "gemma4-moe")}


@pytest.mark.parametrize(
    ("tool", "model", "recipe"),
    [pytest.param(*case, marks=() if case[:2] in SOON else pytest.mark.slow) for case in THEIRS],
)
def test_bits_are_those_of_the_tool_where_no_floor_holds(tiny, tmp_path, tool, model, recipe):
    theirs = their_bits(tool, tiny(model), tmp_path / "theirs", recipe)
    plan = open_session(tiny(model), recipe=recipe).plans[0]
    ours = {t.info.module: t.decision for t in plan.tensors if t.info.module in theirs}
    assert set(ours) == set(theirs)
    assert {d.by for d in ours.values()} <= {"recipe", "floor"}
    compared = {module: d.spec.bits for module, d in ours.items() if d.by == "recipe"}
    assert compared == {module: theirs[module] for module in compared}
    assert len(compared) > len(ours) / 2
    assert len(set(compared.values())) == 2
