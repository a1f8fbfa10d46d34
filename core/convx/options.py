"""What the user asked for, as one value that is handed to the hooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from convx.dtypes import DType


@dataclass(frozen=True)
class Options:
    """Choices that change the output. The same options and source give the same bytes."""

    modality: Literal["all", "text"] = "all"
    """`text` drops vision and audio towers, and makes config, processor and template agree."""
    mtp: Literal["drop", "keep", "split"] = "drop"
    """Multi-token-prediction layers: left out, kept with the model, or written to a file of their own."""
    shared_kv: Literal["drop", "keep"] = "drop"
    """Key and value projections of layers that reuse another layer's cache, which loaders ignore."""
    dtype: DType | None = None
    """Type of unquantized weights and of affine scales; None takes the config's."""
    tensor_overrides: tuple[tuple[str, str], ...] = ()
    """(regular expression, SPEC) pairs; the last that matches a module's path wins."""
    settings: tuple[tuple[str, str], ...] = ()
    """(name, value) pairs for the recipe's parameters."""
    generation: tuple[tuple[str, Any], ...] = ()
    """(key, value) pairs written into `generation_config.json`."""
    imatrix: str | None = None
    """Path of an importance matrix; folds activation scales into the weights."""
    allow_nonfinite: bool = False
    """Write NaN and Inf weights instead of stopping at them."""
    requantize: bool = False
    """Accept a source that is quantized already: decode it first."""
    base_model: str | None = None
    license: str | None = None
    language: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    """Loaders that the result must open in; checked when the plan is made."""
    plugins: tuple[str, ...] = field(default=())
    """Local plugin files."""
