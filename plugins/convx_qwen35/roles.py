"""What each Qwen3.5 tensor is for, and the least precision that it bears."""

from __future__ import annotations

import re

from convx import Config, Floor, Placement, Role, TensorInfo

_LAYER = re.compile(r"^language_model\.model\.layers\.(\d+)\.(.*)$")
_IN_LAYER = {
    "self_attn.q_proj.weight": Role.ATTENTION_Q,
    "self_attn.k_proj.weight": Role.ATTENTION_K,
    "self_attn.v_proj.weight": Role.ATTENTION_V,
    "self_attn.o_proj.weight": Role.ATTENTION_O,
    "linear_attn.in_proj_qkv.weight": Role.LINEAR_ATTENTION_QKV,
    "linear_attn.in_proj_z.weight": Role.LINEAR_ATTENTION_Z,
    "linear_attn.in_proj_a.weight": Role.LINEAR_ATTENTION_GATES,
    "linear_attn.in_proj_b.weight": Role.LINEAR_ATTENTION_GATES,
    "linear_attn.out_proj.weight": Role.LINEAR_ATTENTION_OUT,
    "linear_attn.conv1d.weight": Role.CONV,
    "linear_attn.A_log": Role.LINEAR_ATTENTION_STATE,
    "linear_attn.dt_bias": Role.LINEAR_ATTENTION_STATE,
    "linear_attn.norm.weight": Role.NORM,
    "mlp.gate.weight": Role.ROUTER,
    "mlp.gate_proj.weight": Role.MLP_GATE,
    "mlp.up_proj.weight": Role.MLP_UP,
    "mlp.down_proj.weight": Role.MLP_DOWN,
    "mlp.switch_mlp.gate_proj.weight": Role.EXPERT_GATE,
    "mlp.switch_mlp.up_proj.weight": Role.EXPERT_UP,
    "mlp.switch_mlp.down_proj.weight": Role.EXPERT_DOWN,
    "mlp.shared_expert.gate_proj.weight": Role.SHARED_EXPERT_GATE_PROJ,
    "mlp.shared_expert.up_proj.weight": Role.SHARED_EXPERT_UP,
    "mlp.shared_expert.down_proj.weight": Role.SHARED_EXPERT_DOWN,
    "mlp.shared_expert_gate.weight": Role.SHARED_EXPERT_GATE,
}
_OUTSIDE = {
    "language_model.model.embed_tokens.weight": Role.EMBEDDING,
    "language_model.lm_head.weight": Role.LM_HEAD,
    "language_model.model.norm.weight": Role.NORM,
}


def place(name: str, config: Config) -> Placement:
    if name.startswith("vision_tower."):
        return Placement(Role.PROJECTOR if name.startswith("vision_tower.merger.") else Role.VISION)
    if name.startswith(("mtp.", "model.mtp.")):
        return Placement(Role.MTP)
    match = _LAYER.match(name)
    if match is None:
        return Placement(_OUTSIDE.get(name, Role.OTHER))
    text = config["text_config"]
    layer, rest = int(match[1]), match[2]
    role = _IN_LAYER.get(rest, Role.NORM if "norm" in rest else Role.OTHER)
    return Placement(role, layer, int(text["num_hidden_layers"]), _attention(text, layer))


def _attention(text: Config, layer: int) -> str:
    kinds = text.get("layer_types")
    if kinds:
        return "linear" if kinds[layer] == "linear_attention" else "full"
    return "full" if (layer + 1) % int(text.get("full_attention_interval", 4)) == 0 else "linear"


def floor(tensor: TensorInfo) -> Floor | None:
    match tensor.role:
        case Role.ROUTER | Role.SHARED_EXPERT_GATE:
            return Floor("affine8:g64", "a router picks wrong experts below 8 bits", modes=("affine",))
        case Role.LINEAR_ATTENTION_GATES:
            return Floor("affine8:g64", "decay and write strength drive the recurrent state", modes=("affine",))
        case Role.LINEAR_ATTENTION_STATE:
            return Floor("keep", "the recurrent state's own type, bit for bit (mlx-lm#928)")
        case Role.VISION | Role.PROJECTOR:
            return Floor("keep", "towers stay whole")
        case Role.MTP:
            return Floor("keep", "draft layers stay as in the source")
    return None
