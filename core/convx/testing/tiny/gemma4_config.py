"""`config.json` of Gemma 4 sources, as published and as transformers 5 saves it."""

from __future__ import annotations

from convx.testing.tiny.gemma4_weights import CONV_CHANNELS, CONV_KERNEL, text_layer_types
from convx.testing.tiny.sizes import Gemma4Sizes
from convx.testing.tiny.store import Json


def gemma4_config(s: Gemma4Sizes, ids: dict[str, int], saved_again: bool) -> Json:
    """The config for sizes `s`; `ids` are the special tokens', `saved_again` means by transformers 5."""
    config: Json = {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "audio_config": _audio(s) if s.audio_layers else None,
        "audio_token_id": ids["<|audio|>"],
        "boa_token_id": ids["<|audio>"],
        "boi_token_id": ids["<|image>"],
        "dtype": "bfloat16",
        "eoa_token_index": ids["<audio|>"],
        "eoi_token_id": ids["<image|>"],
        "image_token_id": ids["<|image|>"],
        "initializer_range": 0.02,
        "model_type": "gemma4",
        "text_config": _text(s),
        "tie_word_embeddings": True,
        "transformers_version": "5.23.0" if saved_again else "5.5.0.dev0",
        "video_token_id": ids["<|video|>"],
        "vision_config": _vision(s, saved_again),
    }
    for name in ("text_config", "vision_config", "audio_config"):
        if config[name]:
            config[name]["dtype"] = "bfloat16"
    if saved_again:
        _as_saved_again(config, s)
    else:
        _as_published(config, s, ids)
    return dict(sorted(config.items()))


def _as_saved_again(config: Json, s: Gemma4Sizes) -> None:
    overrides: Json = {"head_dim": s.global_head_dim}
    if s.global_kv_heads is not None:
        overrides["num_key_value_heads"] = s.global_kv_heads
    full = [i for i, kind in enumerate(text_layer_types(s)) if kind == "full_attention"]
    config["text_config"]["per_layer_config"] = {str(i): overrides for i in full}


def _as_published(config: Json, s: Gemma4Sizes, ids: dict[str, int]) -> None:
    config["eoa_token_id"] = ids["<audio|>"]
    config["eos_token_id"] = [ids["<eos>"], ids["<turn|>"]]
    # The real ones leave it out: loaders default it to the real models' size.
    config["vocab_size"] = s.vocab
    config["vision_soft_tokens_per_image"] = 280
    text = config["text_config"]
    text["global_head_dim"] = s.global_head_dim
    text["num_global_key_value_heads"] = s.global_kv_heads


def _text(s: Gemma4Sizes) -> Json:
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_k_eq_v": s.global_kv_heads is not None,
        "bos_token_id": 2,
        "enable_moe_block": s.experts > 0,
        "eos_token_id": 1,
        "final_logit_softcapping": 30.0,
        "head_dim": s.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": s.hidden,
        "hidden_size_per_layer_input": s.per_layer,
        "initializer_range": 0.02,
        "intermediate_size": s.intermediate,
        "layer_types": text_layer_types(s),
        "max_position_embeddings": 4096,
        "model_type": "gemma4_text",
        "moe_intermediate_size": s.moe_intermediate if s.experts else None,
        "num_attention_heads": s.heads,
        "num_experts": s.experts or None,
        "num_hidden_layers": s.layers,
        "num_key_value_heads": s.kv_heads,
        "num_kv_shared_layers": s.kv_shared_layers,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1e6, "rope_type": "proportional"},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        },
        "sliding_window": s.sliding_window,
        "tie_word_embeddings": True,
        "top_k_experts": s.top_k if s.experts else None,
        "use_bidirectional_attention": None if s.per_layer else "vision",
        "use_cache": True,
        "use_double_wide_mlp": s.double_wide,
        "vocab_size": s.vocab,
        "vocab_size_per_layer_input": s.vocab,
    }


def _vision(s: Gemma4Sizes, saved_again: bool) -> Json:
    dim = s.vision_hidden // s.vision_heads
    config = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": s.vision_hidden,
        "initializer_range": 0.02,
        "intermediate_size": s.vision_intermediate,
        "max_position_embeddings": 4096,
        "model_type": "gemma4_vision",
        "num_attention_heads": s.vision_heads,
        "num_hidden_layers": s.vision_layers,
        "num_key_value_heads": s.vision_heads,
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "position_embedding_size": s.position_embeddings,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 100.0, "rope_type": "axial" if saved_again else "default"},
        "standardize": not s.clipped,
        "use_clipped_linears": s.clipped,
    }
    return config if saved_again else {**config, "default_output_length": 280, "global_head_dim": dim}


def _audio(s: Gemma4Sizes) -> Json:
    return {
        "attention_chunk_size": 12,
        "attention_context_left": 13,
        "attention_context_right": 0,
        "attention_invalid_logits_value": -1e9,
        "attention_logit_cap": 50.0,
        "conv_kernel_size": CONV_KERNEL,
        "gradient_clipping": 1e10,
        "hidden_act": "silu",
        "hidden_size": s.audio_hidden,
        "initializer_range": 0.02,
        "model_type": "gemma4_audio",
        "num_attention_heads": s.audio_heads,
        "num_hidden_layers": s.audio_layers,
        "output_proj_dims": s.audio_output,
        "residual_weight": 0.5,
        "rms_norm_eps": 1e-06,
        "subsampling_conv_channels": list(CONV_CHANNELS),
        "use_clipped_linears": s.clipped,
    }
