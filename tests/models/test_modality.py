"""--modality text: towers, config, processor files and template agree, and both loaders open it as a text model."""

from __future__ import annotations

import json

import pytest
from support import LAYOUTS, MODELS, run_convert

from convx.options import Options
from convx.session import open_session
from convx.source import open_source
from convx.verify import verify


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_only(tiny, tmp_path, model, layout):
    out = run_convert(tiny(model, layout), tmp_path / "out", "nvfp4", modality="text")[0].path
    config = json.loads((out / "config.json").read_text())
    assert not [key for key in config if "vision" in key or "audio" in key or "image" in key or "video" in key]
    assert not [name for name in open_source(out).tensors if not name.startswith("language_model.")]
    assert not [p.name for p in out.iterdir() if "processor" in p.name]
    verdict = verify(out)
    assert verdict.ok
    assert verdict.loaders == ("mlx-vlm", "mlx-lm")
    record = json.loads((out / "convx.json").read_text())
    assert record["multimodal"] is False
    assert all(
        "--modality text" in d["reason"] for d in record["dropped"] if "tower" in d["name"] or "visual" in d["name"]
    )


@pytest.mark.parametrize("model", MODELS)
def test_the_template_refuses_media(tiny, tmp_path, model):
    from transformers import AutoTokenizer

    out = run_convert(tiny(model), tmp_path / "out", "nvfp4", modality="text")[0].path
    tokenizer = AutoTokenizer.from_pretrained(out)
    plain = [{"role": "user", "content": "hello"}]
    original = AutoTokenizer.from_pretrained(tiny(model))
    assert tokenizer.apply_chat_template(plain, tokenize=False) == original.apply_chat_template(plain, tokenize=False)
    media = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is it?"}]}]
    with pytest.raises(Exception, match="text only"):
        tokenizer.apply_chat_template(media, tokenize=False)


@pytest.mark.parametrize("mtp", ["drop", "keep", "split"])
def test_draft_layers_and_config_agree(tiny, tmp_path, mtp):
    source = tiny("qwen35-moe", mtp=True)
    out = run_convert(source, tmp_path / "out", "nvfp4", mtp=mtp)[0].path
    text = json.loads((out / "config.json").read_text())["text_config"]
    stored = [n for n in open_source(out).tensors if "mtp." in n]
    assert (text["mtp_num_hidden_layers"] > 0) == bool(stored) == (mtp == "keep")
    assert (out / "mtp.safetensors").is_file() == (mtp == "split")
    assert verify(out).ok
    plain = open_session(tiny("qwen35-moe"), formats=("nvfp4",), options=Options()).plans[0]
    norm = "language_model.model.layers.0.input_layernorm.weight"
    got = open_source(out).weights()[norm].read()
    assert (got == next(t for t in plain.tensors if t.name == norm).tensor.read()).all(), (
        "the norm is shifted by the conv layout"
    )


def test_recurrent_state_is_bit_exact(tiny, tmp_path):
    source = tiny("qwen35-moe", state_dtype="float32")
    out = run_convert(source, tmp_path / "out", "mxfp4", dtype=None)[0].path
    for name, tensor in open_source(source).weights().items():
        if name.endswith(("A_log", "dt_bias")):
            new = name.replace("model.language_model", "language_model.model")
            assert open_source(out).weights()[new].read().tobytes() == tensor.read().tobytes()
