"""Task suites: how calls are judged, how code is kept in, what runs offline."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from convx.errors import MeasureError
from convx.measure import bfcl, sandbox, tasks
from convx.measure.bfcl import cases, find_call, is_right, json_schema
from convx.measure.humaneval import problems, program
from convx.measure.sandbox import refusal, run_sandboxed
from convx.measure.tasks import SUITES, capability, local_task, measure_tasks, read_result, with_stops

AREA = {
    "name": "area",
    "description": "Area of a triangle.",
    "parameters": {
        "type": "dict",
        "properties": {"base": {"type": "integer"}, "height": {"type": "integer"}, "unit": {"type": "string"}},
        "required": ["base", "height"],
    },
}
TRUTH = {"area": {"base": [10], "height": [5], "unit": ["units", ""]}}
CASE = {"id": "simple_0", "question": [[{"role": "user", "content": "A triangle of base 10 and height 5?"}]],
        "function": [AREA], "ground_truth": [TRUTH]}  # fmt: skip
PROBLEM = {
    "task_id": "t/0",
    "prompt": "def one():\n    ",
    "entry_point": "one",
    "test": "def check(f):\n    assert f() == 1",
}

in_sandbox = pytest.mark.skipif(refusal() is not None, reason=f"no sandbox here: {refusal()}")


@pytest.mark.parametrize(
    "output",
    [
        'I call {"name": "area", "arguments": {"base": 10, "height": 5}} now',
        "area(base=10, height=5)",
        "[area(base=10, height=5.0, unit='Units')]",
        '```python\narea(base=10, height=5, unit="units")\n```',
    ],
)
def test_right_calls_in_several_words(output):
    assert is_right(find_call(output), AREA, TRUTH)


@pytest.mark.parametrize(
    "output",
    [
        "area(base=10)",
        "area(base=10, height=6)",
        "area(base=10, height=5, depth=1)",
        "area(base=10, height=True)",
        "volume(base=10, height=5)",
        "area(10, 5)",
        "area(base=open('x'), height=5)",
        "It is 25.",
        "",
    ],
)
def test_wrong_calls(output):
    assert not is_right(find_call(output), AREA, TRUTH)


def test_bfcl_types_become_json_schema():
    schema = json_schema(AREA["parameters"])
    assert schema["type"] == "object" and schema["properties"]["base"] == {"type": "integer"}


def test_answers_may_lie_in_a_file_of_their_own(tmp_path):
    (tmp_path / "possible_answer").mkdir()
    row = {k: v for k, v in CASE.items() if k != "ground_truth"}
    (tmp_path / "simple.json").write_text(json.dumps(row))
    (tmp_path / "possible_answer" / "simple.json").write_text(json.dumps({"id": "simple_0", "ground_truth": [TRUTH]}))
    assert cases(tmp_path / "simple.json")[0]["ground_truth"] == [TRUTH]
    (tmp_path / "bare.json").write_text(json.dumps([row]))
    with pytest.raises(MeasureError, match="case 0 lacks"):
        cases(tmp_path / "bare.json")


def test_bfcl_runs_on_a_local_file(converted, tmp_path, monkeypatch):
    monkeypatch.setattr(bfcl, "MAX_TOKENS", 8)
    (tmp_path / "bfcl.jsonl").write_text("\n".join([json.dumps(CASE)] * 3))
    data = {"bfcl": tmp_path / "bfcl.jsonl"}
    found = measure_tasks(converted("gemma4-moe", "hub", "nvfp4"), ["bfcl"], data=data, limit=1)
    assert found["tasks"]["bfcl"] == {"metric": "accuracy", "value": 0.0, "standard_error": 0.0, "samples": 1}


def test_code_is_not_run_unless_that_is_allowed(converted, tmp_path):
    (tmp_path / "he.jsonl").write_text(json.dumps(PROBLEM))
    with pytest.raises(MeasureError, match="runs code that the model wrote"):
        measure_tasks(converted("gemma4-moe", "hub", "nvfp4"), ["humaneval"], data={"humaneval": tmp_path / "he.jsonl"})


def test_code_is_not_run_without_a_sandbox(monkeypatch):
    monkeypatch.setattr(sandbox, "refusal", lambda: "no unshare")
    with pytest.raises(MeasureError, match="no unshare"):
        run_sandboxed("print(1)")


@in_sandbox
def test_a_completion_is_judged_by_running_it():
    assert run_sandboxed(program(PROBLEM, "return 1")).passed
    assert not run_sandboxed(program(PROBLEM, "return 2")).passed
    assert not run_sandboxed(program(PROBLEM, "return (")).passed


@in_sandbox
@pytest.mark.parametrize(
    "escape",
    [
        "open('{home}/seen').read()",
        "open('{home}/new', 'w').write('x')",
        "open('/usr/lib/new', 'w').write('x')",
        "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "import os; os.kill(1, 9); os.kill(os.getppid(), 9); raise SystemExit(3)",
        "bytearray(4 << 30)",
        "open('/tmp/large', 'w').write('x' * (8 << 20))",
        "import ctypes; assert ctypes.CDLL(None).umount2(b'/usr', 2) == 0",
    ],
)
def test_code_does_not_get_out(tmp_path, escape):
    (tmp_path / "seen").write_text("secret")
    found = run_sandboxed(escape.format(home=tmp_path))
    assert not found.passed and "secret" not in found.output
    assert not (tmp_path / "new").exists()


@in_sandbox
def test_code_does_not_run_for_ever():
    found = run_sandboxed("while True: pass", seconds=1)
    assert (found.passed, found.timed_out) == (False, True)


def test_problems_are_checked(tmp_path):
    (tmp_path / "he.json").write_text(json.dumps([{"prompt": "x"}]))
    with pytest.raises(MeasureError, match="lacks entry_point, test"):
        problems(tmp_path / "he.json")


def test_capability_is_the_mean_with_its_error():
    found = capability([{"value": 0.5, "standard_error": 0.03}, {"value": 0.7, "standard_error": 0.04}])
    assert found == {"capability": pytest.approx(0.6), "capability_error": pytest.approx(0.025)}


def test_lm_eval_is_asked_for_where_it_is_missing(converted, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(MeasureError, match="need lm-eval") as error:
        measure_tasks(converted("gemma4-moe", "hub", "nvfp4"), ["gsm8k"])
    assert "convx[eval]" in str(error.value)


def test_unknown_tasks_are_named(tmp_path):
    with pytest.raises(MeasureError, match="unknown task mmul"):
        measure_tasks(tmp_path, ["mmul"])


def test_a_local_file_stands_in_for_a_suite(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    found = local_task(SUITES["mmlu"], tmp_path / "rows.jsonl", None)
    (task,) = found["task"]
    assert task["dataset_path"] == "json" and task["num_fewshot"] == 0
    assert task["dataset_kwargs"]["data_files"] == {"test": str(tmp_path / "rows.jsonl")}


def test_results_of_lm_eval_are_read():
    results = {
        "results": {"gsm8k": {"exact_match,flexible-extract": 0.25, "exact_match_stderr,flexible-extract": 0.1}},
        "n-samples": {"gsm8k": {"original": 100, "effective": 20}},
    }
    found = read_result(results, SUITES["gsm8k"], local=False)
    assert found == {"metric": "exact_match,flexible-extract", "value": 0.25, "standard_error": 0.1, "samples": 20}


def test_a_suite_without_stop_texts_gets_one():
    class Base:
        tokenizer = SimpleNamespace(eos_token="<eos>")

        def generate_until(self, requests):
            return [request.arguments[1]["until"] for request in requests]

    requests = [SimpleNamespace(arguments=("p", {"until": stops})) for stops in ([], ["\n"])]
    assert with_stops(Base)().generate_until(requests) == [["<eos>"], ["\n"]]


@pytest.mark.slow
def test_lm_eval_runs_on_local_files(converted, tmp_path):
    pytest.importorskip("lm_eval")
    mmlu = {"question": "What is 1 + 1?", "choices": ["1", "2", "3", "4"], "answer": 1}
    gsm8k = {"question": "What is 1 + 1?", "answer": "1 + 1 = 2\n#### 2"}
    data = {"mmlu": tmp_path / "mmlu.jsonl", "gsm8k": tmp_path / "gsm8k.jsonl"}
    for name, row in (("mmlu", mmlu), ("gsm8k", gsm8k)):
        data[name].write_text("\n".join([json.dumps(row)] * 3))
    found = measure_tasks(converted("gemma4-moe", "hub", "nvfp4"), tuple(data), data=data, limit=2, max_tokens=4)
    assert {name: row["samples"] for name, row in found["tasks"].items()} == {"mmlu": 2, "gsm8k": 2}
    assert set(tasks.TASKS) >= set(found["tasks"])
