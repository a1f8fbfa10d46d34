"""The tensors of Gemma 4 sources: text (dense, MoE or with per-layer embeddings), vision and audio."""

from __future__ import annotations

from convx.testing.tiny.sizes import Gemma4Sizes, layer_types
from convx.testing.tiny.weights import Weights

MEL_BINS = 128
CONV_CHANNELS = (MEL_BINS, 16)
"""The first is as in the real models: transformers takes it for the number of mel bins."""
CONV_KERNEL = 5
PATCH_VALUES = 3 * 16 * 16


def add_gemma4(w: Weights, s: Gemma4Sizes, shared_kv: bool) -> None:
    """Add every tensor; `shared_kv` says whether layers that reuse KV hold their unused k/v/k_norm."""
    _text(w, s, shared_kv)
    _vision(w, s)
    if s.audio_layers:
        _audio(w, s)


def text_layer_types(s: Gemma4Sizes) -> list[str]:
    return layer_types(s.layers, s.full_every, "sliding_attention")


def _text(w: Weights, s: Gemma4Sizes, shared_kv: bool) -> None:
    base = "model.language_model"
    w.normal(f"{base}.embed_tokens.weight", s.vocab, s.hidden)
    w.scale(f"{base}.norm.weight", s.hidden)
    if s.per_layer:
        width = s.layers * s.per_layer
        w.normal(f"{base}.embed_tokens_per_layer.weight", s.vocab, width)
        w.normal(f"{base}.per_layer_model_projection.weight", width, s.hidden)
        w.scale(f"{base}.per_layer_projection_norm.weight", s.per_layer)
    for i, kind in enumerate(text_layer_types(s)):
        shares = i >= s.layers - s.kv_shared_layers
        wide = 2 if shares and s.double_wide else 1
        layer = f"{base}.layers.{i}"
        _attention(w, s, f"{layer}.self_attn", full=kind == "full_attention", kv=shared_kv or not shares)
        _gated(w, f"{layer}.mlp", s.hidden, wide * s.intermediate)
        _layer_rest(w, s, layer)


def _attention(w: Weights, s: Gemma4Sizes, base: str, *, full: bool, kv: bool) -> None:
    """Full-attention layers have larger heads; with `global_kv_heads` their keys are also their values."""
    dim = s.global_head_dim if full else s.head_dim
    key_is_value = full and s.global_kv_heads is not None
    kv_heads = s.global_kv_heads if full and s.global_kv_heads is not None else s.kv_heads
    w.normal(f"{base}.q_proj.weight", s.heads * dim, s.hidden)
    w.normal(f"{base}.o_proj.weight", s.hidden, s.heads * dim)
    w.scale(f"{base}.q_norm.weight", dim)
    if not kv:
        return
    w.normal(f"{base}.k_proj.weight", kv_heads * dim, s.hidden)
    w.scale(f"{base}.k_norm.weight", dim)
    if not key_is_value:
        w.normal(f"{base}.v_proj.weight", kv_heads * dim, s.hidden)


def _gated(w: Weights, base: str, hidden: int, inner: int) -> None:
    w.normal(f"{base}.gate_proj.weight", inner, hidden)
    w.normal(f"{base}.up_proj.weight", inner, hidden)
    w.normal(f"{base}.down_proj.weight", hidden, inner)


def _layer_rest(w: Weights, s: Gemma4Sizes, layer: str) -> None:
    _sandwich(w, layer, s.hidden)
    w.scale(f"{layer}.layer_scalar", 1)
    if s.experts:
        _moe(w, s, layer)
    if s.per_layer:
        w.normal(f"{layer}.per_layer_input_gate.weight", s.per_layer, s.hidden)
        w.normal(f"{layer}.per_layer_projection.weight", s.hidden, s.per_layer)
        w.scale(f"{layer}.post_per_layer_input_norm.weight", s.hidden)


def _sandwich(w: Weights, layer: str, hidden: int) -> None:
    for place in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        w.scale(f"{layer}.{place}_layernorm.weight", hidden)


def _moe(w: Weights, s: Gemma4Sizes, layer: str) -> None:
    w.normal(f"{layer}.experts.gate_up_proj", s.experts, 2 * s.moe_intermediate, s.hidden)
    w.normal(f"{layer}.experts.down_proj", s.experts, s.hidden, s.moe_intermediate)
    w.normal(f"{layer}.router.proj.weight", s.experts, s.hidden)
    w.uniform(f"{layer}.router.scale", 0.5, 1.5, s.hidden)
    w.uniform(f"{layer}.router.per_expert_scale", 0.5, 1.5, s.experts)
    for place in (
        "post_feedforward_layernorm_1",
        "pre_feedforward_layernorm_2",
        "post_feedforward_layernorm_2",
    ):
        w.scale(f"{layer}.{place}.weight", s.hidden)


