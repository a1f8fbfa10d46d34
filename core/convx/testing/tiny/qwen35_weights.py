"""The tensors of Qwen3.5 MoE sources: DeltaNet and full attention, experts, vision, and the MTP block."""

from __future__ import annotations

import numpy as np

from convx.dtypes import SPEC_NAMES
from convx.testing.tiny.sizes import Qwen35Sizes, layer_types
from convx.testing.tiny.weights import Weights

MERGE = 2
PATCH = (3, 2, 16, 16)
"""Channels, frames, height and width of a patch."""


def add_qwen35(w: Weights, s: Qwen35Sizes, fused: bool) -> None:
    """Add every tensor; `fused` says whether a layer's experts are two 3-D tensors, or three for each."""
    base = "model.language_model"
    w.normal(f"{base}.embed_tokens.weight", s.vocab, s.hidden)
    w.normal("lm_head.weight", s.vocab, s.hidden)
    w.norm_offset(f"{base}.norm.weight", s.hidden)
    for i, kind in enumerate(text_layer_types(s)):
        _layer(w, s, f"{base}.layers.{i}", kind == "full_attention")
    _vision(w, s)
    if s.mtp and fused:
        _mtp(w, s)
    if not fused:
        _unfuse(w)


def text_layer_types(s: Qwen35Sizes) -> list[str]:
    return layer_types(s.layers, s.full_every, "linear_attention")


def _layer(w: Weights, s: Qwen35Sizes, layer: str, full: bool) -> None:
    w.norm_offset(f"{layer}.input_layernorm.weight", s.hidden)
    w.norm_offset(f"{layer}.post_attention_layernorm.weight", s.hidden)
    if full:
        _attention(w, s, f"{layer}.self_attn")
    else:
        _delta_net(w, s, f"{layer}.linear_attn")
    _moe(w, s, f"{layer}.mlp")


def _attention(w: Weights, s: Qwen35Sizes, base: str) -> None:
    """q_proj holds queries and output gates, head by head."""
    w.normal(f"{base}.q_proj.weight", 2 * s.heads * s.head_dim, s.hidden)
    w.normal(f"{base}.k_proj.weight", s.kv_heads * s.head_dim, s.hidden)
    w.normal(f"{base}.v_proj.weight", s.kv_heads * s.head_dim, s.hidden)
    w.normal(f"{base}.o_proj.weight", s.hidden, s.heads * s.head_dim)
    w.norm_offset(f"{base}.q_norm.weight", s.head_dim)
    w.norm_offset(f"{base}.k_norm.weight", s.head_dim)


def _delta_net(w: Weights, s: Qwen35Sizes, base: str) -> None:
    keys = s.linear_key_heads * s.linear_head_dim
    values = s.linear_value_heads * s.linear_head_dim
    w.normal(f"{base}.in_proj_qkv.weight", 2 * keys + values, s.hidden)
    w.normal(f"{base}.in_proj_z.weight", values, s.hidden)
    w.normal(f"{base}.in_proj_a.weight", s.linear_value_heads, s.hidden)
    w.normal(f"{base}.in_proj_b.weight", s.linear_value_heads, s.hidden)
    w.normal(f"{base}.out_proj.weight", s.hidden, values)
    w.normal(f"{base}.conv1d.weight", 2 * keys + values, 1, s.conv_kernel, std=0.3)
    w.scale(f"{base}.norm.weight", s.linear_head_dim)
    _state(w, s, base)


def _state(w: Weights, s: Qwen35Sizes, base: str) -> None:
    """Decay rates of 0.5 to 16 and time steps of 0.001 to 0.1, stored as log and inverse softplus."""
    dtype = SPEC_NAMES[s.state_dtype]
    rates = w.draw(f"{base}.A_log", 0.5, 16.0, s.linear_value_heads)
    w.put(f"{base}.A_log", np.log(rates), dtype)
    steps = np.exp(w.draw(f"{base}.dt_bias", np.log(1e-3), np.log(1e-1), s.linear_value_heads))
    w.put(f"{base}.dt_bias", np.log(np.expm1(steps)), dtype)


def _moe(w: Weights, s: Qwen35Sizes, base: str) -> None:
    inner = s.moe_intermediate
    w.normal(f"{base}.gate.weight", s.experts, s.hidden)
    w.normal(f"{base}.experts.gate_up_proj", s.experts, 2 * inner, s.hidden)
    w.normal(f"{base}.experts.down_proj", s.experts, s.hidden, inner)
    w.normal(f"{base}.shared_expert_gate.weight", 1, s.hidden)
    w.normal(f"{base}.shared_expert.gate_proj.weight", inner, s.hidden)
    w.normal(f"{base}.shared_expert.up_proj.weight", inner, s.hidden)
    w.normal(f"{base}.shared_expert.down_proj.weight", s.hidden, inner)


def _unfuse(w: Weights) -> None:
    """Replace each pair of 3-D tensors by the matrices of each expert; the up half follows the gate half."""
    for fused in [name for name in w.tensors if name.endswith(".experts.gate_up_proj")]:
        base = fused.removesuffix(".gate_up_proj")
        gate, up = np.split(w.tensors.pop(fused), 2, axis=1)
        down = w.tensors.pop(f"{base}.down_proj")
        for kind, stacked in (("gate", gate), ("up", up), ("down", down)):
            for expert, matrix in enumerate(stacked):
                w.tensors[f"{base}.{expert}.{kind}_proj.weight"] = np.ascontiguousarray(matrix)


def _mtp(w: Weights, s: Qwen35Sizes) -> None:
    w.normal("mtp.fc.weight", s.hidden, 2 * s.hidden)
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        w.norm_offset(f"mtp.{name}.weight", s.hidden)
    _layer(w, s, "mtp.layers.0", full=True)


def _vision(w: Weights, s: Qwen35Sizes) -> None:
    tower, hidden = "model.visual", s.vision_hidden
    w.normal(f"{tower}.patch_embed.proj.weight", hidden, *PATCH)
    w.offset(f"{tower}.patch_embed.proj.bias", hidden)
    w.normal(f"{tower}.pos_embed.weight", s.position_embeddings, hidden)
    for i in range(s.vision_layers):
        block = f"{tower}.blocks.{i}"
        _layer_norm(w, f"{block}.norm1", hidden)
        _layer_norm(w, f"{block}.norm2", hidden)
        _biased(w, f"{block}.attn.qkv", 3 * hidden, hidden)
        _biased(w, f"{block}.attn.proj", hidden, hidden)
        _biased(w, f"{block}.mlp.linear_fc1", s.vision_intermediate, hidden)
        _biased(w, f"{block}.mlp.linear_fc2", hidden, s.vision_intermediate)
    merged = MERGE * MERGE * hidden
    _layer_norm(w, f"{tower}.merger.norm", hidden)
    _biased(w, f"{tower}.merger.linear_fc1", merged, merged)
    _biased(w, f"{tower}.merger.linear_fc2", s.hidden, merged)


def _layer_norm(w: Weights, base: str, size: int) -> None:
    w.scale(f"{base}.weight", size)
    w.offset(f"{base}.bias", size)


def _biased(w: Weights, base: str, rows: int, columns: int) -> None:
    w.normal(f"{base}.weight", rows, columns)
    w.offset(f"{base}.bias", rows)
