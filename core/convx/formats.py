"""What a number format is: the parts it stores for a weight, and how a tile is encoded and decoded.

Quantization groups run along the last axis, so each row stands alone and any range of rows (a tile)
can be encoded by itself. A format plugin gives one `Format` through the hook `convx_format`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from convx.dtypes import DType
from convx.errors import RecipeError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """One stored array of an encoded weight: `MODULE.suffix`, of the weight's leading axes plus `columns`."""

    suffix: str
    dtype: DType
    columns: int


@dataclass(frozen=True)
class Format(ABC):
    """A number format at one width and group size.

    `mode`, `bits` and `group_size` are the loader's own words: they are what `config.json` says.
    """

    mode: str
    bits: int
    group_size: int

    group_sizes: ClassVar[tuple[int, ...]]
    """Group sizes that the stock loaders accept for this mode, best first when one must be chosen."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The word on the command line, without the group size: `nvfp4`, `affine4`."""

    @abstractmethod
    def parts(self, columns: int, dtype: DType) -> tuple[Part, ...]:
        """The arrays stored for a weight whose last axis is `columns` long and whose type is `dtype`."""

    @abstractmethod
    def encode(self, tile: Array) -> tuple[Array, ...]:
        """Encode rows: (rows, columns) of bf16, fp16 or fp32 -> one array (rows, part.columns) a part.

        The bytes equal those of `mx.quantize` for the same rows. Safe to call from several threads.
        """

    @abstractmethod
    def decode(self, parts: tuple[Array, ...]) -> Array:
        """Rows of the stored parts -> (rows, columns) float32, the values that the loader computes with."""

    @property
    def spec(self) -> str:
        """Canonical SPEC: `affine4:g64`; modes with one legal group size leave it out."""
        return self.name if len(self.group_sizes) == 1 else f"{self.name}:g{self.group_size}"

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Why a weight of this shape cannot be stored so, or None if it can."""
        if len(shape) < 2:
            return f"{self.name} needs at least two axes, not {len(shape)}"
        if shape[-1] % self.group_size:
            return f"last axis {shape[-1]} is not divisible by the group size {self.group_size}"
        return None

    def regrouped(self, group_size: int) -> Self:
        """The same format at another group size. Raises RecipeError where the loaders refuse it."""
        if group_size not in self.group_sizes:
            legal = ", ".join(map(str, sorted(self.group_sizes)))
            raise RecipeError(f"{self.name} has no group size {group_size}", hint=f"legal: {legal}")
        return replace(self, group_size=group_size)

    def config_entry(self) -> dict[str, Any]:
        """What `config.json` says of a module stored so; `mode` always, since loaders default it to affine."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}
