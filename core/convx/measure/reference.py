"""Open what a model is compared with: another checkpoint, or an unconverted source."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convx.errors import MeasureError
from convx.measure.data import Windows, encoder
from convx.measure.distributions import Distribution, Whole
from convx.measure.model import TextModel, free_memory, load_text_model


@dataclass(frozen=True)
class LiveReference:
    """A reference model in memory beside the one that is measured; every token of the vocabulary counts."""

    model: TextModel
    name: str

    method = "exact"

    def require(self, windows: Windows) -> None:
        """Raises MeasureError when the reference's own tokenizer cuts the text otherwise."""
        if windows.settings["bos"]:
            return
        ids = encoder(self.model.path, windows.settings["tokenizer"])(windows.text.text)[: windows.tokens.size]
        if not np.array_equal(ids, windows.tokens.reshape(-1)):
            raise MeasureError(
                f"{self.name}: its tokenizer does not give the model's tokens, so no position can be compared",
                hint="the reference must be what the model was converted from, or a sibling of it",
            )

    def chunks(self, first: int, tokens: Any, step: int) -> Iterator[Distribution]:  # noqa: ANN401
        for _, logits in self.model.chunks(tokens, step):
            yield Whole(logits)


@contextmanager
def reference_model(where: str | Path) -> Iterator[tuple[TextModel, str]]:
    """The model at `where` (a folder or a Hub id) and its name.

    A source that no stock loader opens as it is, is converted without quantization to a temporary folder first.
    """
    from convx.source import open_source

    source = open_source(where)
    if source.bare:
        raise MeasureError(f"{where}: a bare config has no weights to compare with")
    folder, name = source.folder, source.name
    source.close()
    with tempfile.TemporaryDirectory(prefix="convx-reference-") as scratch:
        try:
            model = load_text_model(folder)
        except MeasureError as error:
            model = load_text_model(_converted(folder, Path(scratch) / "reference", error))
        try:
            yield model, name
        finally:
            del model
            free_memory()


def _converted(source: Path, out: Path, why: MeasureError) -> Path:
    from convx.convert import convert
    from convx.errors import ConvxError
    from convx.session import open_session

    try:
        convert(open_session(source, formats=("keep",)), out)
    except ConvxError as error:
        raise MeasureError(
            f"{why.message}\n  and it cannot be converted: {error.message}", hint="convert it to bf16 first"
        ) from error
    return out
