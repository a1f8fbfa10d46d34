"""Measure a checkpoint: choose what, do it in an order that keeps one model in memory, write it down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convx.checkpoint import open_checkpoint
from convx.errors import MeasureError
from convx.measure import data as texts
from convx.measure.kl import Reference, measure_kl
from convx.measure.logits import TOP_K, open_logits, save_logits
from convx.measure.model import TextModel, free_memory, load_text_model
from convx.measure.perplexity import measure_perplexity
from convx.measure.reference import LiveReference, reference_model
from convx.measure.results import Entry, make_entry, save
from convx.measure.speed import CONTEXTS, GENERATED, TRIALS, load_cold, measure_speed
from convx.measure.steps import Steps
from convx.measure.tasks import measure_tasks
from convx.measure.tensors import measure_with_roles
from convx.measure.validate import LONG_CHARACTERS, MAX_TOKENS, measure_validation

KINDS = ("speed", "perplexity", "kl", "validate", "tasks", "tensors")
"""In the order in which they are measured: a cold load comes first."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and on what; the words are those of `convx measure`."""

    text: Path | None = None
    data: str | None = None
    windows: int = texts.WINDOWS
    length: int = texts.LENGTH
    batch: int = 1
    bos: bool = False
    tokenizer: texts.TokenizerKind = "file"
    reference: str | None = None
    save_logits: Path | None = None
    logits: Path | None = None
    exact: bool = False
    top_k: int = TOP_K
    contexts: tuple[int, ...] = CONTEXTS
    trials: int = TRIALS
    generate: int = GENERATED
    image: Path | None = None
    audio: Path | None = None
    server: bool = False
    max_tokens: int = MAX_TOKENS
    long_characters: int = LONG_CHARACTERS
    tasks: tuple[str, ...] = ()
    task_data: Mapping[str, Path] = field(default_factory=dict)
    shots: int | None = None
    limit: int | None = None
    task_tokens: int | None = None
    allow_code: bool = False
    imatrix: Path | None = None
    seed: int = 0


def possible_kinds(settings: Settings) -> tuple[str, ...]:
    """What can be measured with what was given."""
    has_text = settings.text is not None or settings.data is not None
    given = {
        "speed": True,
        "perplexity": has_text,
        "kl": has_text and (settings.reference is not None or settings.logits is not None),
        "validate": True,
        "tasks": bool(settings.tasks),
        "tensors": False,
    }
    return tuple(kind for kind in KINDS if given[kind])


def measure(
    path: str | Path,
    kinds: Sequence[str] | None = None,
    settings: Settings | None = None,
    *,
    record: bool = True,
    steps: Steps | None = None,
) -> dict[str, Entry]:
    """Measure the checkpoint at `path`; without `kinds`, all that can be measured with what was given.

    Each result goes into `convx.json` as soon as it is there, unless `record` is off or there is none. Raises
    MeasureError for what cannot be measured as asked; what was measured before it is kept.
    """
    path, settings, steps = Path(path), settings or Settings(), steps or Steps()
    kinds = possible_kinds(settings) if kinds is None else kinds
    if unknown := set(kinds) - set(KINDS):
        raise MeasureError(f"unknown measurement {', '.join(sorted(unknown))}", hint=f"known: {', '.join(KINDS)}")
    open_checkpoint(path).source.close()
    found = {}
    run = Run(path, settings, steps)
    for kind in KINDS:
        if kind in kinds:
            started = time.perf_counter()
            asked, values = run.measurements[kind]()
            found[kind] = make_entry(asked, values, time.perf_counter() - started)
            if record:
                save(path, kind, found[kind])
    return found


Result = tuple[dict[str, Any], dict[str, Any]]
"""Settings as they are recorded, and values."""


