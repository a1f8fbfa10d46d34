"""The MXFP8 format: OCP Microscaling Formats (MX) v1.0, elements E4M3, scales E8M0, groups of 32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from convx import backend
from convx.dtypes import F32, U8, U32, DType
from convx.formats import Array, Format, Part

GROUP = 32


@dataclass(frozen=True)
class Mxfp8(Format):
    """Stored as `weight` (4 E4M3 bytes a U32, the first lowest) and `scales` (U8: 2^(byte - 127))."""

    mode: str = "mxfp8"
    bits: int = 8
    group_size: int = GROUP

    group_sizes: ClassVar[tuple[int, ...]] = (GROUP,)

    @property
    def name(self) -> str:
        return "mxfp8"

    def parts(self, columns: int, dtype: DType) -> tuple[Part, ...]:
        return (Part("weight", U32, columns // 4), Part("scales", U8, columns // GROUP))

    def encode(self, tile: Array) -> tuple[Array, ...]:
        if not backend.uses_numba():
            return backend.encode_with_mlx(tile, self)
        from convx_mxfp8 import kernels

        tile = backend.checked_tile(tile, self)
        words, scales = backend.empty_parts(tile, self)
        kernels.encode(tile, words.reshape(-1).view(np.uint8), scales.reshape(-1))
        return words, scales

    def decode(self, parts: tuple[Array, ...]) -> Array:
        words, scales = parts
        values = E4M3[np.ascontiguousarray(words).view(np.uint8)]
        with np.errstate(over="ignore", invalid="ignore"):
            groups = values.reshape(*scales.shape, GROUP) * e8m0_values(scales)[..., None]
        return np.asarray(groups.reshape(len(words), scales.shape[1] * GROUP), F32)


def e8m0_values(scales: Array) -> Array:
    """E8M0 bytes -> float32 2^(byte - 127); 255, no number in MX, gives infinity as in mlx."""
    with np.errstate(over="ignore"):
        return np.asarray(np.ldexp(np.float32(1), scales.astype(np.int32) - 127), F32)


E4M3: Array = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(F32)
"""(256,) float32: the values of E4M3 bytes."""
