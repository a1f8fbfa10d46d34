"""Gemma 4 weights: from the source's names and layouts to those of the MLX models.

The names follow mlx_vlm/models/gemma4 and mlx_lm/models/gemma4_text, whose `sanitize` does the same to
whole arrays. Everything here is idempotent: names and layouts that are MLX's already stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from convx import Config, Options, Tensor, split, stack
from convx_gemma4.configs import first_shared_layer

_CLIPS = re.compile(r"\.(input|output)_(min|max)$")
_SHARED = re.compile(r"language_model\.(?:model\.)?layers\.(\d+)\.self_attn\.(k_proj|v_proj|k_norm|v_norm)\b")
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight")
_TOWER = re.compile(r"^(?:model\.)?(vision_tower|embed_vision|audio_tower|embed_audio)\.")


def sanitize(weights: dict[str, Tensor], config: Config, options: Options) -> dict[str, Tensor]:
    kept = {name: t for name, t in weights.items() if _why_dropped(name, config, options) is None}
    out: dict[str, Tensor] = {}
    for name, tensor in _stacked_experts(kept).items():
        for new, value in _split_experts(_renamed(name), tensor).items():
            out[new] = _relaid(new, value)
    return out


def explain(name: str, config: Config, options: Options) -> str | None:
    shared = _shared_layer(name, config)
    if shared and options.shared_kv == "keep":
        return "kept on request, though loaders reuse an earlier layer's keys and values"
    return _why_dropped(name, config, options)


def with_shared_kv(shapes: Mapping[str, tuple[int, ...]], config: Config) -> dict[str, tuple[int, ...]]:
    """`shapes` and those of the k, v and k_norm of layers that share an earlier layer's."""
    text = config["text_config"]
    out = dict(shapes)
    for layer in range(first_shared_layer(config), text["num_hidden_layers"]):
        kind = text["layer_types"][layer]
        like = next(n for n, other in enumerate(text["layer_types"]) if other == kind)
        for name, shape in shapes.items():
            if (name.startswith(f"language_model.model.layers.{like}.self_attn.") and ".k_" in name) or (
                name.startswith(f"language_model.model.layers.{like}.self_attn.v_proj")
            ):
                out[name.replace(f"layers.{like}.", f"layers.{layer}.", 1)] = shape
    return out


def _why_dropped(name: str, config: Config, options: Options) -> str | None:
    tower = _TOWER.match(name)
    if tower and options.modality == "text":
        return "left out by --modality text"
    if tower and "audio" in tower[1] and not config.get("audio_config"):
        return "the config has no audio part"
    if "rotary_emb" in name:
        return "computed by the loaders"
    if _CLIPS.search(name) and not _clipped(name, config):
        return "clipping is off in the config"
    if name in {"lm_head.weight", "model.lm_head.weight", "language_model.lm_head.weight"}:
        return "tied to the token embedding"
    if options.shared_kv == "drop" and _shared_layer(name, config):
        return "this layer reuses an earlier layer's keys and values"
    return None


def _clipped(name: str, config: Config) -> bool:
    if "audio_tower" in name:
        return bool((config.get("audio_config") or {}).get("use_clipped_linears", True))
    return "vision_tower" in name and bool((config.get("vision_config") or {}).get("use_clipped_linears"))


def _shared_layer(name: str, config: Config) -> bool:
    match = _SHARED.search(name)
    return match is not None and int(match[1]) >= first_shared_layer(config)


def _renamed(name: str) -> str:
    name = name.removeprefix("model.")
    if name.startswith("language_model.") and not name.startswith(("language_model.model.", "language_model.lm_head")):
        name = "language_model.model." + name.removeprefix("language_model.")
    return name


def _stacked_experts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Experts saved one by one, stacked along a new first axis: (rows, columns) each -> (E, rows, columns)."""
    found: dict[tuple[str, str], dict[int, Tensor]] = {}
    out = {}
    for name, tensor in weights.items():
        match = _EXPERT.fullmatch(name)
        if match is None:
            out[name] = tensor
        else:
            found.setdefault((match[1], match[3]), {})[int(match[2])] = tensor
    for (prefix, projection), experts in found.items():
        out[f"{prefix}.switch_glu.{projection}.weight"] = stack([experts[n] for n in sorted(experts)])
    return out


def _split_experts(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Fused experts (E, 2 x moe_intermediate, hidden): the first half of the rows is the gate's."""
    base, _, last = name.removesuffix(".weight").rpartition(".experts.")
    if last == "gate_up_proj":
        gate, up = split(tensor, 2, axis=-2)
        return {
            f"{base}.experts.switch_glu.gate_proj.weight": gate,
            f"{base}.experts.switch_glu.up_proj.weight": up,
        }
    if last == "down_proj":
        return {f"{base}.experts.switch_glu.down_proj.weight": tensor}
    return {name: tensor}


def _relaid(name: str, tensor: Tensor) -> Tensor:
    """Convolutions of the audio tower: channels last, as MLX has them."""
    if "subsample_conv_projection" in name and name.endswith("conv.weight") and tensor.ndim == 4:
        # A 3 x 3 kernel stands on axes 2, 3 in torch's layout and on 1, 2 in MLX's.
        return tensor.transpose(0, 2, 3, 1) if tensor.shape[2] == tensor.shape[3] != tensor.shape[1] else tensor
    if name.endswith("depthwise_conv1d.weight") and tensor.ndim == 3 and tensor.shape[-1] != 1:
        return tensor.transpose(0, 2, 1)
    return tensor
