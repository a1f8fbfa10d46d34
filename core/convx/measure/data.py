"""Text to measure on, and its cut into windows of tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from convx.errors import MeasureError

Array = np.ndarray[Any, Any]
Encode = Callable[[str], list[int]]
TokenizerKind = Literal["file", "loader"]

WINDOWS, LENGTH = 128, 2048
"""How many windows of how many tokens, if nothing else is asked for."""


@dataclass(frozen=True)
class Text:
    """A text, its name without the folder, and the sha256 of its UTF-8 bytes."""

    name: str
    text: str = field(repr=False)
    sha256: str


@dataclass(frozen=True)
class Windows:
    """Tokens (windows, length), int32, of `text`: each window is predicted from its own tokens alone."""

    text: Text
    tokens: Array = field(repr=False)
    settings: dict[str, Any]

    @property
    def count(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def positions(self) -> int:
        """Predictions a window: every token but the first."""
        return int(self.tokens.shape[1]) - 1

    def batches(self, size: int) -> Iterator[tuple[int, Array]]:
        """(number of the first window, tokens (at most `size`, length))."""
        for start in range(0, self.count, size):
            yield start, self.tokens[start : start + size]


def read_text(path: str | Path) -> Text:
    """A text file, UTF-8. Raises MeasureError when it cannot be read or is empty."""
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise MeasureError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    if not text.strip():
        raise MeasureError(f"{path}: holds no text")
    return Text(path.name, text, sha256(raw).hexdigest())


def load_data_set(spec: str) -> Text:
    """A Hub data set, `ID[:CONFIG[:SPLIT[:COLUMN]]]` (split `test`, column `text`), its rows joined by blank lines.

    WikiText-2, as most cards measure it, is `Salesforce/wikitext:wikitext-2-raw-v1`.
    """
    try:
        import datasets
    except ImportError:
        raise MeasureError(
            "data sets of the Hub need the package datasets", hint="pip install datasets, or give --text FILE"
        ) from None
    name, config, split, column = (*spec.split(":"), "", "", "")[:4]
    try:
        rows = datasets.load_dataset(name, config or None, split=split or "test")
        joined = "\n\n".join(str(row) for row in rows[column or "text"])
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MeasureError(f"data set {spec}: {first}", hint="ID:CONFIG:SPLIT:COLUMN; or give --text FILE") from error
    return Text(spec, joined, sha256(joined.encode()).hexdigest())


def cut(
    text: Text, folder: Path, *, windows: int, length: int, tokenizer: TokenizerKind = "file", bos: bool = False
) -> Windows:
    """The first `windows` runs of `length` tokens of `text`, or as many whole ones as it holds.

    This is how mlx_lm.perplexity cuts its data: the text is encoded once, and runs follow without overlap.
    With `bos` the first token of each window is replaced by the beginning-of-sequence token, as llama.cpp does.
    """
    if length < 2 or windows < 1:
        raise MeasureError(f"{windows} windows of {length} tokens", hint="at least 1 window of 2 tokens")
    ids = encoder(folder, tokenizer)(text.text)
    count = min(windows, len(ids) // length)
    if count == 0:
        raise MeasureError(f"{text.name}: {len(ids)} tokens are no window of {length}", hint="give a smaller --length")
    tokens = np.array(ids[: count * length], np.int32).reshape(count, length)
    if bos:
        tokens[:, 0] = bos_id(folder)
    settings = {
        "data": text.name, "data_sha256": text.sha256, "windows": count, "length": length, "tokenizer": tokenizer,
        "bos": bos,
    }  # fmt: skip
    return Windows(text, tokens, settings)


def encoder(folder: Path, kind: TokenizerKind = "file") -> Encode:
    """Text -> token ids, by `tokenizer.json` as it is stored (`file`) or as the stock loader makes of it (`loader`).

    The two agree for a published model. They differ where transformers rebuilds a tokenizer from its class, so
    the file is what gives the same windows in every release.
    """
    path = folder / "tokenizer.json"
    if kind == "file" and path.is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        return lambda text: list(tokenizer.encode(text).ids)
    from mlx_lm.utils import load_tokenizer

    loaded = load_tokenizer(folder)
    return lambda text: list(loaded.encode(text))


def bos_id(folder: Path) -> int:
    """Id of the beginning-of-sequence token. Raises MeasureError when the tokenizer has none."""
    path = folder / "tokenizer_config.json"
    token = json.loads(path.read_text()).get("bos_token") if path.is_file() else None
    token = token.get("content") if isinstance(token, dict) else token
    found = encoder_vocabulary(folder).get(token) if token else None
    if found is None:
        raise MeasureError(f"{folder}: its tokenizer has no beginning-of-sequence token", hint="leave --bos out")
    return found


def encoder_vocabulary(folder: Path) -> dict[str, int]:
    from tokenizers import Tokenizer

    found: dict[str, int] = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    return found


def refuse_calibration(text: Text, record: dict[str, Any] | None, name: str) -> None:
    """Raises MeasureError when this very text was used to calibrate the checkpoint."""
    used = ((record or {}).get("calibration") or {}).get("data_sha256")
    if text.sha256 in (used if isinstance(used, list) else [used]):
        raise MeasureError(
            f"{text.name}: {name} was calibrated on this text, so it cannot be measured on it",
            hint="give held-out text, such as the test part of WikiText-2",
        )
