"""Which Qwen3.5 linears can be scaled against what feeds them.

Folding comes after sanitize, which has added the 1 to the norms, so they multiply by their weight as it is.
Every linear that a norm feeds is in its group, routers and gates too: a group that leaves one out would
change the model.
"""

from __future__ import annotations

from convx import Config, FoldGroup, Tensor, layer_groups

_FED_BY_NORM = {
    "input_layernorm": (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "linear_attn.in_proj_qkv",
        "linear_attn.in_proj_z", "linear_attn.in_proj_a", "linear_attn.in_proj_b",
    ),
    "post_attention_layernorm": (
        "mlp.gate", "mlp.shared_expert_gate", "mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj",
        "mlp.switch_mlp.gate_proj", "mlp.switch_mlp.up_proj", "mlp.gate_proj", "mlp.up_proj",
    ),
}  # fmt: skip
_FED_BY_ROWS = {
    "mlp.up_proj": "mlp.down_proj",
    "mlp.shared_expert.up_proj": "mlp.shared_expert.down_proj",
    "mlp.switch_mlp.up_proj": "mlp.switch_mlp.down_proj",
}


def groups(weights: dict[str, Tensor], config: Config) -> list[FoldGroup]:
    layers = int(config["text_config"]["num_hidden_layers"])
    return layer_groups(weights, "language_model.model.layers", layers, _FED_BY_NORM, _FED_BY_ROWS)
