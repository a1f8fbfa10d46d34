"""Formats and awkward tiles for the property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from ml_dtypes import finfo

from convx.dtypes import BF16, F16, F32
from convx.formats import Format
from convx_affine.format import Affine
from convx_mxfp4.format import Mxfp4
from convx_mxfp8.format import Mxfp8
from convx_nvfp4.format import Nvfp4

WIDTHS = (2, 3, 4, 5, 6, 8)
FLOAT_FORMATS: tuple[Format, ...] = (Mxfp4(), Mxfp8(), Nvfp4())
AFFINE_FORMATS: tuple[Format, ...] = tuple(
    Affine(bits=bits, group_size=size) for bits in WIDTHS for size in sorted(Affine.group_sizes)
)
FORMATS = FLOAT_FORMATS + AFFINE_FORMATS
DTYPES = (BF16, F16, F32)

# Midpoints, values and limits of E2M1 and E4M3, and their neighbours.
NOTABLE = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7.5, 8.5, 17, 19, 432, 448, 464, 480]
NOTABLE += [2.0**-n for n in range(5, 12)] + [1.5 * 2.0**-n for n in range(5, 12)]


def limits(dtype):
    """log2 of the least and the largest positive number of a float type."""
    return np.log2(float(finfo(dtype).smallest_subnormal)), np.log2(float(finfo(dtype).max))


def _normal(rng, shape, scale):
    return rng.standard_normal(shape) * scale


def _uniform(rng, shape, scale):
    return rng.uniform(-1, 1, shape) * scale


def _lognormal(rng, shape, scale):
    return rng.lognormal(0, 4, shape) * rng.choice([-1, 1], shape) * scale


def _negative(rng, shape, scale):
    return -np.abs(rng.standard_normal(shape)) * scale


def _positive_offset(rng, shape, scale):
    return (1 + rng.uniform(0, 0.1, shape)) * scale


def _constant(rng, shape, scale):
    return np.broadcast_to(scale * rng.choice([-1, 0, 1], (shape[0], 1)), shape)


def _zeros(rng, shape, scale):
    return rng.choice([0.0, -0.0], shape)


def _outlier(rng, shape, scale):
    w = rng.standard_normal(shape) * scale * 1e-3
    signed = scale[:, 0] * rng.choice([-1, 1], shape[0])
    w[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = signed
    return w


def _one_nonzero(rng, shape, scale):
    w = np.zeros(shape)
    w[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = scale[:, 0]
    return w


def _ties(rng, shape, scale):
    return rng.integers(-48, 49, shape) / 8 * np.exp2(np.round(np.log2(scale)))


def _notable(rng, shape, scale):
    return rng.choice(NOTABLE, shape) * rng.choice([-1, 1], shape) * np.exp2(np.round(np.log2(scale)))


def _tiny(rng, shape, scale):
    return rng.choice([0.0, -0.0, 1e-8, -1e-8, 1e-7, 1e-40, -1e-40, 6e-8, -3e-5], shape)


KINDS = {
    f.__name__.strip("_"): f
    for f in (
        _normal,
        _uniform,
        _lognormal,
        _negative,
        _positive_offset,
        _constant,
        _zeros,
        _outlier,
        _one_nonzero,
        _ties,
        _notable,
        _tiny,
    )
}


def make_tile(kind, dtype, shape, seed, *, ordinary=True):
    """A finite tile. Scales differ by row: those of ordinary weights, or any that the type can hold."""
    rng = np.random.default_rng(seed)
    if kind == "bits":
        return _random_bits(rng, dtype, shape)
    low, high = (-14, 4) if ordinary else limits(dtype)
    scale = np.exp2(rng.uniform(low, high, (shape[0], 1)))
    largest = float(finfo(dtype).max)
    return np.clip(KINDS[kind](rng, shape, scale), -largest, largest).astype(dtype)


def _random_bits(rng, dtype, shape):
    """Every finite bit pattern alike: all signs and exponents in one group."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    tile = rng.integers(0, np.iinfo(unsigned).max, shape, dtype=unsigned, endpoint=True).view(dtype)
    with np.errstate(invalid="ignore"):
        tile[~np.isfinite(tile.astype(np.float64))] = 0
    return tile


@st.composite
def tiles(draw, format_, dtype):
    """A tile of some rows and groups, down to one of each."""
    shape = (draw(st.integers(1, 5)), format_.group_size * draw(st.integers(1, 5)))
    kind = draw(st.sampled_from([*KINDS, "bits"]))
    return make_tile(kind, dtype, shape, draw(st.integers(0, 2**32 - 1)), ordinary=draw(st.booleans()))
