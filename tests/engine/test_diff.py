"""Two plans, or a plan and a checkpoint, compared tensor by tensor."""

from __future__ import annotations

import json

import pytest

from convx.cli import run
from convx.describe import plan_json
from convx.diff import compare, compare_json, read_other
from convx.errors import SourceError
from convx.inspect import inspect_checkpoint
from convx.session import open_session


def planned(source, *formats: str, recipe: str | None = None) -> dict:
    return plan_json(open_session(source, formats=formats, recipe=recipe).plans[0])


def test_what_a_recipe_changes(tiny):
    old, new = planned(tiny(), "affine4"), planned(tiny(), "affine4", recipe="mixed-4-8")
    changed = [c for c in compare(old, new) if c.changed]
    assert {(c.role, c.old, c.new) for c in changed} == {
        ("mlp-gate", "affine4:g64", "affine8:g64"),
        ("mlp-up", "affine4:g64", "affine8:g64"),
        ("mlp-down", "affine4:g64", "affine8:g64"),
    }
    assert all((c.bits_per_weight(c.old_bytes), c.bits_per_weight(c.new_bytes)) == (4.5, 8.5) for c in changed)
    assert sum(c.new_bytes - c.old_bytes for c in changed) == new["total_bytes"] - old["total_bytes"]


def test_tensors_of_one_side_only(tiny):
    old, new = planned(tiny(), "affine4"), planned(tiny("qwen35-moe"), "affine4")
    changes = compare(old, new)
    assert {c.new for c in changes if c.role == "scalar"} == {"absent"}
    assert {c.old for c in changes if c.role == "linear-attention-qkv"} == {"absent"}
    assert sum(c.old_bytes for c in changes) == old["total_bytes"]
    assert sum(c.new_bytes for c in changes) == new["total_bytes"]


def test_a_checkpoint_is_its_own_plan(tiny, converted):
    path = converted("gemma4-moe", "hub", "nvfp4")
    assert not any(c.changed for c in compare(inspect_checkpoint(path), planned(tiny(), "nvfp4")))


def test_what_other_may_be(tiny, converted, tmp_path):
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps(planned(tiny(), "affine4")))
    assert read_other(saved)["format"] == "affine4:g64"
    assert read_other(converted("gemma4-moe", "hub", "nvfp4"))["format"] == "nvfp4"
    assert read_other(tiny()) is None, "a source is to be planned"
    assert read_other(tiny() / "config.json") is None
    saved.write_text("[1, 2]")
    with pytest.raises(SourceError, match="not one plan"):
        read_other(saved)


def test_the_command(tiny, tmp_path, capsys):
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps(planned(tiny(), "affine4")))
    assert run(["plan", str(tiny()), "--format", "mxfp4", "--diff", str(saved)]) == 0
    said = capsys.readouterr().out
    assert "affine4:g64 -> mxfp4" in said
    assert "4.50 -> 4.25" in said
    assert "alike: " in said and "total: " in said
    assert run(["plan", str(tiny()), "--format", "mxfp4", "--diff", str(saved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == compare_json(planned(tiny(), "affine4"), planned(tiny(), "mxfp4"))


def test_the_command_plans_another_source_with_the_same_options(tiny, capsys):
    assert run(["plan", str(tiny()), "--format", "mxfp4", "--diff", str(tiny(layout="transformers5"))]) == 0
    assert "->" not in capsys.readouterr().out.partition("total:")[0]
