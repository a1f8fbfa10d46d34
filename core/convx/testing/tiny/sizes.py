"""The numbers that a tiny checkpoint is made from; any of them is a keyword of `make_tiny`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

Size = int | bool | str | None
S = TypeVar("S", "Gemma4Sizes", "Qwen35Sizes")

# Last axes are multiples of 64 where the real models' are. Where those are not (the vision MLP of
# Gemma 4 26B and of Qwen3.5: 4304 = 16 x 269), they are multiples of 16 only; 192 is not one of 128.


@dataclass(frozen=True)
class Gemma4Sizes:
    """Gemma 4. Without experts it is dense; with `per_layer` > 0 it is of the E2B/E4B kind."""

    vocab: int = 320
    hidden: int = 128
    intermediate: int = 192
    layers: int = 4
    full_every: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    global_head_dim: int = 64
    global_kv_heads: int | None = 1
    """None: as many as `kv_heads`, and full-attention layers have a v_proj (E2B, E4B)."""
    sliding_window: int = 64
    experts: int = 8
    top_k: int = 2
    moe_intermediate: int = 64
    per_layer: int = 0
    """Width of the per-layer embeddings."""
    kv_shared_layers: int = 0
    shared_kv: bool | None = None
    """Whether layers that share KV still hold k/v/k_norm; None: as the layout's real sources do."""
    double_wide: bool = False
    """Whether the MLP of layers that share KV is twice as wide (E2B)."""
    vision_hidden: int = 64
    vision_intermediate: int = 80
    vision_layers: int = 2
    vision_heads: int = 4
    position_embeddings: int = 128
    clipped: bool = False
    """Whether the towers' linears are clipped (E2B, E4B) rather than the vision output standardized."""
    audio_layers: int = 0
    audio_hidden: int = 64
    audio_heads: int = 4
    audio_output: int = 128


GEMMA4_MOE = Gemma4Sizes()
GEMMA4_E4B = Gemma4Sizes(
    layers=6,
    full_every=3,
    heads=2,
    kv_heads=1,
    global_kv_heads=None,
    experts=0,
    per_layer=64,
    kv_shared_layers=3,
    vision_intermediate=128,
    clipped=True,
    audio_layers=2,
)


@dataclass(frozen=True)
class Qwen35Sizes:
    """Qwen3.5 MoE: DeltaNet layers, a full-attention layer now and then, and a vision tower."""

    vocab: int = 320
    hidden: int = 128
    layers: int = 4
    full_every: int = 4
    heads: int = 2
    kv_heads: int = 1
    head_dim: int = 64
    linear_key_heads: int = 2
    linear_value_heads: int = 4
    linear_head_dim: int = 32
    conv_kernel: int = 4
    experts: int = 8
    top_k: int = 2
    moe_intermediate: int = 64
    vision_hidden: int = 64
    vision_intermediate: int = 80
    vision_layers: int = 2
    vision_heads: int = 4
    position_embeddings: int = 64
    mtp: bool = False
    """Whether the source has a multi-token prediction block; the `transformers5` layout only claims one."""
    state_dtype: str = "bfloat16"
    """Type of A_log and dt_bias: `bfloat16` or `float32` (which transformers would save as bfloat16)."""


QWEN35_MOE = Qwen35Sizes()


def sized(defaults: S, changes: dict[str, Size]) -> S:
    """`defaults` with `changes`. Raises ValueError for a name that is not a size of this model."""
    legal = [field.name for field in fields(defaults)]
    if unknown := sorted(set(changes) - set(legal)):
        raise ValueError(f"unknown size {', '.join(unknown)}; this model has {', '.join(legal)}")
    values: dict[str, Any] = dict(changes)
    return replace(defaults, **values)


def layer_types(layers: int, full_every: int, other: str) -> list[str]:
    """One name a layer: `full_attention` every `full_every` layers and at the end, `other` elsewhere."""
    last = layers - 1
    return ["full_attention" if (i + 1) % full_every == 0 or i == last else other for i in range(layers)]
