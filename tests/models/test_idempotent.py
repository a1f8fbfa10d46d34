"""Sanitizing what is sanitized changes nothing: a bf16 output converts to itself, byte for byte."""

from __future__ import annotations

import pytest
from support import LAYOUTS, MODELS, run_convert


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_converting_a_bf16_output_again_gives_its_bytes(converted, tmp_path, model, layout):
    first = converted(model, layout, "bf16")
    second = run_convert(first, tmp_path / "again", "bf16")[0].path
    for path in sorted(first.iterdir()):
        if path.name not in {"convx.json", "README.md"}:
            assert path.read_bytes() == (second / path.name).read_bytes(), path.name


@pytest.mark.parametrize("model", MODELS)
def test_quantizing_a_bf16_output_gives_the_bytes_of_the_source(converted, tmp_path, model):
    direct = converted(model, "hub", "nvfp4")
    again = run_convert(converted(model, "hub", "bf16"), tmp_path / "again", "nvfp4")[0].path
    for name in ("model.safetensors", "config.json"):
        assert (direct / name).read_bytes() == (again / name).read_bytes()
