"""Which Gemma 4 linears can be scaled against what feeds them.

The norms multiply by their weight as it is. The router takes the residual, not a norm that experts share, so
it is in no group; nor is o_proj, whose input passes through attention.
"""

from __future__ import annotations

from convx import Config, FoldGroup, Tensor, layer_groups

_FED_BY_NORM = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "pre_feedforward_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    "pre_feedforward_layernorm_2": ("experts.switch_glu.gate_proj", "experts.switch_glu.up_proj"),
}
_FED_BY_ROWS = {
    "mlp.up_proj": "mlp.down_proj",
    "experts.switch_glu.up_proj": "experts.switch_glu.down_proj",
}


def groups(weights: dict[str, Tensor], config: Config) -> list[FoldGroup]:
    layers = int(config["text_config"]["num_hidden_layers"])
    return layer_groups(weights, "language_model.model.layers", layers, _FED_BY_NORM, _FED_BY_ROWS)
