"""Random weights, each drawn from its own name: the same tensor has the same values in every layout."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from convx.dtypes import BF16, DType

Array = np.ndarray[Any, Any]


class Weights:
    """Named tensors of a checkpoint under construction, bf16 unless said otherwise."""

    def __init__(self, seed: int, std: float) -> None:
        self.seed = seed
        self.std = std
        self.tensors: dict[str, Array] = {}

    def normal(self, name: str, *shape: int, center: float = 0.0, std: float | None = None) -> None:
        """N(center, std); `std` defaults to the checkpoint's."""
        spread = self.std if std is None else std
        self.put(name, center + spread * self._random(name).standard_normal(shape))

    def scale(self, name: str, *shape: int) -> None:
        """A multiplier near 1, never exactly 1: a norm's weight, for instance."""
        self.normal(name, *shape, center=1.0, std=0.1)

    def offset(self, name: str, *shape: int) -> None:
        """A number near 0, never all 0: a bias, for instance."""
        self.normal(name, *shape, std=0.1)

    def norm_offset(self, name: str, *shape: int) -> None:
        """The weight of a norm that multiplies by `1 + weight`: a multiple of 1/128 near 0.

        bf16 holds both such a weight and its sum with 1, so that tests see which of them is stored and how
        often 1 was added, not the rounding of the sum (up to 0.4 % in a real model).
        """
        self.put(name, np.round(12.8 * self._random(name).standard_normal(shape)) / 128)

    def uniform(self, name: str, low: float, high: float, *shape: int) -> None:
        self.put(name, self._random(name).uniform(low, high, shape))

    def put(self, name: str, values: Array, dtype: DType = BF16) -> None:
        self.tensors[name] = np.ascontiguousarray(values).astype(dtype).reshape(np.shape(values))

    def draw(self, name: str, low: float, high: float, *shape: int) -> Array:
        """Uniform float64 numbers that belong to `name`, to be transformed and `put`."""
        return self._random(name).uniform(low, high, shape)

    def _random(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(name.encode())])
