"""Affine 4-bit whose range is clipped where that lowers the squared error: stored as affine, encoded with more care.

Loaders need to know nothing of it: the parts and the config entry are those of mode `affine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convx import Format, Part, hookimpl

_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Clipped4(Format):
    mode: str = "affine"
    bits: int = 4
    group_size: int = 64
    group_sizes: ClassVar[tuple[int, ...]] = (64, 32, 128)

    @property
    def name(self) -> str:
        return "clipped4"

    def parts(self, columns: int, dtype: np.dtype[Any]) -> tuple[Part, ...]:
        groups = columns // self.group_size
        return (
            Part("weight", np.dtype(np.uint32), columns // 8),
            Part("scales", dtype, groups),
            Part("biases", dtype, groups),
        )

    def encode(self, tile: Array) -> tuple[Array, ...]:
        groups = tile.astype(np.float32).reshape(len(tile), -1, self.group_size)
        best = [np.full(groups.shape[:2], np.inf, np.float32), None, None, None]
        for clip in _CLIPS:
            codes, scales, biases = _affine(groups, clip, tile.dtype)
            error = ((codes * scales[..., None] + biases[..., None] - groups) ** 2).sum(-1)
            better = error < best[0]
            if best[1] is None:
                best = [error, codes, scales, biases]
                continue
            best[0] = np.where(better, error, best[0])
            best[1] = np.where(better[..., None], codes, best[1])
            best[2], best[3] = np.where(better, scales, best[2]), np.where(better, biases, best[3])
        _, codes, scales, biases = best
        return _packed(codes.reshape(len(tile), -1)), scales.astype(tile.dtype), biases.astype(tile.dtype)

    def decode(self, parts: tuple[Array, ...]) -> Array:
        packed, scales, biases = parts
        codes = (packed[..., None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
        codes = codes.reshape(len(packed), -1, self.group_size).astype(np.float32)
        values = codes * scales.astype(np.float32)[..., None] + biases.astype(np.float32)[..., None]
        return values.reshape(len(packed), -1)


def _affine(groups: Array, clip: float, dtype: np.dtype[Any]) -> tuple[Array, Array, Array]:
    """Codes 0..15 of groups (n, g, k), with scale and bias (n, g) as they will be stored."""
    low, high = groups.min(-1) * clip, groups.max(-1) * clip
    scales = np.maximum((high - low) / 15, 1e-7).astype(dtype).astype(np.float32)
    biases = low.astype(dtype).astype(np.float32)
    codes = np.clip(np.rint((groups - biases[..., None]) / scales[..., None]), 0, 15)
    return codes, scales, biases


def _packed(codes: Array) -> Array:
    lanes = codes.astype(np.uint32).reshape(len(codes), -1, 8)
    return (lanes << (4 * np.arange(8, dtype=np.uint32))).sum(-1, dtype=np.uint32)


@hookimpl
def convx_format() -> Format:
    return Clipped4()
