"""Qwen3.5 weights: from the source's names and layouts to those of the MLX models.

The names follow mlx_vlm/models/qwen3_5_moe and mlx_lm/models/qwen3_5_moe, whose `sanitize` does the same to
whole arrays. Everything here is idempotent: names and layouts that are MLX's already stay.
"""

from __future__ import annotations

import re

from convx import Config, Options, Role, Tensor, split, stack
from convx_qwen35.roles import place

_EXPERT = re.compile(r"(.*\.mlp)\.experts\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")
_SHIFTED = (
    ".input_layernorm.weight", ".post_attention_layernorm.weight", "model.norm.weight", ".q_norm.weight",
    ".k_norm.weight",
)  # fmt: skip


def sanitize(weights: dict[str, Tensor], config: Config, options: Options) -> dict[str, Tensor]:
    kept = {name: t for name, t in weights.items() if _why_dropped(name, config, options) is None}
    shift = _is_source_layout(kept)
    out: dict[str, Tensor] = {}
    for name, tensor in _stacked_experts(kept).items():
        for new, value in _split_experts(_renamed(name), tensor).items():
            out[new] = _relaid(new, value, shift, config)
    return out


def explain(name: str, config: Config, options: Options) -> str | None:
    if _is_mtp(name) and options.mtp != "drop":
        return f"--mtp {options.mtp}: stored as in the source, for speculative decoding"
    return _why_dropped(name, config, options)


def _why_dropped(name: str, config: Config, options: Options) -> str | None:
    if _is_mtp(name) and options.mtp == "drop":
        return "multi-token prediction, left out by --mtp drop"
    if options.modality == "text" and place(_renamed(name), config).role in {Role.VISION, Role.PROJECTOR}:
        return "left out by --modality text"
    if name.endswith("lm_head.weight") and _tied(config):
        return "tied to the token embedding"
    if "rotary_emb" in name or name.endswith("position_ids"):
        return "computed by the loaders"
    return None


def _tied(config: Config) -> bool:
    text = config.get("text_config") or {}
    return bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))


def _is_mtp(name: str) -> bool:
    return name.startswith(("mtp.", "model.mtp."))


def _is_source_layout(weights: dict[str, Tensor]) -> bool:
    """Whether norms still lack their + 1: a torch conv1d is (C, 1, K), an MLX one (C, K, 1).

    The presence of MTP layers says nothing of it: 8 of 11 published conversions that went by them added
    the 1 twice (mlx-vlm#2114).
    """
    return any(name.endswith("conv1d.weight") and t.shape[-1] != 1 for name, t in weights.items())


def _renamed(name: str) -> str:
    if name.startswith("model.language_model.visual."):
        return "vision_tower." + name.removeprefix("model.language_model.visual.")
    if name.startswith("model.visual."):
        return "vision_tower." + name.removeprefix("model.visual.")
    if name.startswith("model.language_model."):
        return "language_model.model." + name.removeprefix("model.language_model.")
    if name.startswith("lm_head."):
        return "language_model." + name
    return name


def _stacked_experts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Experts saved one by one, stacked along a new first axis: (rows, columns) each -> (E, rows, columns)."""
    found: dict[tuple[str, str], dict[int, Tensor]] = {}
    out = {}
    for name, tensor in weights.items():
        match = None if _is_mtp(name) else _EXPERT.fullmatch(name)
        if match is None:
            out[name] = tensor
        else:
            found.setdefault((match[1], match[3]), {})[int(match[2])] = tensor
    for (prefix, projection), experts in found.items():
        out[f"{prefix}.switch_mlp.{projection}.weight"] = stack([experts[n] for n in sorted(experts)])
    return out


def _split_experts(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Fused experts (E, 2 x moe_intermediate, hidden): the first half of the rows is the gate's."""
    base, _, last = name.removesuffix(".weight").rpartition(".experts.")
    if _is_mtp(name) or not base:
        return {name: tensor}
    if last == "gate_up_proj":
        gate, up = split(tensor, 2, axis=-2)
        return {f"{base}.switch_mlp.gate_proj.weight": gate, f"{base}.switch_mlp.up_proj.weight": up}
    if last == "down_proj":
        return {f"{base}.switch_mlp.down_proj.weight": tensor}
    return {name: tensor}


def _relaid(name: str, tensor: Tensor, shift: bool, config: Config) -> Tensor:
    if _is_mtp(name):
        return tensor
    if name.endswith("conv1d.weight") and tensor.shape[-1] != 1:
        return tensor.moveaxis(2, 1)
    if name.endswith("patch_embed.proj.weight") and tensor.ndim == 5:
        channels = config["vision_config"].get("in_channels", 3)
        if tensor.shape[-1] != channels and tensor.shape[1] == channels:
            return tensor.transpose(0, 2, 3, 4, 1)
    if shift and tensor.ndim == 1 and name.startswith("language_model.") and name.endswith(_SHIFTED):
        return tensor + 1.0
    return tensor
