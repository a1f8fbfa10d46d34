"""BFCL "simple": one question, one function, one right call, judged by comparing the call's parts.

The cases and the way of judging are those of the Berkeley Function Calling Leaderboard (Patil et al. 2025): the
name and every required argument must be there, no unknown one, each value among the listed ones, where "" in the
list makes an argument optional.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

from convx.errors import MeasureError
from convx.measure.reasoning import parse
from convx.measure.stats import mean_error
from convx.measure.steps import Steps
from convx.measure.writer import Writer, read_rows

Call = dict[str, Any]
"""{"name": ..., "arguments": {...}}"""

MAX_TOKENS = 512
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
_TASK = """\
Answer with one function call as JSON, {{"name": ..., "arguments": {{...}}}}, and nothing else. Functions:
{}"""


def measure_bfcl(writer: Writer, data: Path | None, *, limit: int | None, steps: Steps) -> dict[str, Any]:
    """Share of cases whose call is right."""
    if data is None:
        raise MeasureError(
            "bfcl needs its cases", hint="--task-data bfcl=FILE: JSON lines with question, function and ground_truth"
        )
    rows = cases(data)[:limit]
    steps.begin("bfcl", len(rows))
    right = []
    for row in rows:
        right.append(float(is_right(answer(writer, row), row["function"][0], row["ground_truth"][0])))
        steps.advance()
    mean, error = mean_error(right)
    return {"metric": "accuracy", "value": mean, "standard_error": error, "samples": len(rows)}


def cases(path: Path) -> list[dict[str, Any]]:
    """Cases of a file; where it has no `ground_truth`, from `possible_answer/` beside it, as BFCL stores them."""
    rows = read_rows(path)
    beside = path.parent / "possible_answer" / path.name
    truths = {row["id"]: row["ground_truth"] for row in read_rows(beside)} if beside.is_file() else {}
    out = []
    for number, row in enumerate(rows):
        truth = row.get("ground_truth") or truths.get(row.get("id"))
        if truth is None or "question" not in row or not row.get("function"):
            raise MeasureError(f"{path}: case {number} lacks question, function or ground_truth")
        functions = row["function"] if isinstance(row["function"], list) else [row["function"]]
        out.append({**row, "function": functions, "ground_truth": truth})
    return out


def answer(writer: Writer, row: dict[str, Any]) -> Call | None:
    """The call that the model makes, or None when it makes none that can be read."""
    question = row["question"]
    messages = question[0] if question and isinstance(question[0], list) else question
    tools = [{"type": "function", "function": json_schema(f)} for f in row["function"]]
    prompt = writer.chat(messages, tools)
    if row["function"][0]["name"] not in prompt:
        task = _TASK.format(json.dumps([t["function"] for t in tools], indent=1))
        prompt = writer.chat([{**messages[-1], "content": f"{task}\n\n{messages[-1]['content']}"}])
    output = parse(writer.complete(prompt, MAX_TOKENS), prompt).answer
    return _by_loader(writer.tokenizer, output, tools) or find_call(output)


def json_schema(value: Any) -> Any:  # noqa: ANN401
    """BFCL's names of types as JSON Schema's, at every depth."""
    if isinstance(value, list):
        return [json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {key: json_schema(item) for key, item in value.items()}
    if isinstance(out.get("type"), str):
        out["type"] = _TYPES.get(out["type"], out["type"])
    return out


def _by_loader(tokenizer: Any, output: str, tools: list[dict[str, Any]]) -> Call | None:  # noqa: ANN401
    """The call as mlx-lm itself reads it from this model's own markup."""
    start, end = tokenizer.tool_call_start, tokenizer.tool_call_end
    if not tokenizer.has_tool_calling or not start or start not in output:
        return None
    body = output.partition(start)[2].partition(end)[0] if end else output.partition(start)[2]
    try:
        found = tokenizer.tool_parser(body, tools)
    except Exception:
        return None
    found = found[0] if isinstance(found, list) and found else found
    return found if _is_call(found) else None


def find_call(output: str) -> Call | None:
    """A call written as JSON, or as Python: `name(argument=value)`; the first that is sound."""
    for start in (m.start() for m in re.finditer(r"\{", output)):
        try:
            found, _ = json.JSONDecoder().raw_decode(output[start:])
        except ValueError:
            continue
        if _is_call(found):
            return {"name": found["name"], "arguments": found["arguments"]}
    return _python_call(output)


def _is_call(found: Any) -> bool:  # noqa: ANN401
    return isinstance(found, dict) and isinstance(found.get("name"), str) and isinstance(found.get("arguments"), dict)


def _python_call(output: str) -> Call | None:
    text = output.strip().removeprefix("```python").strip("`\n ").removeprefix("[").removesuffix("]")
    try:
        node = ast.parse(text, mode="eval").body
        if not isinstance(node, ast.Call) or node.args:
            return None
        arguments = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    except (SyntaxError, ValueError):
        return None
    return {"name": ast.unparse(node.func), "arguments": arguments}


def is_right(call: Call | None, function: dict[str, Any], truth: dict[str, Any]) -> bool:
    """Whether a call is one of the accepted ones."""
    if call is None or call["name"] != function["name"] or call["name"] not in truth:
        return False
    accepted: dict[str, list[Any]] = truth[call["name"]]
    given = call["arguments"]
    required = function.get("parameters", {}).get("required", [])
    if any(name not in given for name in required) or any(name not in accepted for name in given):
        return False
    absent_ok = all("" in values for name, values in accepted.items() if name not in given)
    return absent_ok and all(_matches(value, accepted[name]) for name, value in given.items())


def _matches(value: Any, accepted: list[Any]) -> bool:  # noqa: ANN401
    return any(_same(value, other) for other in accepted)


def _same(value: Any, other: Any) -> bool:  # noqa: ANN401
    """Equal, where texts ignore case, spaces and punctuation, and a whole number equals its float."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, str) and isinstance(other, str):
        return _plain(value) == _plain(other)
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(_same(a, b) for a, b in zip(value, other, strict=True))
    if isinstance(value, dict) and isinstance(other, dict):
        return set(value) <= set(other) and all(
            _matches(item, other[key] if isinstance(other[key], list) else [other[key]]) for key, item in value.items()
        )
    return bool(value == other)


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')
