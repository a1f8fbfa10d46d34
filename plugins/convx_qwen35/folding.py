"""Which Qwen3.5 linears can be scaled against what feeds them.

Folding comes after sanitize, which has added the 1 to the norms, so they multiply by their weight as it is.
Every linear that a norm feeds is in its group, routers and gates too: a group that leaves one out would
change the model.
"""

from __future__ import annotations

from convx import Config, FoldGroup, Tensor

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
    found = []
    for layer in range(config["text_config"]["num_hidden_layers"]):
        prefix = f"language_model.model.layers.{layer}"
        for norm, linears in _FED_BY_NORM.items():
            names = tuple(f"{prefix}.{n}.weight" for n in linears if f"{prefix}.{n}.weight" in weights)
            if names:
                found.append(FoldGroup(f"{prefix}.{norm}.weight", names))
        for up, down in _FED_BY_ROWS.items():
            found.append(FoldGroup(f"{prefix}.{up}.weight", (f"{prefix}.{down}.weight",)))
    return [g for g in found if g.before in weights and all(n in weights for n in g.linears)]
