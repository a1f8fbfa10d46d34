"""Llama, and what else mlx-lm loads as `model_type: llama`: names are MLX's already, so little is left to say."""

from __future__ import annotations

import re

from convx import Config, Floor, Options, Placement, Role, Tensor, TensorInfo, hookimpl

_LAYER = re.compile(r"^model\.layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)\.weight$")
_ROLES = {
    "q_proj": Role.ATTENTION_Q,
    "k_proj": Role.ATTENTION_K,
    "v_proj": Role.ATTENTION_V,
    "o_proj": Role.ATTENTION_O,
    "gate_proj": Role.MLP_GATE,
    "up_proj": Role.MLP_UP,
    "down_proj": Role.MLP_DOWN,
}
_OUTSIDE = {"model.embed_tokens.weight": Role.EMBEDDING, "lm_head.weight": Role.LM_HEAD}


@hookimpl
def convx_detect(config: Config) -> float | None:
    return 1.0 if config.get("model_type") == "llama" else None


@hookimpl
def convx_sanitize_weights(weights: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not _unused(name, config)}


@hookimpl
def convx_explain_tensor(name: str, config: Config, options: Options) -> str | None:
    return _unused(name, config)


def _unused(name: str, config: Config) -> str | None:
    if name.endswith("rotary_emb.inv_freq"):
        return "computed by the loaders"
    if name == "lm_head.weight" and config.get("tie_word_embeddings"):
        return "tied to the token embedding"
    return None


@hookimpl
def convx_tensor_role(name: str, config: Config) -> Placement:
    match = _LAYER.match(name)
    if match is not None:
        return Placement(_ROLES[match[2]], int(match[1]), int(config["num_hidden_layers"]), "full")
    return Placement(_OUTSIDE.get(name, Role.NORM if "norm" in name else Role.OTHER))


@hookimpl
def convx_tensor_floor(tensor: TensorInfo) -> Floor | None:
    if tensor.role is Role.LM_HEAD:
        return Floor("affine6:g64", "the last layer decides between tokens")
    return None
