"""A tiny Qwen3.5 MoE source: its weights, its config, and the files that come with the real one."""

from __future__ import annotations

from pathlib import Path

from convx.testing.tiny.qwen35_weights import MERGE, PATCH, add_qwen35, text_layer_types
from convx.testing.tiny.sizes import Qwen35Sizes
from convx.testing.tiny.store import Json, write_json
from convx.testing.tiny.tokens import write_tokenizer
from convx.testing.tiny.weights import Weights

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]

ROLES = {
    "eos": "<|im_end|>",
    "pad": "<|endoftext|>",
    "unk": "<|endoftext|>",
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
    "vision_bos": "<|vision_start|>",
    "vision_eos": "<|vision_end|>",
}

CHAT_TEMPLATE = """\
{% for m in messages %}<|im_start|>{{ m['role'] }}
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}\
{% if c['type'] in ['image', 'video'] %}<|vision_start|><|{{ c['type'] }}_pad|><|vision_end|>\
{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}"""


def build(out: Path, weights: Weights, sizes: Qwen35Sizes, saved_again: bool) -> Json:
    """Fill `weights`, write the files beside them, and return the config."""
    tokens = {f"{role}_token": token for role, token in ROLES.items()}
    ids = write_tokenizer(out, SPECIALS, sizes.vocab, tokens)
    # transformers saves experts one by one, and no MTP block, though the config goes on promising it.
    add_qwen35(weights, sizes, fused=not saved_again)
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    images = _pictures("image", "Qwen2VLImageProcessorFast", 65536, 16777216)
    videos = _pictures("video", "Qwen3VLVideoProcessor", 4096, 25165824)
    write_json(out / "preprocessor_config.json", images)
    write_json(out / "video_preprocessor_config.json", videos)
    write_json(out / "generation_config.json", _generation(ids))
    return _config(sizes, ids, saved_again)


def _generation(ids: dict[str, int]) -> Json:
    return {
        "bos_token_id": ids["<|endoftext|>"],
        "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
        "transformers_version": "4.57.0.dev0",
    }


def _pictures(kind: str, processor: str, least: int, most: int) -> Json:
    """`least` and `most` are areas in pixels, whatever their names say."""
    return {
        f"{kind}_processor_type": processor,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "merge_size": MERGE,
        "patch_size": PATCH[-1],
        "processor_class": "Qwen3VLProcessor",
        "size": {"longest_edge": most, "shortest_edge": least},
        "temporal_patch_size": PATCH[1],
    }


def _config(s: Qwen35Sizes, ids: dict[str, int], saved_again: bool) -> Json:
    config: Json = {
        "architectures": ["Qwen3_5MoeForConditionalGeneration"],
        "image_token_id": ids["<|image_pad|>"],
        "model_type": "qwen3_5_moe",
        "text_config": {**_text(s, ids), **(_text_saved_again() if saved_again else _text_published(s))},
        "tie_word_embeddings": False,
        "transformers_version": "5.23.0" if saved_again else "4.57.0.dev0",
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {**_vision(s), **(_vision_saved_again() if saved_again else _vision_published())},
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
    }
    return {**config, "dtype": "bfloat16"} if saved_again else config


def _text(s: Qwen35Sizes, ids: dict[str, int]) -> Json:
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "eos_token_id": ids["<|endoftext|>"],
        "head_dim": s.head_dim,
        "hidden_act": "silu",
        "hidden_size": s.hidden,
        "initializer_range": 0.02,
        "layer_types": text_layer_types(s),
        "linear_conv_kernel_dim": s.conv_kernel,
        "linear_key_head_dim": s.linear_head_dim,
        "linear_num_key_heads": s.linear_key_heads,
        "linear_num_value_heads": s.linear_value_heads,
        "linear_value_head_dim": s.linear_head_dim,
        "max_position_embeddings": 4096,
        "model_type": "qwen3_5_moe_text",
        "moe_intermediate_size": s.moe_intermediate,
        "num_attention_heads": s.heads,
        "num_experts": s.experts,
        "num_experts_per_tok": s.top_k,
        "num_hidden_layers": s.layers,
        "num_key_value_heads": s.kv_heads,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": _rope_sections(s.head_dim // 8),
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000000,
            "rope_type": "default",
        },
        "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": s.moe_intermediate,
        "use_cache": True,
        "vocab_size": s.vocab,
        **({"mtp_num_hidden_layers": 1, "mtp_use_dedicated_embeddings": False} if s.mtp else {}),
    }


def _rope_sections(pairs: int) -> list[int]:
    """Rotary pairs of time, height and width, as even as can be: 32 -> 11, 11, 10."""
    return [(pairs + 2 - axis) // 3 for axis in range(3)]


def _text_published(s: Qwen35Sizes) -> Json:
    return {
        "attn_output_gate": True,
        "full_attention_interval": s.full_every,
        "mamba_ssm_dtype": "float32",
        "mlp_only_layers": [],
    }


def _text_saved_again() -> Json:
    return {
        "bos_token_id": None,
        "output_router_logits": False,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }


def _vision(s: Qwen35Sizes) -> Json:
    return {
        "depth": s.vision_layers,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": s.vision_hidden,
        "in_channels": PATCH[0],
        "initializer_range": 0.02,
        "intermediate_size": s.vision_intermediate,
        "num_heads": s.vision_heads,
        "num_position_embeddings": s.position_embeddings,
        "out_hidden_size": s.hidden,
        "patch_size": PATCH[-1],
        "spatial_merge_size": MERGE,
        "temporal_patch_size": PATCH[1],
    }


def _vision_published() -> Json:
    return {"deepstack_visual_indexes": [], "model_type": "qwen3_5_moe"}


def _vision_saved_again() -> Json:
    return {
        "dtype": "bfloat16",
        "model_type": "qwen3_5_moe_vision",
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"},
    }
