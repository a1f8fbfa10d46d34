"""Fixtures: tiny real checkpoints, made once a run, and a short way to convert them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import run_convert

from convx.testing.tiny import make_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """tiny(model, layout) -> folder of a tiny source checkpoint; the same one every time. Never write to it."""
    made: dict[Any, Path] = {}
    root = tmp_path_factory.mktemp("tiny")

    def make(model: str = "gemma4-moe", layout: str = "hub", **sizes: Any) -> Path:
        key = (model, layout, *sorted(sizes.items()))
        if key not in made:
            made[key] = make_tiny(root / f"{len(made)}-{model}-{layout}", model, layout, **sizes)
        return made[key]

    return make


@pytest.fixture(scope="session")
def converted(tiny: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """converted(model, layout, format) -> folder of a conversion; the same one every time. Never write to it."""
    made: dict[Any, Path] = {}
    root = tmp_path_factory.mktemp("converted")

    def make(model: str = "gemma4-moe", layout: str = "hub", fmt: str = "nvfp4", **options: Any) -> Path:
        key = (model, layout, fmt, *sorted(options.items()))
        if key not in made:
            out = root / f"{len(made)}-{model}-{layout}-{fmt}"
            made[key] = run_convert(tiny(model, layout), out, fmt, **options)[0].path
        return made[key]

    return make
