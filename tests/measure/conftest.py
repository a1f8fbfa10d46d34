"""A text, windows of it, and a converted checkpoint that a test may write to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from convx.measure.data import Windows, cut, read_text

SENTENCES = (
    "the quick brown fox jumps over the lazy dog and the other animals of the forest",
    "hello world, this is a small model that answers with words it does not understand",
    "the answer is 42, and the question was forgotten a long time ago",
)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "held-out.txt"
    path.write_text("\n".join(SENTENCES[n * n % 3] for n in range(30)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def windows(text: Path) -> Callable[..., Windows]:
    """windows(folder, count, length) -> windows of the text as that checkpoint's tokenizer cuts it."""

    def make(folder: Path, count: int = 3, length: int = 24) -> Windows:
        return cut(read_text(text), folder, windows=count, length=length)

    return make


@pytest.fixture
def own_copy(converted: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """own_copy(model, layout, format) -> a conversion that this test alone may change."""

    def make(*which: str) -> Path:
        return Path(shutil.copytree(converted(*which), tmp_path / "-".join(("model", *which))))

    return make
