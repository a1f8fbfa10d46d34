"""Compute what the original implementation answers on the tiny checkpoints, and keep it as `MODEL.npz`.

    pip install torch==2.13.0 transformers==5.23.0 ml_dtypes pillow pluggy tokenizers
    PYTHONPATH=core python tests/golden/make_golden.py [MODEL ...]

Only this script needs torch. On the way it proves that the tiny checkpoints are what transformers reads and
writes: nothing missing, unexpected or mis-shaped in either layout, equal logits from both, and the
`transformers5` layout equal to what `save_pretrained` writes, tensor by tensor and key by key.

A file holds, for each CASE (`text`, `image`, and `audio` where the model hears):

    CASE.input_ids                 (1, tokens) int64, and the other arguments of the forward call by name
    CASE.positions                 (kept,) int64, the token positions whose logits are kept
    CASE.logits                    (kept, vocab) float32, from float32 weights and eager attention

and `weights_sha256`, of the `hub` layout's model.safetensors: if that differs, run this script again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import wave
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors import safe_open

from convx.testing.tiny import MODELS, make_image, make_sound, make_tiny

Arrays = dict[str, np.ndarray[Any, Any]]
Model = Any

HERE = Path(__file__).parent
EVERY = 4
"""Logits are kept for every EVERY-th token, counted from the last."""
FIRST_WORD = 30
"""Ids from here on are ordinary tokens, not special ones."""
WORDS = 90
"""Tokens of a text: more than the sliding window of 64."""


def main(models: list[str]) -> None:
    torch.set_num_threads(1)
    for name in models or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            golden = make_golden(name, Path(folder))
        np.savez_compressed(HERE / f"{name}.npz", **golden)
        print(f"{name}: {(HERE / f'{name}.npz').stat().st_size:,} bytes")


def make_golden(name: str, folder: Path) -> Arrays:
    hub = make_tiny(folder / "hub", name)
    again = make_tiny(folder / "again", name, "transformers5")
    published, saved = load(hub), load(again)
    check_saving(hub, again, folder / "saved")
    digest = sha256((hub / "model.safetensors").read_bytes()).hexdigest()
    golden: Arrays = {"weights_sha256": np.array(digest)}
    for case, inputs in cases(hub, published, folder).items():
        logits = forward(published, inputs)
        difference = np.abs(logits - forward(saved, inputs)).max()
        assert difference == 0, f"{name} {case}: the layouts differ by {difference}"
        positions = np.arange(len(logits) - 1, -1, -EVERY)[::-1]
        kept = {**inputs, "positions": positions, "logits": logits[positions]}
        golden.update({f"{case}.{key}": value for key, value in kept.items()})
        print(f"{name} {case}: {len(logits)} tokens, logits of standard deviation {logits.std():.2f}")
    return golden


def load(path: Path, dtype: torch.dtype = torch.float32) -> Model:
    """The model that transformers makes of a folder, which must fit it without remainder."""
    model, report = transformers.AutoModelForImageTextToText.from_pretrained(
        path,
        dtype=dtype,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    complaints = {key: value for key, value in report.items() if value}
    assert not complaints, f"{path.name}: {complaints}"
    return model.eval()


def check_saving(hub: Path, again: Path, saved: Path) -> None:
    """What transformers saves of `again` is `again`; what it makes anew has the same names and shapes.

    Of `hub` it saves what it uses, as it was: it does not unfuse experts that it has not fused.
    """
    load(again, torch.bfloat16).save_pretrained(saved / "again")
    assert equal(tensors(again), tensors(saved / "again"))
    mine, theirs = (json.loads((path / "config.json").read_text()) for path in (again, saved / "again"))
    assert mine == theirs, f"config.json: {differences(mine, theirs)}"
    published = load(hub, torch.bfloat16)
    published.save_pretrained(saved / "hub")
    kept, stored = tensors(saved / "hub"), tensors(hub)
    assert equal(kept, {key: stored[key] for key in kept})
    type(published)(published.config).save_pretrained(saved / "new")
    assert shapes(saved / "new") == shapes(again)


def equal(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return mine.keys() == theirs.keys() and all(
        tensor.dtype == mine[key].dtype and torch.equal(tensor, mine[key]) for key, tensor in theirs.items()
    )


def shapes(path: Path) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in tensors(path).items()}


def differences(mine: dict[str, Any], theirs: dict[str, Any], where: str = "") -> list[str]:
    found = []
    for key in sorted(mine.keys() | theirs.keys()):
        one, other = mine.get(key, "absent"), theirs.get(key, "absent")
        if isinstance(one, dict) and isinstance(other, dict):
            found += differences(one, other, f"{where}{key}.")
        elif one != other:
            found.append(f"{where}{key}: {one} != {other}")
    return found


def tensors(path: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in path.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            found.update({key: opened.get_tensor(key) for key in opened.keys()})  # noqa: SIM118
    return found


def forward(model: Model, inputs: Arrays) -> np.ndarray[Any, Any]:
    """Logits (tokens, vocab) float32."""
    with torch.no_grad():
        output = model(**{key: torch.tensor(value) for key, value in inputs.items()}, use_cache=False)
    return output.logits[0].float().numpy()


def cases(path: Path, model: Model, folder: Path) -> dict[str, Arrays]:
    config = model.config
    found = {"text": {"input_ids": words(config, WORDS)}}
    if config.model_type == "gemma4":
        found["image"] = gemma4_image(path, config, folder)
    else:
        found["image"] = qwen35_image(path, config, folder)
    if getattr(config, "audio_config", None):
        found["audio"] = gemma4_audio(path, model, folder)
    return found


def words(config: Any, count: int) -> np.ndarray[Any, Any]:
    """(1, count) ordinary token ids, always the same."""
    return np.random.default_rng(0).integers(FIRST_WORD, config.get_text_config().vocab_size, (1, count))


def sentence(config: Any, opening: int, token: int, count: int, closing: int) -> np.ndarray[Any, Any]:
    """Words with `count` placeholders in their midst: (1, tokens)."""
    before, after = np.split(words(config, WORDS - 10), [45], axis=1)
    inner = np.array([[opening, *[token] * count, closing]])
    return np.concatenate([before, inner, after], axis=1)


def picture(folder: Path) -> Image.Image:
    """192 x 96 pixels: whole patches and whole pools for every model, so it need not be resized."""
    return Image.open(make_image(folder / "image.png", (192, 96)))


def gemma4_image(path: Path, config: Any, folder: Path) -> Arrays:
    """pixel_values (1, patches, 768) in [0, 1]; image_position_ids (1, patches, 2), -1 where padded.

    No mm_token_type_ids: with them, image tokens see each other, in transformers 5.23 in sliding layers only
    and in mlx-vlm 0.7.10 in all layers, so that the two agree on causal attention alone.
    """
    processor = transformers.AutoImageProcessor.from_pretrained(path, backend="pil")
    features = processor(picture(folder), do_resize=False, max_soft_tokens=70, return_tensors="np")
    count = int(features["num_soft_tokens_per_image"][0])
    return {
        "input_ids": sentence(config, config.boi_token_id, config.image_token_id, count, config.eoi_token_id),
        "pixel_values": features["pixel_values"].astype(np.float32),
        "image_position_ids": features["image_position_ids"].astype(np.int64),
    }


def qwen35_image(path: Path, config: Any, folder: Path) -> Arrays:
    """pixel_values (patches, 1536) in [-1, 1]; image_grid_thw (1, 3): frames, rows and columns of patches."""
    processor = transformers.AutoImageProcessor.from_pretrained(path, backend="pil")
    features = processor(picture(folder), do_resize=False, return_tensors="np")
    grid = features["image_grid_thw"]
    count = int(grid[0].prod()) // processor.merge_size**2
    ids = sentence(config, config.vision_start_token_id, config.image_token_id, count, config.vision_end_token_id)
    return {
        "input_ids": ids,
        "mm_token_type_ids": (ids == config.image_token_id).astype(np.int64),
        "pixel_values": features["pixel_values"].astype(np.float32),
        "image_grid_thw": np.asarray(grid, dtype=np.int64),
    }


def gemma4_audio(path: Path, model: Model, folder: Path) -> Arrays:
    """input_features (1, frames, 128) log mel; input_features_mask (1, frames), true where there is sound."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(path)
    with wave.open(str(make_sound(folder / "sound.wav", seconds=0.9))) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    features = extractor([samples], return_tensors="np")
    heard = {key: np.asarray(features[key]) for key in ("input_features", "input_features_mask")}
    heard["input_features"] = heard["input_features"].astype(np.float32)
    with torch.no_grad():
        encoded = model.model.get_audio_features(**{key: torch.tensor(value) for key, value in heard.items()})
    count = int(encoded.attention_mask.sum())
    config = model.config
    ids = sentence(config, config.boa_token_id, config.audio_token_id, count, config.eoa_token_index)
    return {"input_ids": ids, **heard}


if __name__ == "__main__":
    main(sys.argv[1:])
