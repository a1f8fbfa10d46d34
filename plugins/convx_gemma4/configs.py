"""Gemma 4 configs: what transformers 5 leaves out put back, and towers taken out for text."""

from __future__ import annotations

from typing import Any

from convx import Config, Options

MULTIMODAL_KEYS = (
    "vision_config", "audio_config", "vision_soft_tokens_per_image", "image_token_id", "audio_token_id",
    "video_token_id", "boi_token_id", "eoi_token_id", "boa_token_id", "eoa_token_id", "eoa_token_index",
)  # fmt: skip


def sanitize(config: Config, options: Options) -> Config:
    """The config that mlx-lm and mlx-vlm read.

    transformers 5 saves `per_layer_config` in place of `global_head_dim` and `num_global_key_value_heads`,
    and no top-level `vocab_size`; mlx-lm takes its vocabulary from there alone (mlx_lm/models/gemma4.py).
    """
    out = dict(config)
    text = dict(out.get("text_config") or {})
    text = _without_per_layer(text)
    out["text_config"] = text
    if "vocab_size" in text:
        out.setdefault("vocab_size", text["vocab_size"])
    if "eoa_token_index" in out:
        out.setdefault("eoa_token_id", out["eoa_token_index"])
    if options.modality == "text":
        out = {k: v for k, v in out.items() if k not in MULTIMODAL_KEYS}
    return out


def _without_per_layer(text: dict[str, Any]) -> dict[str, Any]:
    per_layer = text.pop("per_layer_config", None)
    if not isinstance(per_layer, dict):
        return text
    for entry in per_layer.values():
        if "head_dim" in entry:
            text.setdefault("global_head_dim", entry["head_dim"])
        if "num_key_value_heads" in entry:
            text.setdefault("num_global_key_value_heads", entry["num_key_value_heads"])
    return text


def first_shared_layer(config: Config) -> int:
    """The first text layer that reuses the keys and values of an earlier one."""
    text = config["text_config"]
    return int(text["num_hidden_layers"]) - int(text.get("num_kv_shared_layers") or 0)
