"""Measure checkpoints: perplexity, divergence from the source, speed, validation probes, task suites, tensor errors.

measure("model-nvfp4", ["perplexity", "kl"], Settings(text=Path("test.txt"), reference="model"))
compare(["model-nvfp4", "model-mxfp4"], Settings(text=Path("test.txt"), reference="model"))

Each measurement is a file of this package with a function of its own; `run` chooses and records.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convx.measure.comparison import compare
    from convx.measure.kl import measure_kl
    from convx.measure.model import load_text_model
    from convx.measure.perplexity import measure_perplexity
    from convx.measure.run import KINDS, Settings, measure
    from convx.measure.speed import measure_speed
    from convx.measure.tasks import measure_tasks
    from convx.measure.tensors import measure_tensors
    from convx.measure.validate import measure_validation

_HOMES = {
    "compare": "comparison", "measure_kl": "kl", "load_text_model": "model", "measure_perplexity": "perplexity",
    "KINDS": "run", "Settings": "run", "measure": "run", "measure_speed": "speed", "measure_tasks": "tasks",
    "measure_tensors": "tensors", "measure_validation": "validate",
}  # fmt: skip

__all__ = [
    "KINDS", "Settings", "compare", "load_text_model", "measure", "measure_kl", "measure_perplexity",
    "measure_speed", "measure_tasks", "measure_tensors", "measure_validation",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module 'convx.measure' has no attribute {name!r}")
    return getattr(import_module(f"convx.measure.{_HOMES[name]}"), name)
