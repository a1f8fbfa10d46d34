"""The MXFP4 format: OCP Microscaling Formats (MX) v1.0, elements E2M1, scales E8M0, groups of 32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convx import backend
from convx.dtypes import F32, U8, U32, DType
from convx.formats import Array, Format, Part

GROUP = 32
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""E2M1: what the codes 0-7 stand for; codes 8-15 are their negatives (MX v1.0, table 5)."""


@dataclass(frozen=True)
class Mxfp4(Format):
    """Stored as `weight` (8 codes a U32, the first lowest) and `scales` (U8: 2^(byte - 127))."""

    mode: str = "mxfp4"
    bits: int = 4
    group_size: int = GROUP

    group_sizes: ClassVar[tuple[int, ...]] = (GROUP,)

    @property
    def name(self) -> str:
        return "mxfp4"

    def parts(self, columns: int, dtype: DType) -> tuple[Part, ...]:
        return (Part("weight", U32, columns // 8), Part("scales", U8, columns // GROUP))

    def encode(self, tile: Array) -> tuple[Array, ...]:
        if not backend.uses_numba():
            return backend.encode_with_mlx(tile, self)
        from convx_mxfp4 import kernels

        tile = backend.checked_tile(tile, self)
        words, scales = backend.empty_parts(tile, self)
        kernels.encode(tile, words.reshape(-1), scales.reshape(-1))
        return words, scales

    def decode(self, parts: tuple[Array, ...]) -> Array:
        words, scales = parts
        pairs = _PAIRS[np.ascontiguousarray(words).view(np.uint8)]
        with np.errstate(over="ignore", invalid="ignore"):
            groups = pairs.reshape(*scales.shape, GROUP) * e8m0_values(scales)[..., None]
        return np.asarray(groups.reshape(len(words), scales.shape[1] * GROUP), F32)


def e8m0_values(scales: Array) -> Array:
    """E8M0 bytes -> float32 2^(byte - 127); 255, no number in MX, gives infinity as in mlx."""
    with np.errstate(over="ignore"):
        return np.asarray(np.ldexp(np.float32(1), scales.astype(np.int32) - 127), F32)


def _pairs() -> Array:
    """(256, 2) float32: the two values in a byte, low nibble first."""
    values = np.array([*MAGNITUDES, *(-m for m in MAGNITUDES)], F32)
    byte = np.arange(256)
    return np.stack([values[byte & 15], values[byte >> 4]], axis=1)


_PAIRS = _pairs()
