"""Encoded bytes equal those of mx.quantize, decoded values those of mx.dequantize: the formats' contract."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convx import backend
from convx.dtypes import BF16, F16, F32

from .strategies import AFFINE_FORMATS, DTYPES, FLOAT_FORMATS, FORMATS, KINDS, make_tile, tiles

pytestmark = pytest.mark.skipif(not backend.has_numba(), reason="compares the compiled loops with mlx")

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, print_blob=True)


@pytest.fixture(autouse=True)
def _compiled_loops(monkeypatch):
    monkeypatch.setenv("CONVX_BACKEND", "numba")


def assert_identical(format_, tile):
    fast, reference = format_.encode(tile), backend.encode_with_mlx(tile, format_)
    for part, a, b in zip(format_.parts(tile.shape[1], tile.dtype), fast, reference, strict=True):
        assert a.dtype == b.dtype == part.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes(), f"{format_.spec} {tile.dtype} {part.suffix}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format_", FLOAT_FORMATS, ids=lambda f: f.spec)
@given(data=st.data())
@settings(QUIET, max_examples=40)
def test_float_formats(format_, dtype, data):
    assert_identical(format_, data.draw(tiles(format_, dtype)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format_", AFFINE_FORMATS, ids=lambda f: f.spec)
@given(data=st.data())
@settings(QUIET, max_examples=12)
def test_affine(format_, dtype, data):
    assert_identical(format_, data.draw(tiles(format_, dtype)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", [*KINDS, "bits"])
def test_every_kind_over_every_scale(kind, dtype):
    """One tile a kind, with more groups than the loops hold at a time."""
    tile = np.concatenate([make_tile(kind, dtype, (40, 384), 7, ordinary=o) for o in (True, False)])
    for format_ in (*FLOAT_FORMATS, *AFFINE_FORMATS[::4]):
        assert_identical(format_, tile)


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize("format_", FLOAT_FORMATS, ids=lambda f: f.spec)
def test_scale_of_every_magnitude(format_, dtype):
    """The scale depends only on the largest magnitude: all of them are tried."""
    patterns = np.arange(1 << 15, dtype=np.uint16).view(dtype)
    patterns = patterns[np.isfinite(patterns.astype(F32))]
    tile = np.zeros((patterns.size, format_.group_size), dtype)
    tile[:, 3] = patterns
    scales = format_.encode(tile)[1]
    rows = np.random.default_rng(0).permutation(patterns.size)[:4000]
    for start in (0, patterns.size - 4000):
        some = np.concatenate([rows, np.arange(start, start + 4000)])
        assert np.array_equal(scales[some], backend.encode_with_mlx(tile[some], format_)[1])


@pytest.mark.parametrize("dtype", [BF16, F16], ids=str)
@pytest.mark.parametrize("format_", FLOAT_FORMATS, ids=lambda f: f.spec)
def test_code_of_every_magnitude_below_a_maximum(format_, dtype):
    for largest in (0.061, 3.0):
        amax = np.asarray(largest, dtype).view(np.uint16)
        magnitudes = np.arange(int(amax) + 1, dtype=np.uint16)[:: 2 if format_.bits == 4 else 1]
        bits = np.concatenate([magnitudes, magnitudes | 0x8000])
        body = np.resize(bits, (-(-bits.size // (format_.group_size - 1)), format_.group_size - 1))
        tile = np.concatenate([body, np.full((len(body), 1), amax)], axis=1).astype(np.uint16).view(dtype)
        assert_identical(format_, tile)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format_", FORMATS, ids=lambda f: f.spec)
@given(data=st.data())
@settings(QUIET, max_examples=1500)
def test_many(format_, dtype, data):
    assert_identical(format_, data.draw(tiles(format_, dtype)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format_", FORMATS, ids=lambda f: f.spec)
@given(data=st.data())
@settings(QUIET, max_examples=4)
def test_decode(format_, dtype, data):
    parts = format_.encode(data.draw(tiles(format_, dtype)))
    decoded = format_.decode(parts)
    assert decoded.dtype == F32
    np.testing.assert_array_equal(decoded, backend.decode_with_mlx(parts, format_))


@pytest.mark.parametrize("format_", FLOAT_FORMATS, ids=lambda f: f.spec)
def test_decode_of_any_parts(format_):
    """Every scale byte and code, also those that no encoder writes."""
    rng = np.random.default_rng(0)
    weight, scales = format_.parts(format_.group_size * 256, F32)
    words = rng.integers(0, 2**32, (4, weight.columns), dtype=np.uint32)
    every = np.broadcast_to(np.arange(256, dtype=np.uint8), (4, scales.columns))
    decoded = format_.decode((words, every))
    np.testing.assert_array_equal(decoded, backend.decode_with_mlx((words, every), format_))


@pytest.mark.parametrize("format_", AFFINE_FORMATS, ids=lambda f: f.spec)
def test_decode_rounds_less_than_mlx_in_the_models_type(format_):
    """mx.dequantize in bf16 rounds the product and the sum; ours is within those two roundings of it."""
    import mlx.core as mx

    words, scales, biases = format_.encode(make_tile("normal", BF16, (8, 256), 0))
    options = {"group_size": format_.group_size, "bits": format_.bits, "mode": "affine"}
    rough = mx.dequantize(*map(backend.to_mlx, (words, scales, biases)), **options)
    exact = format_.decode((words, scales, biases))
    product = np.abs(exact - np.repeat(biases.astype(F32), format_.group_size, axis=1))
    bound = (product + np.abs(exact)) * 2.0**-8 * 1.01
    assert (np.abs(backend.from_mlx(rough).astype(F32) - exact) <= bound + 1e-12).all()
