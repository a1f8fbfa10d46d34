"""Qwen3.5 configs: the multi-token-prediction count made to agree with the tensors, towers taken out for text."""

from __future__ import annotations

from convx import Config, Options

MULTIMODAL_KEYS = (
    "vision_config", "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id",
)  # fmt: skip
MTP_COUNTS = ("mtp_num_hidden_layers", "num_nextn_predict_layers")


def sanitize(config: Config, options: Options) -> Config:
    """A config whose MTP layer count is 0 when those layers are not in the model's files."""
    out = dict(config)
    text = dict(out.get("text_config") or {})
    for key in MTP_COUNTS:
        if text.get(key) and options.mtp != "keep":
            text[key] = 0
    if text:
        out["text_config"] = text
    if options.modality == "text":
        out = {k: v for k, v in out.items() if k not in MULTIMODAL_KEYS}
    return out
