"""Use a checkpoint as people do: load it, ask it short and long questions, show it a picture, let it go."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convx.loaders import is_multimodal
from convx.measure.model import (
    free_memory,
    load_text_model,
    load_vlm_lazily,
    prepare_for_device,
    silence,
)
from convx.measure.probes import Ask, Piece, Probe, questions, watch
from convx.measure.steps import Steps
from convx.source import Config, read_json

MAX_TOKENS = 64
LONG_CHARACTERS = 6000


@dataclass(frozen=True)
class Assets:
    """The picture and the sound to show; None where the model takes none."""

    image: Path | None
    audio: Path | None


class VlmChat:
    """A multimodal checkpoint in mlx-vlm."""

    loader = "mlx-vlm"

    def __init__(self, path: Path, max_tokens: int) -> None:
        import mlx.core as mx
        from mlx_vlm.utils import load_config, load_processor

        self._model = load_vlm_lazily(path)
        prepare_for_device(self._model, "needed")
        mx.eval(self._model.parameters())
        with silence():
            ids = getattr(self._model.config, "eos_token_id", None)
            self._processor = load_processor(path, True, eos_token_ids=ids)
        self._config = load_config(path)
        self._max_tokens = max_tokens

    def prompt(self, ask: Ask) -> str:
        from mlx_vlm.prompt_utils import apply_chat_template

        shown, heard = int(ask.image is not None), int(ask.audio is not None)
        return str(apply_chat_template(self._processor, self._config, ask.text, num_images=shown, num_audios=heard))

    def answer(self, ask: Ask) -> Iterator[Piece]:
        from mlx_vlm.generate import stream_generate

        media = {k: [str(v)] for k, v in (("image", ask.image), ("audio", ask.audio)) if v is not None}
        for piece in stream_generate(
            self._model, self._processor, self.prompt(ask), max_tokens=self._max_tokens, temperature=0.0, **media
        ):
            yield Piece(piece.text, stop_reason=piece.finish_reason, tokens=piece.generation_tokens)


class TextChat:
    """A text checkpoint in mlx-lm."""

    loader = "mlx-lm"

    def __init__(self, path: Path, max_tokens: int) -> None:
        from mlx_lm.utils import load_tokenizer

        self._model = load_text_model(path, upcast="needed")
        self._tokenizer = load_tokenizer(path)
        self._max_tokens = max_tokens

    def prompt(self, ask: Ask) -> str:
        if self._tokenizer.chat_template is None:
            return ask.text
        messages = [{"role": "user", "content": ask.text}]
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def answer(self, ask: Ask) -> Iterator[Piece]:
        from mlx_lm.generate import stream_generate

        for piece in stream_generate(
            self._model.module, self._tokenizer, self.prompt(ask), max_tokens=self._max_tokens
        ):
            yield Piece(piece.text, stop_reason=piece.finish_reason, tokens=piece.generation_tokens)


def measure_validation(
    path: str | Path,
    *,
    image: Path | None = None,
    audio: Path | None = None,
    max_tokens: int = MAX_TOKENS,
    long_characters: int = LONG_CHARACTERS,
    server: bool = False,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Probe a checkpoint in the loader that its config calls for, or with `server` through mlx_vlm.server.

    Without `image` or `audio` small ones are made. Greedy, so a second run gives the same text.
    """
    path = Path(path)
    config = read_json(path / "config.json")
    with _assets(config, image, audio) as found:
        asks = questions(
            long_characters, found.image, found.audio, sees=bool(config.get("vision_config")),
            hears=bool(config.get("audio_config")) and not server,
        )  # fmt: skip
        steps = steps or Steps()
        steps.begin("validate", len(asks) + 2)
        if server:
            from convx.measure.server import probe_server

            via, probes = "mlx_vlm.server /v1/responses", probe_server(path, asks, max_tokens, steps)
        else:
            via, probes = probe_loader(path, asks, max_tokens, steps, is_multimodal(config))
    return {"via": via, "ok": all(p.ok for p in probes), "probes": [p.as_json() for p in probes]}


def probe_loader(
    path: Path, asks: list[Ask], max_tokens: int, steps: Steps, multimodal: bool
) -> tuple[str, list[Probe]]:
    """Load, ask, unload, in this process."""
    started = time.perf_counter()
    chat: VlmChat | TextChat = (VlmChat if multimodal else TextChat)(path, max_tokens)
    probes = [Probe("load", True, time.perf_counter() - started)]
    steps.advance()
    for ask in asks:
        probes.append(watch(ask, chat.answer, chat.prompt))
        steps.advance()
    loader, started = chat.loader, time.perf_counter()
    del chat
    free_memory()
    probes.append(Probe("unload", True, time.perf_counter() - started))
    steps.advance()
    return loader, probes


@contextmanager
def _assets(config: Config, image: Path | None, audio: Path | None) -> Iterator[Assets]:
    """The picture and sound that were given, or small ones in a temporary folder."""
    from convx.testing.tiny.media import make_image, make_sound

    with tempfile.TemporaryDirectory(prefix="convx-validate-") as scratch:
        if image is None and config.get("vision_config"):
            image = make_image(Path(scratch) / "picture.png", (448, 448))
        if audio is None and config.get("audio_config"):
            audio = make_sound(Path(scratch) / "sound.wav")
        yield Assets(image, audio)
