"""What every format promises besides its bytes: shapes, refusals, independent rows, bounded error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from convx import backend
from convx.dtypes import BF16, F32
from convx.errors import RecipeError, TensorError
from convx.formats import Format
from convx_affine.format import Affine
from convx_mxfp4.format import Mxfp4
from convx_mxfp8.format import Mxfp8
from convx_nvfp4.format import Nvfp4

from .strategies import AFFINE_FORMATS, DTYPES, FLOAT_FORMATS, FORMATS, WIDTHS, make_tile

BACKENDS = ["mlx"] + ["numba"] * backend.has_numba()
all_formats = pytest.mark.parametrize("format_", FORMATS, ids=lambda f: f.spec)
some_formats = pytest.mark.parametrize("format_", [*FLOAT_FORMATS, *AFFINE_FORMATS[1::3]], ids=str)


@pytest.fixture(params=BACKENDS, autouse=True)
def _backend(request, monkeypatch):
    monkeypatch.setenv("CONVX_BACKEND", request.param)


@all_formats
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parts_are_as_declared(format_, dtype):
    for rows in (0, 1, 3):
        tile = make_tile("normal", dtype, (rows, 128), 0)
        declared = format_.parts(128, dtype)
        encoded = format_.encode(tile)
        assert [(a.dtype, a.shape) for a in encoded] == [(p.dtype, (rows, p.columns)) for p in declared]
        assert format_.decode(encoded).shape == tile.shape


@all_formats
def test_names_of_parts(format_):
    suffixes = [p.suffix for p in format_.parts(128, BF16)]
    assert suffixes == ["weight", "scales", "biases"][: 3 if format_.mode == "affine" else 2]


def test_names_and_specs():
    assert [f.spec for f in FLOAT_FORMATS] == ["mxfp4", "mxfp8", "nvfp4"]
    assert [Affine(bits=b).spec for b in WIDTHS] == [f"affine{b}:g64" for b in WIDTHS]
    assert Nvfp4().config_entry() == {"group_size": 16, "bits": 4, "mode": "nvfp4"}


@all_formats
def test_refusals(format_):
    assert format_.refusal((2, 3, format_.group_size)) is None
    assert "divisible" in format_.refusal((2, format_.group_size + 8))
    assert "two axes" in format_.refusal((format_.group_size,))
    with pytest.raises(TensorError, match="divisible"):
        format_.encode(np.zeros((2, format_.group_size + 8), BF16))
    with pytest.raises(TensorError, match="cast it first"):
        format_.encode(np.zeros((2, format_.group_size), np.float64))


def test_group_sizes():
    assert Affine(bits=4).regrouped(32) == Affine(bits=4, group_size=32)
    for format_ in FLOAT_FORMATS:
        with pytest.raises(RecipeError):
            format_.regrouped(64)


@some_formats
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_are_independent(format_, dtype):
    tile = make_tile("normal", dtype, (37, 512), 3)
    whole = format_.encode(tile)
    for cuts in ([1, 2, 5, 36], [16]):
        pieces = [format_.encode(piece) for piece in np.split(tile, cuts)]
        for part, column in zip(whole, zip(*pieces, strict=True), strict=True):
            assert part.tobytes() == np.concatenate(column).tobytes()


@some_formats
def test_any_memory_layout(format_):
    tile = make_tile("normal", BF16, (6, 256), 1)
    expected = [p.tobytes() for p in format_.encode(tile)]
    frozen = tile.copy()
    frozen.flags.writeable = False
    strided = np.repeat(tile, 2, axis=1)[:, ::2]
    for other in (frozen, strided, np.asfortranarray(tile)):
        assert [p.tobytes() for p in format_.encode(other)] == expected


@some_formats
def test_threads(format_):
    tiles = [make_tile("normal", BF16, (8, 512), seed) for seed in range(12)]
    expected = [format_.encode(t) for t in tiles]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(format_.encode, tiles), expected, strict=True):
            assert all(a.tobytes() == b.tobytes() for a, b in zip(got, want, strict=True))


@all_formats
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_do_not_crash(format_, dtype):
    tile = np.zeros((4, 128), dtype)
    tile[0, 3], tile[1, 5], tile[2, 7], tile[3] = np.nan, np.inf, -np.inf, np.nan
    assert len(format_.encode(tile)) == len(format_.parts(128, dtype))


ERRORS: dict[Format, float] = {
    Affine(bits=4): 0.091,
    Affine(bits=8): 0.0054,
    Nvfp4(): 0.103,
    Mxfp4(): 0.119,
    Mxfp8(): 0.0265,
}
"""Relative root mean square error on Gaussian weights of deviation 0.02, which matters: the scales of MX are
powers of two, and those of NVFP4 are subnormal there."""


@pytest.mark.parametrize("format_", ERRORS, ids=lambda f: f.spec)
def test_error_on_gaussian_weights(format_):
    weights = np.random.default_rng(0).standard_normal((64, 4096), F32) * np.float32(0.02)
    error = format_.decode(format_.encode(weights)) - weights
    relative = np.sqrt(np.mean(error**2) / np.mean(weights**2))
    assert relative == pytest.approx(ERRORS[format_], rel=0.03)
