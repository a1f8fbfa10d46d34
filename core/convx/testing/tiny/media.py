"""A picture and a sound that are always the same."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000


def make_sound(path: Path, seconds: float = 1.0) -> Path:
    """Write a rising tone with an echo of noise: 16 kHz, mono, 16-bit WAV."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, time.size)
    tone = 0.4 * np.sin(2 * np.pi * (200.0 + 900.0 * time) * time) + noise
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(tone * 32767).astype("<i2").tobytes())
    return path


def make_image(path: Path, size: tuple[int, int] = (144, 96)) -> Path:
    """Write an RGB PNG of `size` (width, height): gradients with a few discs, different in every corner."""
    from PIL import Image

    width, height = size
    y, x = np.mgrid[:height, :width]
    channels = [255 * x / width, 255 * y / height, 128 + 0 * x]
    pixels = np.stack(channels, axis=-1).astype(np.uint8)
    random = np.random.default_rng(0)
    for _ in range(6):
        center_x, center_y, radius = random.uniform((0, 0, 0.05), (1, 1, 0.25)) * (width, height, height)
        pixels[(x - center_x) ** 2 + (y - center_y) ** 2 < radius**2] = random.integers(0, 256, 3)
    Image.fromarray(pixels).save(path)
    return path
