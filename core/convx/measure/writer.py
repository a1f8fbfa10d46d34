"""Greedy completions of a text model, for the task suites that convx runs itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convx.errors import MeasureError
from convx.measure.model import TextModel, load_text_model


class Writer:
    """A checkpoint that completes texts and answers chats, one at a time, greedily."""

    def __init__(self, path: Path, model: TextModel | None = None) -> None:
        from mlx_lm.utils import load_tokenizer

        self.model = model or load_text_model(path)
        self.tokenizer = load_tokenizer(path)

    def complete(self, prompt: str, max_tokens: int, stops: Sequence[str] = ()) -> str:
        """What follows a prompt, until a stop text (not part of the answer) or the end."""
        from mlx_lm.generate import stream_generate

        text: str = ""
        for piece in stream_generate(self.model.module, self.tokenizer, prompt, max_tokens=max_tokens):
            text += piece.text
            found = [text.find(stop) for stop in stops if stop in text]
            if found:
                return text[: min(found)]
        return text

    def chat(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
        """The prompt that the checkpoint's own template makes of a chat."""
        if self.tokenizer.chat_template is None:
            return "\n".join(str(m["content"]) for m in messages) + "\n"
        return str(
            self.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=True)
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON file that holds a list, or of a file with one JSON object a line."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = json.loads(text) if text.lstrip().startswith("[") else list(_lines(text))
    except (OSError, ValueError) as error:
        raise MeasureError(f"{path}: cannot be read as JSON: {error}") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise MeasureError(f"{path}: holds no list of JSON objects")
    return list(rows)


def _lines(text: str) -> Iterable[Any]:
    return (json.loads(line) for line in text.splitlines() if line.strip())
