"""Checkpoints side by side."""

from __future__ import annotations

import json

import pytest

from convx.errors import MeasureError
from convx.measure import comparison
from convx.measure.comparison import compare
from convx.measure.picture import draw
from convx.measure.run import Settings, measure
from convx.measure.table import to_markdown


@pytest.fixture(scope="module")
def family(tiny, converted, tmp_path_factory):
    import shutil

    root = tmp_path_factory.mktemp("family")
    return [
        shutil.copytree(converted("gemma4-moe", "hub", fmt), root / f"tiny-{fmt}")
        for fmt in ("mxfp4", "nvfp4", "mxfp8")
    ]


@pytest.fixture(scope="module")
def settings(tiny, text):
    return Settings(text=text, windows=8, length=12, reference=str(tiny("gemma4-moe")))


@pytest.fixture(scope="module")
def compared(family, settings):
    return compare(family, settings)


def test_rows_hold_size_and_quality(compared, family):
    rows = {row["name"]: row for row in compared["rows"]}
    assert list(rows) == ["tiny-mxfp4", "tiny-nvfp4", "tiny-mxfp8"]
    assert rows["tiny-mxfp8"]["kl"] < rows["tiny-nvfp4"]["kl"]
    assert rows["tiny-mxfp4"]["bytes"] < rows["tiny-nvfp4"]["bytes"] < rows["tiny-mxfp8"]["bytes"]
    assert rows["tiny-mxfp8"]["pareto"] and rows["tiny-mxfp4"]["pareto"]
    assert compared["reference"]["perplexity"] > 1


def test_every_pair_is_tested_on_the_same_windows(compared):
    assert [(p["a"], p["b"]) for p in compared["pairs"]] == [
        ("tiny-mxfp4", "tiny-nvfp4"), ("tiny-mxfp4", "tiny-mxfp8"), ("tiny-nvfp4", "tiny-mxfp8")
    ]  # fmt: skip
    best = compared["pairs"][2]["kl"]
    assert best["windows"] == 8 and best["mean"] < 0 and best["p"] < 0.05 and best["b_lower"] == 8


def test_what_is_recorded_is_not_measured_again(compared, family, settings, monkeypatch):
    monkeypatch.setattr(comparison, "_measure", lambda *_: pytest.fail("measured again"))
    again = compare(family, settings)
    assert again["rows"] == compared["rows"]


def test_other_windows_are_measured(compared, family, settings, monkeypatch):
    asked = []

    def fake(folder, *_):
        asked.append(folder)
        return json.loads((folder / "convx.json").read_text())["measurements"]["kl"][0]["values"]

    monkeypatch.setattr(comparison, "_measure", fake)
    compare(family, Settings(text=settings.text, windows=2, length=12, reference=settings.reference))
    assert len(asked) == 3


def test_without_a_text_the_record_is_all_there_is(compared, family, tiny, converted):
    assert [row["kl"] for row in compare(family, Settings())["rows"]] == [row["kl"] for row in compared["rows"]]
    bare = compare([converted("gemma4-moe", "hub", "affine4")], Settings())
    assert bare["rows"][0]["kl"] is None and bare["reference"] is None
    assert "KL" not in to_markdown(bare)


def test_the_table_is_markdown(compared):
    said = to_markdown(compared)
    lines = said.splitlines()
    assert lines[0].startswith("|  | name | format | bits per weight | size | KL |")
    assert lines[2].startswith("| ★ | tiny-mxfp4 | mxfp4 | ")
    assert "prefill" not in said
    assert "Paired over 8 windows" in said


def test_speed_is_shown_where_it_was_recorded(own_copy, family, compared):
    timed = own_copy("gemma4-moe", "hub", "mxfp4")
    measure(timed, ["speed"], Settings(contexts=(8,), trials=1, generate=2))
    found = compare([timed, *family[1:]], Settings())
    assert found["rows"][0]["prefill"] > 0 and found["rows"][1]["prefill"] is None
    assert "prefill, tokens/s" in to_markdown(found)


def test_models_of_other_sizes_are_not_compared(family, converted):
    with pytest.raises(MeasureError, match="not conversions of one model"):
        compare([family[0], converted("qwen35-moe", "hub", "nvfp4")], Settings())


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_picture(compared, tmp_path, ending):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"picture.{ending}"
    draw(compared, path)
    first = path.read_bytes()
    draw(compared, path)
    assert path.read_bytes() == first or ending == "svg"  # an SVG's ids differ from run to run
    assert first.startswith(b"<?xml" if ending == "svg" else b"\x89PNG")


def test_nothing_to_draw(tmp_path):
    with pytest.raises(MeasureError, match="no divergence"):
        draw({"rows": [{"kl": None}]}, tmp_path / "a.svg")
