"""Compare checkpoints of one model: size, quality and speed in one table, and which differences are real."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convx.checkpoint import open_checkpoint
from convx.errors import MeasureError
from convx.inspect import inspect_checkpoint
from convx.measure import data as texts
from convx.measure.kl import Reference, measure_kl
from convx.measure.logits import save_logits
from convx.measure.model import free_memory, load_text_model
from convx.measure.reference import LiveReference, reference_model
from convx.measure.results import make_entry, recorded, save
from convx.measure.run import Settings, held_out_windows, kl_settings, open_reference
from convx.measure.stats import paired, pareto
from convx.measure.steps import Steps

KEEP_BYTES = 4 << 30
"""A reference's exact predictions are kept in a temporary file for all checkpoints when they fit in this."""


def compare(
    paths: Sequence[str | Path], settings: Settings, *, record: bool = True, steps: Steps | None = None
) -> dict[str, Any]:
    """Rows of checkpoints, and the paired differences of all pairs of them.

    With a text, each checkpoint's divergence and perplexity are taken from its record where they were measured
    on the same windows against the same reference, and measured (and recorded) where not. Without one, rows
    hold what is recorded. Raises MeasureError when the checkpoints are not of one model's size.
    """
    folders = [Path(path) for path in paths]
    rows = [describe(folder) for folder in folders]
    refuse_mixture(rows)
    if settings.text is not None or settings.data is not None:
        found = _divergences(folders, settings, record, steps or Steps())
        for row, values in zip(rows, found, strict=True):
            row |= quality(values)
    marked = [(row["bytes"], row["kl"]) for row in rows if row["kl"] is not None]
    marks = iter(pareto(marked))
    for row in rows:
        row["pareto"] = next(marks) if row["kl"] is not None else None
    return {"rows": rows, "reference": _reference_row(rows), "pairs": pairs(rows)}


def describe(folder: Path) -> dict[str, Any]:
    """Size of a checkpoint, and the latest of what its record says of quality and speed."""
    about = inspect_checkpoint(folder)
    record = open_checkpoint(folder).record
    row: dict[str, Any] = {
        "name": folder.resolve().name,
        "format": about["format"],
        "recipe": about.get("recipe"),
        "parameters": about["parameters"],
        "bits_per_weight": about["bits_per_weight"],
        "bytes": about["total_bytes"],
        **_no_quality(),
        **_speed(record),
    }
    entry = recorded(record, "kl", lambda e: True)
    return row | quality(entry["values"]) if entry else row


def _no_quality() -> dict[str, Any]:
    names = ("kl", "kl_error", "kl_p95", "kl_method", "top1_agreement", "perplexity", "perplexity_error")
    return dict.fromkeys((*names, "reference_perplexity", "window_kl", "window_nll"))


def quality(values: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row that come from a divergence."""
    return {
        "kl": values["mean"],
        "kl_error": values["standard_error_windows"],
        "kl_p95": values["p95"],
        "kl_method": values["method"],
        "top1_agreement": values["top1_agreement"],
        "perplexity": values["model"]["perplexity"],
        "perplexity_error": values["model"]["standard_error"],
        "reference_perplexity": values["reference"]["perplexity"] if "reference" in values else None,
        "window_kl": values["window_kl"],
        "window_nll": values["model"]["window_nll"],
    }


def _speed(record: dict[str, Any] | None) -> dict[str, Any]:
    """Speed at the shortest context, and memory at the longest, as recorded."""
    entry = recorded(record, "speed", lambda e: True)
    if entry is None:
        return dict.fromkeys(("prefill", "generation", "peak_memory_bytes", "load_seconds", "context", "device"))
    first, *_, last = (entry["values"]["contexts"] * 2)[: max(2, len(entry["values"]["contexts"]))]
    return {
        "prefill": first["prefill_tokens_per_second"],
        "generation": first["generation_tokens_per_second"],
        "peak_memory_bytes": last["peak_memory_bytes"],
        "load_seconds": entry["values"]["load_seconds"],
        "context": first["context"],
        "device": entry["made"]["hardware"]["processor"],
    }


def refuse_mixture(rows: Sequence[dict[str, Any]]) -> None:
    sizes = {row["parameters"] for row in rows}
    if len(sizes) > 1:
        listed = ", ".join(f"{row['name']} {row['parameters']:,}" for row in rows)
        raise MeasureError(f"these are not conversions of one model; parameters: {listed}")


def _divergences(folders: Sequence[Path], settings: Settings, record: bool, steps: Steps) -> Iterator[dict[str, Any]]:
    windows = [held_out_windows(folder, settings) for folder in folders]
    known = [_recorded(folder, w, settings) for folder, w in zip(folders, windows, strict=True)]
    if all(known):
        yield from (values for values in known if values)
        return
    with _shared_reference(windows[0], settings, steps) as reference:
        for folder, values, own in zip(folders, known, windows, strict=True):
            yield values or _measure(folder, own, reference, settings, record, steps)


def _recorded(folder: Path, windows: texts.Windows, settings: Settings) -> dict[str, Any] | None:
    name = _reference_name(settings)
    wanted = windows.settings | ({"reference": name} if name else {})
    if settings.logits is None:
        wanted |= {"method": "exact"}
    entry = recorded(
        open_checkpoint(folder).record, "kl", lambda e: all(e["settings"].get(k) == v for k, v in wanted.items())
    )
    return entry["values"] if entry else None


def _reference_name(settings: Settings) -> str | None:
    if settings.reference is None:
        return None
    path = Path(settings.reference)
    return path.resolve().name if path.exists() else settings.reference


@contextmanager
def _shared_reference(windows: texts.Windows, settings: Settings, steps: Steps) -> Iterator[Reference]:
    """The reference for several checkpoints: computed once where its predictions fit in a file."""
    if settings.logits is not None or settings.save_logits is not None or settings.reference is None:
        with open_reference(windows, settings, steps) as reference:
            yield reference
        return
    with tempfile.TemporaryDirectory(prefix="convx-compare-") as scratch:
        with reference_model(settings.reference) as (model, name):
            live = LiveReference(model, name)
            live.require(windows)
            if 4 * windows.count * windows.positions * model.vocabulary > KEEP_BYTES:
                yield live
                return
            path = Path(scratch) / "logits"
            saved = save_logits(path, model, windows, name=name, top_k=None, batch=settings.batch, steps=steps)
            del live, model
        free_memory()
        yield saved


def _measure(
    folder: Path, windows: texts.Windows, reference: Reference, settings: Settings, record: bool, steps: Steps
) -> dict[str, Any]:
    model = load_text_model(folder)
    values = measure_kl(model, reference, windows, batch=settings.batch, steps=steps)
    if record:
        save(
            folder, "kl", make_entry(kl_settings(model, reference, windows, settings.batch), values, values["seconds"])
        )
    del model
    free_memory()
    return values


def _reference_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    found = next((row["reference_perplexity"] for row in rows if row["reference_perplexity"]), None)
    return None if found is None else {"perplexity": found}


def pairs(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every two checkpoints measured on the same windows: the paired differences b - a of KL and of loss."""
    out = []
    measured = [row for row in rows if row["window_kl"] is not None]
    for number, a in enumerate(measured):
        for b in measured[number + 1 :]:
            if len(a["window_kl"]) == len(b["window_kl"]):
                kl = paired(a["window_kl"], b["window_kl"]).as_json()
                nll = paired(a["window_nll"], b["window_nll"]).as_json()
                out.append({"a": a["name"], "b": b["name"], "kl": kl, "nll": nll})
    return out
