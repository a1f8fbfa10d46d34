"""`convx measure` and `convx compare` as people use them."""

from __future__ import annotations

import json

import pytest

from convx.cli import run


@pytest.fixture
def model(own_copy):
    return own_copy("gemma4-moe", "hub", "nvfp4")


def test_measure_and_compare(model, tiny, text, capsys):
    windows = ["--text", str(text), "--windows", "2", "--length", "16", "--reference", str(tiny("gemma4-moe"))]
    assert run(["measure", str(model), "--perplexity", "--kl", "--tensors", *windows, "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert list(found) == ["perplexity", "kl", "tensors"]
    assert "stage: kl" in said.err
    assert json.loads((model / "convx.json").read_text())["measurements"]["kl"] == [found["kl"]]
    assert run(["compare", str(model), *windows, "--quiet"]) == 0
    assert f"{found['kl']['values']['mean']:.5f}" in capsys.readouterr().out


def test_plain_output_and_a_list_of_kinds(model, text, capsys):
    arguments = ["--text", str(text), "--windows", "2", "--length", "16", "--no-record", "--quiet"]
    assert run(["measure", str(model), "--only", "perplexity", *arguments]) == 0
    said = capsys.readouterr()
    assert said.err == "" and "perplexity (held-out.txt, 2 x 16 tokens)" in said.out
    assert json.loads((model / "convx.json").read_text())["measurements"] == {}


def test_a_saved_reference_serves_without_the_source(model, tiny, text, tmp_path, capsys):
    common = [
        "measure",
        str(model),
        "--kl",
        "--text",
        str(text),
        "--windows",
        "2",
        "--length",
        "16",
        "--json",
        "--quiet",
    ]
    kept = str(tmp_path / "kept.safetensors")
    assert run([*common, "--reference", str(tiny("gemma4-moe")), "--save-logits", kept, "--top-k", "32"]) == 0
    first = json.loads(capsys.readouterr().out)["kl"]["values"]
    assert run([*common, "--logits", kept]) == 0
    second = json.loads(capsys.readouterr().out)["kl"]["values"]
    assert first["method"] == second["method"] == "top 32 and tail"
    assert first["mean"] == second["mean"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kl"], "no text to measure on"),
        (["--tensors"], "compared with their source"),
        (["--only", "speeed"], "unknown measurement speeed"),
        (["--tasks", "chess"], "unknown task chess"),
        (["--perplexity", "--text", "missing.txt"], "missing.txt"),
    ],
)
def test_what_is_missing_is_said(model, capsys, arguments, message):
    assert run(["measure", str(model), *arguments, "--quiet"]) == 1
    assert message in capsys.readouterr().err


def test_contexts_are_numbers(model, capsys):
    assert run(["measure", str(model), "--speed", "--contexts", "1k"]) == 2
    assert "--contexts" in capsys.readouterr().err


def test_a_checkpoint_of_another_tool_is_measured_but_not_written_to(model, text, capsys):
    (model / "convx.json").unlink()
    arguments = ["--text", str(text), "--windows", "2", "--length", "16", "--json", "--quiet"]
    assert run(["measure", str(model), "--perplexity", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["perplexity"]["values"]["perplexity"] > 1
    assert not (model / "convx.json").exists()
