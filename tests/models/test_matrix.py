"""Every model, in both source layouts, in every format: planned bytes, nothing lost, strict load, generation."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from support import FORMATS, LAYOUTS, MODELS

from convx.checkpoint import read_record
from convx.session import open_session
from convx.source import open_source
from convx.testing.tiny import make_image, make_sound
from convx.verify import verify

MATRIX = [(m, lay, f) for m in MODELS for lay in LAYOUTS for f in FORMATS]


@pytest.mark.parametrize(("model", "layout", "fmt"), MATRIX)
def test_planned_bytes_are_on_disk_and_both_loaders_open_them(tiny, converted, model, layout, fmt):
    path = converted(model, layout, fmt)
    plan = open_session(tiny(model, layout), formats=(fmt,)).plans[0]
    written = open_source(path)
    assert written.nbytes == plan.total_bytes
    assert (path / plan.shards[0].name).stat().st_size == plan.shards[0].nbytes
    verdict = verify(path)
    assert verdict.findings == ()
    assert verdict.loaders == ("mlx-vlm", "mlx-lm")


@pytest.mark.parametrize(("model", "layout"), [(m, lay) for m in MODELS for lay in LAYOUTS])
def test_every_source_tensor_is_written_or_dropped_by_name(tiny, converted, model, layout):
    record = read_record(converted(model, layout, "nvfp4"))
    used = {name for tensor in record["tensors"] for name in tensor["source"]}
    dropped = {d["name"]: d["reason"] for d in record["dropped"]}
    assert used | set(dropped) == set(open_source(tiny(model, layout)).tensors)
    assert not used & set(dropped)
    assert all(dropped.values())


@pytest.mark.parametrize("model", MODELS)
def test_both_layouts_give_the_same_tensors(converted, model):
    """Row 22 of the field: what transformers 5 saves and what the Hub has are one model."""
    first, second = (open_source(converted(model, layout, "nvfp4")) for layout in LAYOUTS)
    assert set(first.tensors) == set(second.tensors)
    for name, tensor in first.weights().items():
        assert tensor.read().tobytes() == second.weights()[name].read().tobytes(), name


def generate_vlm(path: Path, prompt: str, *, upcast: bool, **media) -> str:
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_vlm import generate, load
    from mlx_vlm.prompt_utils import apply_chat_template

    with contextlib.redirect_stdout(io.StringIO()):
        model, processor = load(str(path))
        if upcast:  # mlx's GatherMM is float32 only on a CPU
            model.update(tree_map(lambda w: w.astype(mx.float32) if w.dtype == mx.bfloat16 else w, model.parameters()))
        counts = {"num_images": len(media.get("image", ())), "num_audios": len(media.get("audio", ()))}
        text = apply_chat_template(processor, model.config, prompt, **counts)
        return generate(model, processor, text, max_tokens=4, verbose=False, temperature=0.0, **media).text


def generate_lm(path: Path, prompt: str, *, upcast: bool) -> str:
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm import generate, load

    model, tokenizer = load(str(path))
    if upcast:
        model.update(tree_map(lambda w: w.astype(mx.float32) if w.dtype == mx.bfloat16 else w, model.parameters()))
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)
    return generate(model, tokenizer, text, max_tokens=4)


# One format a model in the quick run; all of them in the slow one.
QUICK = {("gemma4-moe", "hub", "nvfp4"), ("gemma4-e4b", "transformers5", "mxfp8"), ("qwen35-moe", "hub", "bf16")}


@pytest.mark.parametrize(
    ("model", "layout", "fmt"), [pytest.param(*c, marks=() if c in QUICK else pytest.mark.slow) for c in MATRIX]
)
def test_generates_from_text_image_and_sound(converted, tmp_path, model, layout, fmt):
    path = converted(model, layout, fmt)
    upcast = fmt == "bf16"
    assert isinstance(generate_lm(path, "hello", upcast=upcast), str)
    assert isinstance(generate_vlm(path, "hello", upcast=upcast), str)
    image = make_image(tmp_path / "image.png", (64, 96))
    assert isinstance(generate_vlm(path, "what is it?", upcast=upcast, image=[str(image)]), str)
    if model == "gemma4-e4b":
        sound = make_sound(tmp_path / "sound.wav")
        assert isinstance(generate_vlm(path, "what is said?", upcast=upcast, audio=[str(sound)]), str)
