"""Roles by the names that most architectures share."""

from __future__ import annotations

import re

from convx import Config, Placement, Role

_LAYER = re.compile(r"\b(?:layers|h|blocks)\.(\d+)\.(.*)$")
_TOWER = re.compile(r"vision|visual|aligner|sam_model|img_projector")
_AUDIO = re.compile(r"audio|speech")
_PROJECTOR = re.compile(r"multi_modal_projector|vl_connector|embed_vision|embed_audio|merger")
_PATTERNS: list[tuple[str, Role]] = [
    (r"embed_tokens\.weight$|wte\.weight$|embeddings?\.weight$", Role.EMBEDDING),
    (r"lm_head\.weight$", Role.LM_HEAD),
    (r"\.(switch_mlp|switch_glu|experts)\..*gate(_up)?_proj", Role.EXPERT_GATE),
    (r"\.(switch_mlp|switch_glu|experts)\..*up_proj", Role.EXPERT_UP),
    (r"\.(switch_mlp|switch_glu|experts)\..*down_proj", Role.EXPERT_DOWN),
    (r"shared_expert_gate\.weight$", Role.SHARED_EXPERT_GATE),
    (r"shared_experts?\.gate_proj", Role.SHARED_EXPERT_GATE_PROJ),
    (r"shared_experts?\.up_proj", Role.SHARED_EXPERT_UP),
    (r"shared_experts?\.down_proj", Role.SHARED_EXPERT_DOWN),
    (r"(mlp|feed_forward|moe|block_sparse_moe)\.gate\.weight$|router", Role.ROUTER),
    (r"\.q_proj\.weight$", Role.ATTENTION_Q),
    (r"\.k_proj\.weight$", Role.ATTENTION_K),
    (r"\.v_proj\.weight$", Role.ATTENTION_V),
    (r"\.(o_proj|out_proj)\.weight$", Role.ATTENTION_O),
    (r"\.gate_proj\.weight$", Role.MLP_GATE),
    (r"\.up_proj\.weight$", Role.MLP_UP),
    (r"\.(down_proj|w2)\.weight$", Role.MLP_DOWN),
    (r"conv\w*\.weight$", Role.CONV),
    (r"norm|ln_", Role.NORM),
]


def place(name: str, config: Config) -> Placement:
    if _PROJECTOR.search(name):
        return Placement(Role.PROJECTOR)
    if _TOWER.search(name):
        return Placement(Role.VISION)
    if _AUDIO.search(name):
        return Placement(Role.AUDIO)
    role = next((r for pattern, r in _PATTERNS if re.search(pattern, name)), Role.OTHER)
    match = _LAYER.search(name)
    if match is None:
        return Placement(role)
    text = config.get("text_config") or config
    layers = text.get("num_hidden_layers")
    return Placement(role, int(match[1]), int(layers) if layers else None, _attention(text, int(match[1])))


def _attention(text: Config, layer: int) -> str | None:
    kinds = text.get("layer_types")
    if not isinstance(kinds, list) or layer >= len(kinds):
        return None
    return {"linear_attention": "linear", "sliding_attention": "sliding"}.get(str(kinds[layer]), "full")
