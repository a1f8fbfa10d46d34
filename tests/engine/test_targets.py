"""--target: a plan that a loader could not open is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from convx.errors import PlanError, UsageError
from convx.options import Options
from convx.plan import Plan
from convx.session import open_session
from convx.targets import TARGETS, check_targets

CONFIG = Path(__file__).parents[1] / "configs" / "gemma-4-26b-a4b-it.json"


def plan(fmt: str, *targets: str, source: Path = CONFIG, **options) -> Plan:
    return open_session(source, formats=(fmt,), options=Options(target=targets, **options)).plans[0]


@pytest.mark.parametrize("fmt", ["affine4", "bf16"])
@pytest.mark.parametrize("modality", ["all", "text"])
def test_what_every_loader_opens(fmt, modality):
    assert plan(fmt, *TARGETS, modality=modality).base.spec.startswith(fmt)


def test_mlx_node_reads_some_modules_as_affine_only():
    with pytest.raises(PlanError, match=r"mlx-node: language_model\.model\.embed_tokens: is nvfp4, but .* affine only"):
        plan("nvfp4", "mlx-node")
    plan("nvfp4", "mlx-node", tensor_overrides=((r"embed_tokens$", "affine8"),))
    plan("nvfp4", "mlx-lm", "mlx-vlm", "lmstudio", "mlx-swift")


def test_lm_studio_needs_the_projector_affine_or_whole():
    below_the_floor = (("embed_vision", "mxfp8"),)
    with pytest.raises(PlanError, match=r"lmstudio: embed_vision\.embedding_projection: is mxfp8"):
        plan("mxfp8", "lmstudio", tensor_overrides=below_the_floor)
    plan("mxfp8", "mlx-vlm", tensor_overrides=below_the_floor)


def test_a_model_that_a_loader_does_not_know():
    made = plan("affine4", modality="text")
    other = replace(made, config={**made.config, "model_type": "nobody"})
    with pytest.raises(PlanError, match="mlx-lm: mlx-lm cannot build model_type 'nobody'"):
        check_targets(other, ("mlx-lm",))


def test_tensors_that_a_loader_needs():
    made = plan("affine4", modality="text")
    fewer = replace(made, tensors=made.tensors[1:])
    for target in ("mlx-lm", "mlx-vlm", "lmstudio"):
        with pytest.raises(PlanError, match=f"{target}: .* is one of 1 tensors that it needs and the plan has not"):
            check_targets(fewer, (target,))


@pytest.mark.parametrize(
    ("target", "change", "message"),
    [
        (
            "mlx-swift",
            {"note": "by hand"},
            r"quantization\.note: is neither a setting .* nor a module's entry",
        ),
        ("mlx-node", {"quant_method": "mlx"}, "quantization and quantization_config differ"),
        ("mlx-lm", {"bits": 8}, "is affine4:g64, but the config says"),
    ],
)
def test_configs_that_a_loader_misreads(target, change, message):
    made = plan("affine4", modality="text")
    config = {**made.config, "quantization": {**made.config["quantization"], **change}}
    with pytest.raises(PlanError, match=message):
        check_targets(replace(made, config=config), (target,))


def test_the_tiny_models_open_everywhere(tiny):
    for model in ("gemma4-moe", "gemma4-e4b", "qwen35-moe"):
        plan("affine4", *TARGETS, source=tiny(model))


def test_an_unknown_target():
    with pytest.raises(UsageError, match="unknown --target 'mlx-ml'") as error:
        plan("affine4", "mlx-ml")
    assert "did you mean 'mlx-lm'" in str(error.value)
