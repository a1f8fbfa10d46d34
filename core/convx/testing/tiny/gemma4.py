"""A tiny Gemma 4 source: its weights, and the files that come with the real one."""

from __future__ import annotations

from pathlib import Path

from convx.testing.tiny.gemma4_config import gemma4_config
from convx.testing.tiny.gemma4_weights import MEL_BINS, add_gemma4
from convx.testing.tiny.sizes import Gemma4Sizes
from convx.testing.tiny.store import Json, write_json
from convx.testing.tiny.tokens import write_tokenizer
from convx.testing.tiny.weights import Weights

# The first four have the real ids; the others only have the real names.
SPECIALS = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<mask>",
    "<|think|>",
    "<|channel>",
    "<channel|>",
    "<|turn>",
    "<turn|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|image>",
    "<image|>",
    "<|image|>",
    "<|audio>",
    "<audio|>",
    "<|audio|>",
    "<|video|>",
]

ROLES = {
    "bos": "<bos>",
    "eos": "<eos>",
    "pad": "<pad>",
    "unk": "<unk>",
    "image": "<|image|>",
    "boi": "<|image>",
    "eoi": "<image|>",
    "audio": "<|audio|>",
    "boa": "<|audio>",
    "eoa": "<audio|>",
    "video": "<|video|>",
}

CHAT_TEMPLATE = """\
{{ bos_token }}{% for m in messages %}<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}
{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}\
{% if c['type'] in ['image', 'audio', 'video'] %}<|{{ c['type'] }}|>{% else %}{{ c['text'] }}{% endif %}\
{% endfor %}{% endif %}<turn|>
{% endfor %}{% if add_generation_prompt %}<|turn>model
{% endif %}"""


def build(out: Path, weights: Weights, sizes: Gemma4Sizes, saved_again: bool) -> Json:
    """Fill `weights`, write the files beside them, and return the config."""
    tokens = {f"{role}_token": token for role, token in ROLES.items()}
    ids = write_tokenizer(out, SPECIALS, sizes.vocab, tokens)
    # transformers has no such parameters, so it reads past them and saves none.
    present = not saved_again if sizes.shared_kv is None else sizes.shared_kv
    add_gemma4(weights, sizes, present)
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    write_json(out / "processor_config.json", _processor())
    write_json(out / "generation_config.json", _generation(ids))
    return gemma4_config(sizes, ids, saved_again)


def _generation(ids: dict[str, int]) -> Json:
    return {
        "bos_token_id": ids["<bos>"],
        "do_sample": True,
        "eos_token_id": [ids["<eos>"], ids["<turn|>"], ids["<|tool_response>"]],
        "pad_token_id": ids["<pad>"],
        "temperature": 1.0,
        "top_k": 64,
        "top_p": 0.95,
        "transformers_version": "5.5.0.dev0",
    }


def _processor() -> Json:
    return {
        "audio_ms_per_token": 40,
        "audio_seq_length": 750,
        "feature_extractor": _audio_extractor(),
        "image_processor": {
            **_pictures("Image"),
            "do_normalize": False,
            "image_seq_length": 280,
            "max_soft_tokens": 280,
        },
        "image_seq_length": 280,
        "processor_class": "Gemma4Processor",
        "video_processor": {
            **_pictures("Video"),
            "do_normalize": True,
            "do_sample_frames": True,
            "max_soft_tokens": 70,
            "num_frames": 32,
            "return_metadata": False,
        },
    }


def _pictures(kind: str) -> Json:
    return {
        "do_convert_rgb": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.0, 0.0, 0.0],
        f"{kind.lower()}_processor_type": f"Gemma4{kind}Processor",
        "image_std": [1.0, 1.0, 1.0],
        "patch_size": 16,
        "pooling_kernel_size": 3,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }


def _audio_extractor() -> Json:
    return {
        "dither": 0.0,
        "feature_extractor_type": "Gemma4AudioFeatureExtractor",
        "feature_size": MEL_BINS,
        "fft_length": 512,
        "fft_overdrive": False,
        "frame_length": 320,
        "hop_length": 160,
        "input_scale_factor": 1.0,
        "max_frequency": 8000.0,
        "mel_floor": 0.001,
        "min_frequency": 0.0,
        "padding_side": "right",
        "padding_value": 0.0,
        "per_bin_mean": None,
        "per_bin_stddev": None,
        "preemphasis": 0.0,
        "preemphasis_htk_flavor": True,
        "return_attention_mask": True,
        "sampling_rate": 16000,
    }
