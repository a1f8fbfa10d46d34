"""HumanEval: functions completed from their docstring, judged by running them. Only ever in the sandbox.

Problems and scoring: Chen et al. 2021, https://arxiv.org/abs/2107.03374; pass@1 with one greedy answer each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convx.errors import MeasureError
from convx.measure.sandbox import refusal, run_sandboxed
from convx.measure.stats import mean_error
from convx.measure.steps import Steps
from convx.measure.writer import Writer, read_rows

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a completion has left its function (the stop texts of the paper)."""
MAX_TOKENS = 512
_KEYS = {"prompt", "test", "entry_point"}


def measure_humaneval(
    writer: Writer, data: Path | None, *, limit: int | None, allow_code: bool, steps: Steps
) -> dict[str, Any]:
    """Share of problems whose first answer passes its tests.

    Raises MeasureError unless running code is allowed, and safe here.
    """
    if not allow_code:
        raise MeasureError(
            "humaneval runs code that the model wrote", hint="allow it with --allow-code; it is sandboxed"
        )
    if (why := refusal()) is not None:
        raise MeasureError(f"humaneval needs a sandbox, and there is none: {why}", hint="leave humaneval out")
    rows = problems(data)[:limit]
    steps.begin("humaneval", len(rows))
    passed = []
    for row in rows:
        passed.append(float(run_sandboxed(program(row, writer.complete(row["prompt"], MAX_TOKENS, STOPS))).passed))
        steps.advance()
    mean, error = mean_error(passed)
    return {"metric": "pass@1", "value": mean, "standard_error": error, "samples": len(rows)}


def problems(data: Path | None) -> list[dict[str, Any]]:
    """Rows of a local file, or of openai/openai_humaneval on the Hub."""
    rows = read_rows(data) if data is not None else _from_hub()
    for number, row in enumerate(rows):
        if lacking := _KEYS - set(row):
            raise MeasureError(f"{data or 'humaneval'}: problem {number} lacks {', '.join(sorted(lacking))}")
    return rows


def _from_hub() -> list[dict[str, Any]]:
    try:
        import datasets

        return [dict(row) for row in datasets.load_dataset("openai/openai_humaneval", split="test")]
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MeasureError(f"humaneval's problems: {first}", hint="give a file: --task-data humaneval=FILE") from error


def program(row: dict[str, Any], completion: str) -> str:
    """The program that fails unless the completion is right."""
    return f"{row['prompt']}{completion}\n\n{row['test']}\n\ncheck({row['entry_point']})\n"
