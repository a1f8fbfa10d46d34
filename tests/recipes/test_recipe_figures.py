"""The figures of published builds, out of a plan from a bare config.json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from convx.loaders import build_model
from convx.options import Options
from convx.plan import Plan
from convx.session import open_session

CONFIGS = Path(__file__).parents[1] / "configs"
GIB = 1 << 30


def plan(config: Path | str, recipe: str | None = None, *formats: str, **options) -> Plan:
    path = CONFIGS / f"{config}.json" if isinstance(config, str) else config
    return open_session(path, recipe=recipe, formats=formats, options=Options(**options)).plans[0]


def stored(plan: Plan, role: str) -> set[str]:
    return {t.format for t in plan.tensors if t.info.role == role}


def test_mixed_4_8_of_gemma_26b():
    """Published: 4.587 bits per weight, 14 GB, 120 overrides."""
    made = plan("gemma-4-26b-a4b-it", "mixed-4-8", "affine4", modality="text")
    assert made.bits_per_weight == pytest.approx(4.587, abs=0.001)
    assert made.total_bytes / 1e9 == pytest.approx(14.47, abs=0.01)
    assert len(made.overrides) == 120
    assert Counter(t.decision.by for t in made.tensors if t.decision.quantized)["recipe"] == 120


def test_mixed_4_8_says_its_own_base():
    explicit = plan("gemma-4-26b-a4b-it", "mixed-4-8", "affine4", modality="text")
    assert plan("gemma-4-26b-a4b-it", "mixed-4-8", modality="text").digest == explicit.digest


def test_tiers_of_qwen_122b():
    """Published: 4.655 bits per weight, 66 GB, which are GiB."""
    made = plan("Qwen3.5-122B-A10B", "tiers-4.7")
    assert made.bits_per_weight == pytest.approx(4.655, abs=0.002)
    assert 66 <= made.total_bytes / GIB <= 67
    assert stored(made, "router") == stored(made, "vision") == {"bf16"}
    assert stored(made, "attention-q") == {"affine6:g64", "affine8:g64"}
    assert stored(made, "linear-attention-qkv") == stored(made, "expert-down") == {"affine4:g64"}


def test_ud_of_gemma_26b_with_mxfp():
    """Published: 26 GB, which are GiB."""
    made = plan("gemma-4-26b-a4b-it", "ud", settings=(("bits", "8"), ("mxfp", "true")))
    assert 25 <= made.total_bytes / GIB <= 26.5
    assert stored(made, "attention-o") == stored(made, "projector") == {"bf16"}
    assert stored(made, "embedding") == stored(made, "router") == {"affine8:g64"}
    for role in ("expert-gate", "expert-up", "expert-down", "mlp-down", "attention-q", "attention-v"):
        assert stored(made, role) == {"mxfp8"}


def test_ud_reckons_from_bits():
    made = plan("Qwen3.5-122B-A10B", "ud", settings=(("bits", "4"), ("mxfp", "true")))
    assert stored(made, "expert-gate") == {"mxfp4"}
    assert stored(made, "expert-down") == {"affine5:g64"}
    assert stored(made, "attention-q") == stored(made, "embedding") == {"affine6:g64"}
    assert stored(made, "lm-head") == {"affine8:g64"}, "4 + 3 = 7, which no format has"
    assert stored(made, "linear-attention-out") == {"bf16"}
    assert stored(made, "linear-attention-gates") == stored(made, "shared-expert-gate") == {"affine8:g64"}


@pytest.mark.parametrize(("fmt", "published"), [("bf16", 91), ("mxfp8", 47), ("mxfp4", 25), ("nvfp4", 27)])
def test_the_family_of_gemma_with_256_experts(tmp_path, fmt, published):
    config = json.loads((CONFIGS / "gemma-4-26b-a4b-it.json").read_text())
    config["text_config"]["num_experts"] = 256
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert plan(path, None, fmt).total_bytes / GIB == pytest.approx(published, abs=1)


@pytest.mark.parametrize(("shared_kv", "linears"), [("keep", 379), ("drop", 343)])
def test_linears_of_the_text_model_of_e4b(shared_kv, linears):
    """379 are published: every linear of 42 layers, embeddings not counted.

    Loaders hold no k and v of the 18 layers that share them, so 36 fewer are needed.
    """
    made = plan("gemma-4-e4b-it", None, "affine4", modality="text", shared_kv=shared_kv)
    quantized = [t for t in made.tensors if t.decision.quantized]
    assert sum("embedding" not in t.info.role for t in quantized) == linears
    assert len(quantized) == linears + 2, "the token table and the per-layer table"


@pytest.mark.parametrize("loader", ["mlx-lm", "mlx-vlm"])
def test_loaders_hold_343_linears_of_e4b(loader):
    model = build_model(json.loads((CONFIGS / "gemma-4-e4b-it.json").read_text()), loader)
    held = [n for n, m in model.named_modules() if hasattr(m, "to_quantized") and n.startswith("language_model")]
    assert sum("embed_tokens" not in name for name in held) == 343


@pytest.mark.parametrize(("level", "target", "cap"), [(3, 3.5, 3.7), (4, 4.6, 4.7), (5, 5.5, 5.7), (6, 6.5, 6.7)])
def test_oq_levels_are_near_the_widths_that_omlx_documents(level, target, cap):
    """docs/oQ_Quantization.md of oMLX gives these; its builds differ, as they follow a measurement."""
    made = plan("gemma-4-26b-a4b-it", f"oq{level}", modality="text")
    assert target - 0.1 <= made.bits_per_weight <= cap


def test_the_plan_names_its_recipe():
    made = plan("gemma-4-26b-a4b-it", "mixed_3_4", modality="text")
    assert made.recipe is not None
    assert (made.recipe.name, made.recipe.version) == ("mixed_3_4", "1.0")
    assert "# extends mixed 1.0:" in made.recipe.text
    assert len(made.recipe.sha256) == 64
