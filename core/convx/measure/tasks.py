"""Task suites: MMLU, GSM8K and IFEval through lm-eval, HumanEval and BFCL by convx itself; and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convx.errors import MeasureError
from convx.measure.bfcl import measure_bfcl
from convx.measure.humaneval import measure_humaneval
from convx.measure.model import prepare_for_device, silence
from convx.measure.steps import Steps
from convx.measure.writer import Writer


@dataclass(frozen=True)
class Suite:
    """A suite of lm-eval: its name there, the task that a local file stands in for, that task's split, its metric."""

    name: str
    task: str
    split: str
    metric: str


SUITES = {
    "mmlu": Suite("mmlu", "mmlu_abstract_algebra", "test", "acc,none"),
    "gsm8k": Suite("gsm8k", "gsm8k", "test", "exact_match,flexible-extract"),
    "ifeval": Suite("ifeval", "ifeval", "train", "prompt_level_strict_acc,none"),
}
TASKS = (*SUITES, "humaneval", "bfcl")
_MMLU_INTRODUCTION = "The following are multiple choice questions (with answers).\n\n"


def measure_tasks(
    path: str | Path,
    names: Sequence[str],
    *,
    data: Mapping[str, Path] | None = None,
    shots: int | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    allow_code: bool = False,
    seed: int = 0,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Run task suites. `data` gives local files for suites, so that nothing is fetched from the Hub.

    The capability score is the mean of the metrics; its error follows from theirs, taken as independent.
    """
    if unknown := set(names) - set(TASKS):
        raise MeasureError(f"unknown task {', '.join(sorted(unknown))}", hint=f"known: {', '.join(TASKS)}")
    path, data, steps = Path(path), data or {}, steps or Steps()
    found: dict[str, dict[str, Any]] = {}
    harness = [name for name in names if name in SUITES]
    if harness:
        found |= run_harness(path, harness, data, shots, limit, max_tokens, seed, steps)
    own = [name for name in names if name not in SUITES]
    if own:
        writer = Writer(path)
        for name in own:
            found[name] = _run_own(name, writer, data.get(name), limit, allow_code, steps)
    return {"tasks": {name: found[name] for name in names}, **capability(found.values())}


def _run_own(
    name: str, writer: Writer, data: Path | None, limit: int | None, allow_code: bool, steps: Steps
) -> dict[str, Any]:
    if name == "bfcl":
        return measure_bfcl(writer, data, limit=limit, steps=steps)
    return measure_humaneval(writer, data, limit=limit, allow_code=allow_code, steps=steps)


def capability(results: Any) -> dict[str, float]:  # noqa: ANN401
    """Mean of the metrics, and sqrt(sum of squared errors) / n."""
    results = list(results)
    mean = sum(r["value"] for r in results) / len(results)
    error = math.sqrt(sum(r["standard_error"] ** 2 for r in results)) / len(results)
    return {"capability": mean, "capability_error": error}


def run_harness(
    path: Path,
    names: Sequence[str],
    data: Mapping[str, Path],
    shots: int | None,
    limit: int | None,
    max_tokens: int | None,
    seed: int,
    steps: Steps,
) -> dict[str, dict[str, Any]]:
    """Run suites in lm-eval, with mlx-lm's own adapter for it (mlx_lm.evaluate)."""
    lm_eval, adapter = _import_harness()
    import mlx.core as mx

    mx.random.seed(seed)
    with silence():
        model = with_stops(adapter)(str(path), max_tokens=max_tokens, batch_size=1)
    prepare_for_device(model._model, "all")
    found = {}
    steps.begin("tasks", len(names))
    for name in names:
        suite = SUITES[name]
        task: Any = local_task(suite, data[name], shots) if name in data else suite.name
        try:
            results = lm_eval.simple_evaluate(
                model=model, tasks=[task], num_fewshot=shots, limit=limit, apply_chat_template=model.use_chat_template,
                random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed, fewshot_random_seed=seed,
                log_samples=False, confirm_run_unsafe_code=False,
            )  # fmt: skip
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise MeasureError(
                f"lm-eval could not run {name}: {type(error).__name__}: {first}",
                hint=f"without the Hub, give a file: --task-data {name}=FILE",
            ) from error
        found[name] = read_result(results, suite, name in data)
        steps.advance()
    return found


def _import_harness() -> tuple[Any, Any]:
    try:
        import lm_eval
        from mlx_lm.evaluate import MLXLM
    except ImportError as error:
        raise MeasureError(f"mmlu, gsm8k and ifeval need lm-eval: {error}", hint="pip install 'convx[eval]'") from None
    return lm_eval, MLXLM


def with_stops(adapter: Any) -> Any:  # noqa: ANN401
    """mlx-lm's adapter, for suites without stop texts too: it fails on an empty list of them (IFEval's)."""

    class Adapter(adapter):  # type: ignore[misc]
        def generate_until(self, requests: list[Any]) -> list[str]:
            for request in requests:
                prompt, options = request.arguments
                request.arguments = (prompt, {**options, "until": options["until"] or [self.tokenizer.eos_token]})
            found: list[str] = super().generate_until(requests)
            return found

    return Adapter


def local_task(suite: Suite, path: Path, shots: int | None) -> dict[str, Any]:
    """A task of lm-eval that reads a local file of JSON lines in the columns of the suite's own data set."""
    if not path.is_file():
        raise MeasureError(f"{path}: no such file")
    changed: dict[str, Any] = {
        "task": suite.task, "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": {suite.split: str(path)}}, "test_split": suite.split,
        "training_split": None, "fewshot_split": suite.split, "num_fewshot": shots or 0,
    }  # fmt: skip
    if suite.name == "mmlu":
        changed["description"] = _MMLU_INTRODUCTION
    return {"group": f"{suite.name}_local", "task": [changed]}


def read_result(results: dict[str, Any], suite: Suite, local: bool) -> dict[str, Any]:
    """The suite's metric, its standard error, and how many samples it rests on."""
    row = results["results"][suite.task if local else suite.name]
    name, _, kind = suite.metric.partition(",")
    error = row.get(f"{name}_stderr,{kind}")
    samples = [n["effective"] for n in results.get("n-samples", {}).values()]
    return {
        "metric": suite.metric,
        "value": float(row[suite.metric]),
        "standard_error": float(error) if isinstance(error, int | float) else 0.0,
        "samples": int(sum(samples)),
    }
