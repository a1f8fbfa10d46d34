"""Errors of stored tensors against their source."""

from __future__ import annotations

import json

import numpy as np
import pytest

from convx.errors import MeasureError
from convx.measure import tensors
from convx.measure.tensors import group_range, measure_tensors, measure_with_roles
from convx.plugins import Formats


def by_name(rows):
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize(
    ("fmt", "expected"), [("affine4", 0.091), ("nvfp4", 0.103), ("mxfp4", 0.119), ("mxfp8", 0.0265)]
)
def test_errors_on_gaussian_weights_are_those_of_the_formats(tiny, converted, fmt, expected):
    found = measure_with_roles(converted("gemma4-moe", "hub", fmt), tiny("gemma4-moe"))
    assert found["roles"]["expert-up"]["relative_error"] == pytest.approx(expected, rel=0.1)
    assert found["roles"]["norm"] == {
        "elements": found["roles"]["norm"]["elements"], "relative_error": 0, "snr_db": None, "clipped": None
    }  # fmt: skip


def test_a_row_is_what_mlx_itself_decodes(tiny, converted):
    """Against `mx.dequantize` in float32, of the loader's own arrays."""
    import mlx.core as mx

    source, path = tiny("qwen35-moe"), converted("qwen35-moe", "hub", "affine8")
    name = "language_model.lm_head"
    stored = mx.load(str(path / "model.safetensors"))
    scales, biases = (stored[f"{name}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
    decoded = np.array(mx.dequantize(stored[f"{name}.weight"], scales, biases, group_size=64, bits=8))
    wanted = np.array(mx.load(str(source / "model.safetensors"))["lm_head.weight"].astype(mx.float32))
    row = by_name(measure_tensors(path, source))[f"{name}.weight"]
    error = float(np.sqrt(((wanted - decoded) ** 2).sum() / (wanted**2).sum()))
    assert row["relative_error"] == pytest.approx(error, rel=1e-4)
    assert row["snr_db"] == pytest.approx(-20 * np.log10(error), rel=1e-4)
    assert (row["role"], row["format"]) == ("lm-head", "affine8:g64")


def test_small_tiles_give_the_same(tiny, converted, monkeypatch):
    args = converted("gemma4-moe", "hub", "nvfp4"), tiny("gemma4-moe")
    whole = measure_tensors(*args)
    monkeypatch.setattr(tensors, "TILE", 256)
    for a, b in zip(whole, measure_tensors(*args), strict=True):
        assert (a["name"], a["clipped"]) == (b["name"], b["clipped"])
        assert a["relative_error"] == pytest.approx(b["relative_error"], rel=1e-9)


def test_an_unquantized_conversion_is_exact(tiny, converted):
    rows = measure_tensors(converted("gemma4-moe", "transformers5", "bf16"), tiny("gemma4-moe", "transformers5"))
    assert {row["relative_error"] for row in rows} == {0.0}


@pytest.mark.parametrize("name", ["affine2", "affine3", "affine4", "affine6", "affine8", "mxfp4", "mxfp8", "nvfp4"])
def test_the_range_of_a_group_is_that_of_all_its_codes(name):
    """Decode every code, one after the other, and compare with the few that `group_range` looks at."""
    form = Formats()[name]
    tile = np.random.default_rng(0).normal(size=(4, 128)).astype(np.float32)
    parts = list(form.encode(tile))
    decoded = form.decode(tuple(parts)).reshape(4, -1, form.group_size)
    low, high = group_range(parts, form)
    assert np.all(decoded.max(-1) <= high) and np.all(decoded.min(-1) >= low)
    if form.bits in {2, 4, 8}:
        words = [int(f"{code:0{form.bits}b}" * (32 // form.bits), 2) for code in range(2**form.bits)]
        every = [form.decode((np.full_like(parts[0], word), *parts[1:])) for word in words]
        values = np.stack([v.reshape(4, -1, form.group_size)[..., 0] for v in every])
        assert np.array_equal(np.nanmax(values, axis=0), high)
        assert np.array_equal(np.nanmin(values, axis=0), low)


def test_clipped_counts_what_lies_beyond_its_group():
    form = Formats()["mxfp4"]
    tile = np.full((1, 32), 1.0, np.float32)
    tile[0, 0] = 6.0
    parts = list(form.encode(tile))
    assert tensors._clipped(tile, parts, form) == 0
    tile[0, :3] = (6.5, -7.0, 6.01)  # the last is within the margin
    assert tensors._clipped(tile, parts, form) == 2


def test_infinities_of_the_source_count_as_nothing():
    sums = tensors._compare_tile(np.array([[np.inf, 3.0, 4.0]], np.float32), [np.array([[1.0, 3.0, 4.5]])], None)
    assert sums.figures()["relative_error"] == pytest.approx(0.1)


def test_another_source_is_refused(tiny, converted):
    with pytest.raises(MeasureError, match="stored as"):
        measure_tensors(converted("gemma4-moe", "hub", "mxfp8"), tiny("gemma4-moe", hidden=64))


def test_folded_weights_need_their_importance_matrix(own_copy, tiny):
    path = own_copy("gemma4-moe", "hub", "affine4")
    record = json.loads((path / "convx.json").read_text())
    record["calibration"] = {"imatrix": "importance.gguf", "sha256": "0" * 64, "data_sha256": []}
    (path / "convx.json").write_text(json.dumps(record))
    with pytest.raises(MeasureError, match=r"importance\.gguf"):
        measure_tensors(path, tiny("gemma4-moe"))
    with pytest.raises(MeasureError, match="not the importance matrix"):
        measure_tensors(path, tiny("gemma4-moe"), imatrix=path / "config.json")


def test_verify_prints_errors_against_the_source(tiny, converted, capsys):
    from convx.cli import run

    path = converted("gemma4-moe", "hub", "nvfp4")
    assert run(["verify", str(path), "--against", str(tiny("gemma4-moe")), "--no-checksums", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tensors"]
    assert {"name", "role", "format", "relative_error", "snr_db", "clipped"} <= set(rows[0])
