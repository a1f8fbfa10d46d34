"""Processor files at parity: what the stock processor computes from the output equals what it does from the source."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import LAYOUTS, MODELS

from convx.testing.tiny import make_image, make_sound

SIZES = [(64, 64), (200, 50), (48, 300), (331, 97), (16, 16), (640, 480)]


def processor_of(path: Path):
    from mlx_vlm.utils import load_processor

    return load_processor(path)


def arrays(processor, text: str, **media) -> dict[str, np.ndarray]:
    out = processor(text=[text], return_tensors="np", **media)
    return {key: np.asarray(value) for key, value in out.items()}


def placeholder(processor, name: str) -> str:
    return str(getattr(processor, name, None) or getattr(processor.tokenizer, name))


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert set(first) == set(second)
    for key, value in first.items():
        assert value.dtype == second[key].dtype, key
        assert np.array_equal(value, second[key]), key


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", MODELS)
def test_pixels_and_positions(tiny, converted, tmp_path, model, size):
    image = Image.open(make_image(tmp_path / "image.png", size))
    results = []
    for path in (tiny(model), converted(model, "hub", "nvfp4")):
        processor = processor_of(path)
        results.append(arrays(processor, f"a {placeholder(processor, 'image_token')} b", images=[image]))
    assert "pixel_values" in results[0]
    assert_same(*results)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mel_features(tiny, converted, tmp_path, layout):
    from mlx_vlm.utils import load_audio

    sound = make_sound(tmp_path / "sound.wav")
    results = []
    for path in (tiny("gemma4-e4b", layout), converted("gemma4-e4b", layout, "nvfp4")):
        processor = processor_of(path)
        samples = load_audio(str(sound), sr=processor.feature_extractor.sampling_rate)
        results.append(arrays(processor, f"a {placeholder(processor, 'audio_token')} b", audio=[np.asarray(samples)]))
    features = results[0]["input_features"]
    assert features.shape[-1] == 128
    assert np.abs(features).max() > 0
    assert_same(*results)


def test_the_audio_extractor_is_128_mels_by_257_frequencies(converted):
    extractor = processor_of(converted("gemma4-e4b", "hub", "nvfp4")).feature_extractor
    assert extractor.mel_filters.shape == (257, 128)


@pytest.mark.parametrize("model", MODELS)
def test_files_are_carried_byte_for_byte(tiny, converted, model):
    source, out = tiny(model), converted(model, "hub", "nvfp4")
    for path in source.iterdir():
        if path.suffix != ".safetensors" and path.name not in {"config.json", "model.safetensors.index.json"}:
            assert path.read_bytes() == (out / path.name).read_bytes(), path.name


def test_an_older_loader_finds_the_same_image_settings(converted, tmp_path):
    """Loaders that know only `preprocessor_config.json` resize and normalise alike."""
    out = converted("gemma4-moe", "hub", "nvfp4")
    older = Path(shutil.copytree(out, tmp_path / "older"))
    (older / "processor_config.json").unlink()
    image = Image.open(make_image(tmp_path / "image.png", (200, 50)))
    results = []
    for path in (out, older):
        processor = processor_of(path)
        results.append(arrays(processor, f"a {placeholder(processor, 'image_token')} b", images=[image]))
    assert_same(*results)
