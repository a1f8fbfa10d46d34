"""Put a tiny checkpoint together: weights, config, and every file that a real source comes with."""

from __future__ import annotations

from pathlib import Path

from convx.testing.tiny import gemma4, qwen35
from convx.testing.tiny.sizes import (
    GEMMA4_E4B,
    GEMMA4_MOE,
    QWEN35_MOE,
    Gemma4Sizes,
    Qwen35Sizes,
    Size,
    sized,
)
from convx.testing.tiny.store import LICENSE, write_json, write_weights
from convx.testing.tiny.weights import Weights

MODELS: dict[str, Gemma4Sizes | Qwen35Sizes] = {
    "gemma4-moe": GEMMA4_MOE,
    "gemma4-e4b": GEMMA4_E4B,
    "qwen35-moe": QWEN35_MOE,
}
LAYOUTS = ("hub", "transformers5")
"""`hub`: as published by the models' makers. `transformers5`: as transformers 5 saves them again."""

_SHARDS = {"hub": 1, "transformers5": 3}


def make_tiny(
    out: Path,
    model: str,
    layout: str = "hub",
    *,
    seed: int = 0,
    shards: int | None = None,
    std: float = 0.05,
    **sizes: Size,
) -> Path:
    """Write a random checkpoint of kind `model` to the folder `out` and return `out`.

    `shards` defaults to one file for `hub`, three and an index for `transformers5`. `sizes` are fields of
    `Gemma4Sizes` or `Qwen35Sizes`. Weights depend on `seed`, `std`, the sizes and their names alone: both
    layouts hold the same numbers. Raises ValueError for a model, layout or size that does not exist.
    """
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}; there are {', '.join(MODELS)}")
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
    weights = Weights(seed, std)
    out.mkdir(parents=True, exist_ok=True)
    defaults = MODELS[model]
    saved_again = layout == "transformers5"
    if isinstance(defaults, Gemma4Sizes):
        config = gemma4.build(out, weights, sized(defaults, sizes), saved_again)
    else:
        config = qwen35.build(out, weights, sized(defaults, sizes), saved_again)
    write_json(out / "config.json", config)
    write_weights(out, weights.tensors, _SHARDS[layout] if shards is None else shards)
    (out / "LICENSE").write_text(LICENSE, encoding="utf-8")
    return out
