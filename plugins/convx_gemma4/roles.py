"""What each Gemma 4 tensor is for, and the least precision that it bears."""

from __future__ import annotations

import re

from convx import Config, Floor, Placement, Role, TensorInfo

_LAYER = re.compile(r"^language_model\.model\.layers\.(\d+)\.(.*)$")
_IN_LAYER = {
    "self_attn.q_proj.weight": Role.ATTENTION_Q,
    "self_attn.k_proj.weight": Role.ATTENTION_K,
    "self_attn.v_proj.weight": Role.ATTENTION_V,
    "self_attn.o_proj.weight": Role.ATTENTION_O,
    "mlp.gate_proj.weight": Role.MLP_GATE,
    "mlp.up_proj.weight": Role.MLP_UP,
    "mlp.down_proj.weight": Role.MLP_DOWN,
    "experts.switch_glu.gate_proj.weight": Role.EXPERT_GATE,
    "experts.switch_glu.up_proj.weight": Role.EXPERT_UP,
    "experts.switch_glu.down_proj.weight": Role.EXPERT_DOWN,
    "router.proj.weight": Role.ROUTER,
    "router.scale": Role.SCALAR,
    "router.per_expert_scale": Role.SCALAR,
    "layer_scalar": Role.SCALAR,
    "per_layer_input_gate.weight": Role.PER_LAYER_PROJECTION,
    "per_layer_projection.weight": Role.PER_LAYER_PROJECTION,
}
_OUTSIDE = {
    "language_model.model.embed_tokens.weight": Role.EMBEDDING,
    "language_model.model.embed_tokens_per_layer.weight": Role.PER_LAYER_EMBEDDING,
    "language_model.model.per_layer_model_projection.weight": Role.PER_LAYER_PROJECTION,
    "language_model.lm_head.weight": Role.LM_HEAD,
    "embed_vision.embedding_projection.weight": Role.PROJECTOR,
    "embed_audio.embedding_projection.weight": Role.PROJECTOR,
}
_ATTENTION = {"full_attention": "full", "sliding_attention": "sliding"}


def place(name: str, config: Config) -> Placement:
    if name.startswith("vision_tower."):
        return Placement(Role.VISION)
    if name.startswith("audio_tower."):
        return Placement(Role.AUDIO)
    match = _LAYER.match(name)
    if match is None:
        return Placement(_OUTSIDE.get(name, Role.NORM if "norm" in name else Role.OTHER))
    text = config["text_config"]
    layer, rest = int(match[1]), match[2]
    role = _IN_LAYER.get(rest, Role.NORM if "norm" in rest else Role.OTHER)
    kind = _ATTENTION.get((text.get("layer_types") or {layer: ""})[layer])
    return Placement(role, layer, int(text["num_hidden_layers"]), kind)


def floor(tensor: TensorInfo) -> Floor | None:
    match tensor.role:
        case Role.ROUTER:
            return Floor("affine8:g64", "a router picks wrong experts below 8 bits", modes=("affine",))
        case Role.PER_LAYER_EMBEDDING:
            return Floor("affine8:g64", "the per-layer table ruins quality below 8 bits (llama.cpp#22407)")
        case Role.PER_LAYER_PROJECTION if tensor.quantizable:
            return Floor("affine8:g64", "per-layer projections feed every layer")
        case Role.VISION | Role.AUDIO:
            return Floor("keep", "towers stay whole")
        case Role.PROJECTOR:
            return Floor("keep", "loaders disagree on a quantized projector (mlx-engine#301)")
    return None
