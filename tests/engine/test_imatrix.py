"""Importance matrices: both of llama.cpp's layouts, made on a real model, folded without changing its function."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from support import load_float32, run_convert

from convx.cli import run
from convx.errors import SourceError
from convx.fold import scales_of
from convx.imatrix.files import Entry, read_imatrix, write_imatrix
from convx.options import Options
from convx.session import open_session

ENTRIES = {
    "blk.0.attn_q.weight": Entry(np.arange(4, dtype=np.float32)[None], np.array([7], np.float32)),
    "blk.0.ffn_down_exps.weight": Entry(np.ones((3, 2), np.float32), np.array([5, 0, 2], np.float32)),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60)
    return path


@pytest.fixture(scope="module")
def matrices(tiny, text, tmp_path_factory):
    """matrices(model) -> an importance matrix made on its tiny checkpoint."""
    made = {}

    def make(model):
        if model not in made:
            made[model] = tmp_path_factory.mktemp("imatrix") / f"{model}.gguf"
            assert run(["calibrate", str(tiny(model)), "--text", str(text), "-o", str(made[model]), "--length", "64",
                        "--windows", "4"]) == 0  # fmt: skip
        return made[model]

    return make


def test_gguf_round_trip(tmp_path):
    path = tmp_path / "imatrix.gguf"
    write_imatrix(path, ENTRIES, datasets=["some text"], chunks=3, chunk_size=512)
    found = read_imatrix(path)
    assert found.datasets == ("some text",)
    for name, entry in ENTRIES.items():
        assert np.array_equal(found.entries[name].sums, entry.sums)
        assert np.array_equal(found.entries[name].counts, entry.counts)


def test_older_layout(tmp_path):
    name, sums = b"blk.0.attn_q.weight", np.arange(4, dtype="<f4")
    raw = struct.pack("<i", 1) + struct.pack("<i", len(name)) + name + struct.pack("<ii", 7, 4) + sums.tobytes()
    raw += struct.pack("<ii", 9, 4) + b"text"
    (tmp_path / "imatrix.dat").write_bytes(raw)
    found = read_imatrix(tmp_path / "imatrix.dat")
    assert found.datasets == ("text",)
    entry = found.entries["blk.0.attn_q.weight"]
    assert np.array_equal(entry.sums, sums[None]) and entry.counts.tolist() == [7]


@pytest.mark.parametrize("raw", [b"", b"GGUF", b"\xff\xff\xff\x7f1234", struct.pack("<ii", 1, -5)])
def test_damaged_files_are_refused(tmp_path, raw):
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(SourceError, match="not an importance matrix"):
        read_imatrix(tmp_path / "x")


def test_scales_are_those_of_the_published_builds():
    """s = max(m, 1e-8) ** 0.5 over sqrt(max(s) min(s))."""
    importance = np.array([1.0, 4.0, 0.0, 16.0])
    raw = np.maximum(importance, 1e-8) ** 0.5
    assert np.allclose(scales_of(importance, 0.5), raw / np.sqrt(raw.max() * raw.min()))


@pytest.mark.parametrize("model", ["gemma4-moe", "qwen35-moe", "gemma4-e4b"])
def test_folding_leaves_the_function_alone(tiny, matrices, tmp_path, model):
    import mlx.core as mx

    plain = load_float32(run_convert(tiny(model), tmp_path / "plain", "fp32")[0].path)
    folded_path = run_convert(tiny(model), tmp_path / "folded", "fp32", imatrix=str(matrices(model)))[0].path
    folded = load_float32(folded_path)
    ids = mx.array(np.random.default_rng(0).integers(30, 300, (1, 90)))
    first, second = (np.array(getattr(o, "logits", o)) for o in (plain(ids), folded(ids)))
    assert np.abs(first - second).max() <= 1e-3
    weights = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("plain", "folded")]
    assert weights[0] != weights[1]


def test_every_linear_of_the_text_model_is_seen(tiny, matrices):
    entries = read_imatrix(matrices("gemma4-moe")).entries
    for stem in ("attn_q", "attn_k", "ffn_gate", "ffn_down", "ffn_gate_exps", "ffn_down_exps", "ffn_gate_inp"):
        assert f"blk.0.{stem}.weight" in entries
    experts = entries["blk.0.ffn_gate_exps.weight"]
    assert experts.sums.shape[0] == len(experts.counts) > 1


def test_unseen_experts_are_named_and_left(tiny, matrices, tmp_path):
    matrix = read_imatrix(matrices("gemma4-moe"))
    name = "blk.1.ffn_down_exps.weight"
    entry = matrix.entries[name]
    counts, sums = entry.counts.copy(), entry.sums.copy()
    counts[2], sums[2] = 0, 0
    write_imatrix(
        tmp_path / "m.gguf", {**matrix.entries, name: Entry(sums, counts)}, datasets=[], chunks=1, chunk_size=1
    )
    options = Options(imatrix=str(tmp_path / "m.gguf"))
    plan = open_session(tiny("gemma4-moe"), formats=("fp32",), options=options).plans[0]
    assert any("layers.1." in w and "experts 2 were never seen" in w for w in plan.warnings)


def test_a_matrix_of_another_model_is_refused(tiny, matrices, tmp_path):
    with pytest.raises(SourceError, match="another model"):
        open_session(
            tiny("gemma4-moe", hidden=192), formats=("affine4",), options=Options(imatrix=str(matrices("gemma4-moe")))
        )
    write_imatrix(
        tmp_path / "m.gguf",
        {"blk.0.nobody.weight": ENTRIES["blk.0.attn_q.weight"]},
        datasets=[],
        chunks=1,
        chunk_size=1,
    )
    with pytest.raises(SourceError, match="names no weight of this model"):
        open_session(tiny("gemma4-moe"), options=Options(imatrix=str(tmp_path / "m.gguf")))


def test_images_take_part(tiny, text, tmp_path):
    from convx.testing.tiny import make_image

    (tmp_path / "images").mkdir()
    make_image(tmp_path / "images" / "a.png", (64, 64))
    out = tmp_path / "m.gguf"
    assert run(["calibrate", str(tiny("gemma4-moe")), "--text", str(text), "--image", str(tmp_path / "images"), "-o", str(out),
                "--length", "64", "--windows", "1"]) == 0  # fmt: skip
    assert "image a.png" in read_imatrix(out).datasets