def _linear(w: Weights, base: str, rows: int, columns: int, clipped: bool) -> None:
    """A tower's linear. Its clipping bounds are far outside of what the tiny towers reach."""
    w.normal(f"{base}.linear.weight", rows, columns)
    if clipped:
        for side in ("input", "output"):
            w.uniform(f"{base}.{side}_min", -400.0, -200.0)
            w.uniform(f"{base}.{side}_max", 200.0, 400.0)


def _vision(w: Weights, s: Gemma4Sizes) -> None:
    hidden = s.vision_hidden
    w.normal("model.embed_vision.embedding_projection.weight", s.hidden, hidden)
    tower = "model.vision_tower"
    w.normal(f"{tower}.patch_embedder.input_proj.weight", hidden, PATCH_VALUES)
    w.normal(f"{tower}.patch_embedder.position_embedding_table", 2, s.position_embeddings, hidden)
    if not s.clipped:
        w.offset(f"{tower}.std_bias", hidden)
        w.scale(f"{tower}.std_scale", hidden)
    for i in range(s.vision_layers):
        layer = f"{tower}.encoder.layers.{i}"
        _sandwich(w, layer, hidden)
        for name in ("q", "k", "v", "o"):
            _linear(w, f"{layer}.self_attn.{name}_proj", hidden, hidden, s.clipped)
        for name in ("q", "k"):
            w.scale(f"{layer}.self_attn.{name}_norm.weight", hidden // s.vision_heads)
        for name in ("gate", "up"):
            _linear(w, f"{layer}.mlp.{name}_proj", s.vision_intermediate, hidden, s.clipped)
        _linear(w, f"{layer}.mlp.down_proj", hidden, s.vision_intermediate, s.clipped)


def _audio(w: Weights, s: Gemma4Sizes) -> None:
    hidden = s.audio_hidden
    first, second = CONV_CHANNELS
    w.normal("model.embed_audio.embedding_projection.weight", s.hidden, s.audio_output)
    w.normal("model.audio_tower.output_proj.weight", s.audio_output, hidden)
    w.offset("model.audio_tower.output_proj.bias", s.audio_output)
    stem = "model.audio_tower.subsample_conv_projection"
    w.normal(f"{stem}.layer0.conv.weight", first, 1, 3, 3, std=0.2)
    w.scale(f"{stem}.layer0.norm.weight", first)
    w.normal(f"{stem}.layer1.conv.weight", second, first, 3, 3)
    w.scale(f"{stem}.layer1.norm.weight", second)
    w.normal(f"{stem}.input_proj_linear.weight", hidden, second * MEL_BINS // 4)
    for i in range(s.audio_layers):
        _conformer(w, s, f"model.audio_tower.layers.{i}")


def _conformer(w: Weights, s: Gemma4Sizes, layer: str) -> None:
    hidden = s.audio_hidden
    for name in (
        "norm_pre_attn",
        "norm_post_attn",
        "norm_out",
        "lconv1d.pre_layer_norm",
        "lconv1d.conv_norm",
    ):
        w.scale(f"{layer}.{name}.weight", hidden)
    for block in (f"{layer}.feed_forward1", f"{layer}.feed_forward2"):
        _linear(w, f"{block}.ffw_layer_1", 4 * hidden, hidden, s.clipped)
        _linear(w, f"{block}.ffw_layer_2", hidden, 4 * hidden, s.clipped)
        w.scale(f"{block}.pre_layer_norm.weight", hidden)
        w.scale(f"{block}.post_layer_norm.weight", hidden)
    for name in ("q_proj", "k_proj", "v_proj", "post"):
        _linear(w, f"{layer}.self_attn.{name}", hidden, hidden, s.clipped)
    w.normal(f"{layer}.self_attn.relative_k_proj.weight", hidden, hidden)
    w.offset(f"{layer}.self_attn.per_dim_scale", hidden // s.audio_heads)
    _linear(w, f"{layer}.lconv1d.linear_start", 2 * hidden, hidden, s.clipped)
    _linear(w, f"{layer}.lconv1d.linear_end", hidden, hidden, s.clipped)
    w.normal(f"{layer}.lconv1d.depthwise_conv1d.weight", hidden, 1, CONV_KERNEL, std=0.3)
