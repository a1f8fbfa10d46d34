"""What a checkpoint is asked when it is validated, and what is kept of each answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convx.errors import MeasureError
from convx.measure.reasoning import parse

SHORT = "Name the three primary colours, in one sentence."
LONG_QUESTION = "\n\nHow many sentences above speak of a lighthouse? Answer with one number."
LOOK, LISTEN = "Describe this picture in one sentence.", "What do you hear? Answer in one sentence."
_SENTENCES = (
    "The lighthouse on the northern cape was lit again after a winter of repairs.",
    "A letter from the harbour office arrived too late to change anything.",
    "Prices of salt and rope rose for the third year in a row.",
    "Nobody remembered who had planted the pear trees behind the school.",
)


@dataclass(frozen=True)
class Ask:
    """One question, with the picture or the sound that belongs to it."""

    name: str
    text: str
    image: Path | None = None
    audio: Path | None = None


@dataclass(frozen=True)
class Piece:
    """A piece of an answer as it arrives; the last one says why the answer ended."""

    text: str
    reasoning: str = ""
    stop_reason: str | None = None
    tokens: int = 0


@dataclass(frozen=True)
class Probe:
    """What came of one question. Times in seconds, `characters` of answer and reasoning without their markers."""

    name: str
    ok: bool
    seconds: float
    first_token_seconds: float | None = None
    characters: int = 0
    tokens: int = 0
    stop_reason: str | None = None
    reasoning: str = "none"
    reasoning_characters: int = 0
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """What was observed; loading and unloading have no answer to tell of."""
        silent = self.first_token_seconds is None
        kept = ("name", "ok", "seconds", "error") if silent else tuple(asdict(self))
        return {key: value for key, value in asdict(self).items() if key in kept and value is not None}


def long_text(characters: int) -> str:
    """A text of at least so many characters, the same every time, and a question about it."""
    sentences: list[str] = []
    size = 0
    while size < characters:
        sentences.append(_SENTENCES[(len(sentences) * 7 + len(sentences) // 3) % len(_SENTENCES)])
        size += len(sentences[-1]) + 1
    return " ".join(sentences) + LONG_QUESTION


def questions(characters: int, image: Path | None, audio: Path | None, *, sees: bool, hears: bool) -> list[Ask]:
    """The probes for a model: short and long text, and a picture and a sound where it takes them."""
    asks = [Ask("short text", SHORT), Ask("long text", long_text(characters))]
    if sees and image is not None:
        asks.append(Ask("image", LOOK, image=image))
    if hears and audio is not None:
        asks.append(Ask("audio", LISTEN, audio=audio))
    return asks


def watch(ask: Ask, answer: Callable[[Ask], Iterable[Piece]], prompt: Callable[[Ask], str]) -> Probe:
    """Ask and time the answer. A failure of the loader becomes a failed probe, not an error of the measurement."""
    started = time.perf_counter()
    first, pieces = None, []
    try:
        for piece in answer(ask):
            first = first if first is not None else time.perf_counter() - started
            pieces.append(piece)
        opening = prompt(ask)
    except MeasureError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        return Probe(ask.name, False, time.perf_counter() - started, error=f"{type(error).__name__}: {said}")
    return _judge(ask, pieces, time.perf_counter() - started, first, opening)


def _judge(ask: Ask, pieces: list[Piece], seconds: float, first: float | None, opening: str) -> Probe:
    apart = "".join(p.reasoning for p in pieces)
    parsed = parse("".join(p.text for p in pieces), opening if not apart else "")
    reasoning = apart or parsed.reasoning
    state = ("closed" if parsed.answer else "open") if apart else parsed.state
    tokens = max((p.tokens for p in pieces), default=0)
    reason = next((p.stop_reason for p in reversed(pieces) if p.stop_reason), None)
    ok = tokens > 0 and reason is not None
    return Probe(
        ask.name, ok, seconds, first, len(parsed.answer), tokens, reason, state, len(reasoning),
        None if ok else "no token came out",
    )  # fmt: skip