class Run:
    """The measurements of one checkpoint. Windows and the model are made when they are first needed."""

    def __init__(self, path: Path, settings: Settings, steps: Steps) -> None:
        self.path, self.settings, self.steps = path, settings, steps
        self._windows: texts.Windows | None = None
        self.measurements: dict[str, Callable[[], Result]] = {
            "speed": self.speed, "perplexity": self.perplexity, "kl": self.kl, "validate": self.validate,
            "tasks": self.tasks, "tensors": self.tensors,
        }  # fmt: skip

    @property
    def windows(self) -> texts.Windows:
        if self._windows is None:
            self._windows = held_out_windows(self.path, self.settings)
        return self._windows

    def speed(self) -> Result:
        s = self.settings
        model, loading = load_cold(self.path)
        values = measure_speed(
            model, contexts=s.contexts, trials=s.trials, generate=s.generate, seed=s.seed, steps=self.steps
        )
        asked = {"contexts": list(s.contexts), "trials": s.trials, "generated": s.generate, "seed": s.seed}
        asked |= {"loader": model.loader, "compute": model.compute}
        del model
        free_memory()
        return asked, {**loading, **values}

    def perplexity(self) -> Result:
        windows = self.windows
        model = load_text_model(self.path)
        values = measure_perplexity(model, windows, batch=self.settings.batch, steps=self.steps)
        return {**windows.settings, "batch": self.settings.batch, "compute": model.compute}, values

    def kl(self) -> Result:
        windows = self.windows
        with open_reference(windows, self.settings, self.steps) as reference:
            model = load_text_model(self.path)
            values = measure_kl(model, reference, windows, batch=self.settings.batch, steps=self.steps)
            return kl_settings(model, reference, windows, self.settings.batch), values

    def validate(self) -> Result:
        s = self.settings
        values = measure_validation(
            self.path, image=s.image, audio=s.audio, max_tokens=s.max_tokens, long_characters=s.long_characters,
            server=s.server, steps=self.steps,
        )  # fmt: skip
        asked = {"max_tokens": s.max_tokens, "long_characters": s.long_characters, "server": s.server}
        return {**asked, "image": s.image and s.image.name, "audio": s.audio and s.audio.name}, values

    def tasks(self) -> Result:
        s = self.settings
        if not s.tasks:
            raise MeasureError("no task is named", hint="--tasks mmlu,gsm8k,ifeval,humaneval,bfcl")
        values = measure_tasks(
            self.path, s.tasks, data=s.task_data, shots=s.shots, limit=s.limit, max_tokens=s.task_tokens,
            allow_code=s.allow_code, seed=s.seed, steps=self.steps,
        )  # fmt: skip
        sums = {name: texts.read_text(path).sha256 for name, path in s.task_data.items() if name in s.tasks}
        asked = {"tasks": list(s.tasks), "data_sha256": sums, "shots": s.shots, "limit": s.limit, "seed": s.seed}
        return asked, values

    def tensors(self) -> Result:
        s = self.settings
        if s.reference is None:
            raise MeasureError("tensors are compared with their source", hint="--reference SOURCE")
        values = measure_with_roles(self.path, s.reference, imatrix=s.imatrix, steps=self.steps)
        return {"reference": Path(s.reference).resolve().name if Path(s.reference).exists() else s.reference}, values


def held_out_windows(path: Path, settings: Settings) -> texts.Windows:
    """The windows to measure on. Raises MeasureError when the checkpoint was calibrated on this text."""
    if settings.text is None and settings.data is None:
        raise MeasureError("no text to measure on", hint="--text FILE, or --data DATASET:CONFIG:SPLIT:COLUMN")
    text = texts.read_text(settings.text) if settings.text else texts.load_data_set(settings.data or "")
    texts.refuse_calibration(text, open_checkpoint(path).record, path.name)
    return texts.cut(
        text, path, windows=settings.windows, length=settings.length, tokenizer=settings.tokenizer, bos=settings.bos
    )


@contextmanager
def open_reference(windows: texts.Windows, settings: Settings, steps: Steps) -> Iterator[Reference]:
    """The reference's predictions: from a file, or from the model, saved to a file first where one is named."""
    if settings.logits is not None:
        yield open_logits(settings.logits)
        return
    if settings.reference is None:
        raise MeasureError("KL is measured against a reference", hint="--reference SOURCE, or --logits FILE")
    with reference_model(settings.reference) as (model, name):
        live = LiveReference(model, name)
        if settings.save_logits is None:
            yield live
            return
        live.require(windows)
        top_k = None if settings.exact else settings.top_k
        saved = save_logits(
            settings.save_logits, model, windows, name=name, top_k=top_k, batch=settings.batch, steps=steps
        )
        del live, model
    free_memory()
    yield saved


def kl_settings(model: TextModel, reference: Reference, windows: texts.Windows, batch: int) -> dict[str, Any]:
    """What a divergence depends on, as it is recorded."""
    asked = {"reference": reference.name, "method": reference.method, "batch": batch, "compute": model.compute}
    return {**windows.settings, **asked}
