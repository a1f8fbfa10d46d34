"""Post-save patches: the projector without biases repaired, settings changed, nothing lost on the way."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import load_float32, run_convert

from convx import patch as patching
from convx.checkpoint import FilePatch, JsonPatch, open_checkpoint, refuse_conflicts
from convx.cli import run
from convx.errors import VerifyError, WriteError
from convx.verify import verify

PROJECTOR = "embed_vision.embedding_projection"


@pytest.fixture
def broken(tiny, tmp_path) -> Path:
    """A checkpoint as others published them: its projector is stored in mxfp4, so it has no biases."""
    overrides = ((PROJECTOR, "mxfp4"),)
    return run_convert(tiny("gemma4-moe"), tmp_path / "broken", "mxfp4", tensor_overrides=overrides)[0].path


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def logits(path: Path) -> np.ndarray:
    import mlx.core as mx

    out = load_float32(path)(mx.array([list(range(30, 70))]), pixel_values=mx.ones((1, 3, 96, 96)) * 0.5)
    return np.array(getattr(out, "logits", out))


@pytest.mark.parametrize("record", [True, False])
def test_projector_is_made_whole(broken, capsys, record):
    if not record:
        (broken / "convx.json").unlink()
    assert f"{PROJECTOR}.scales" in open_checkpoint(broken).tensors
    before = open_checkpoint(broken).decoded(PROJECTOR).read()
    computed = logits(broken)
    assert run(["patch", str(broken)]) == 0
    assert PROJECTOR in capsys.readouterr().out
    after = open_checkpoint(broken)
    assert f"{PROJECTOR}.scales" not in after.tensors
    assert np.array_equal(after.tensors[f"{PROJECTOR}.weight"].read(), before)
    assert after.config["quantization"][PROJECTOR] is False
    assert verify(broken).ok
    assert np.abs(logits(broken) - computed).max() <= 1e-3
    assert run(["patch", str(broken)]) == 0
    assert "nothing to patch" in capsys.readouterr().out


def test_a_sound_checkpoint_needs_nothing(converted, capsys):
    assert run(["patch", str(converted("gemma4-moe", "hub", "mxfp4"))]) == 0
    assert "nothing to patch" in capsys.readouterr().out


def test_dry_run_changes_nothing(broken, capsys):
    before = contents(broken)
    assert run(["patch", str(broken), "--dry-run"]) == 0
    assert "would change" in capsys.readouterr().out
    assert contents(broken) == before


def test_generation_settings(broken):
    assert run(["patch", str(broken), "--generation", "temperature=0.7", "--generation", "min_p=0.05"]) == 0
    said = json.loads((broken / "generation_config.json").read_text())
    assert said["temperature"] == 0.7 and said["min_p"] == 0.05 and "eos_token_id" in said
    assert verify(broken).ok


def test_a_patch_that_does_not_verify_leaves_the_checkpoint_alone(broken):
    before, inodes = contents(broken), {p.name: p.stat().st_ino for p in broken.iterdir()}
    with pytest.raises(VerifyError):
        patching.patch_checkpoint(broken, [JsonPatch("config.json", ("quantization", "bits"), 3)])
    assert contents(broken) == before
    assert {p.name: p.stat().st_ino for p in broken.iterdir()} == inodes
    assert [p for p in os.listdir(broken.parent) if p.startswith(".")] == []


def test_unchanged_files_are_linked_and_not_copied(broken, tmp_path):
    inode = (broken / "tokenizer.json").stat().st_ino
    run(["patch", str(broken)])
    assert (broken / "tokenizer.json").stat().st_ino == inode


def test_patches_that_disagree_are_refused():
    same = JsonPatch("a.json", ("x",), 1)
    refuse_conflicts([same, JsonPatch("a.json", ("x",), 1), FilePatch("b", b"")])
    with pytest.raises(WriteError, match="two patches disagree on a.json: x"):
        refuse_conflicts([same, JsonPatch("a.json", ("x",), 2)])


def test_biases_that_were_lost_cannot_be_guessed(tiny, tmp_path, capsys):
    from safetensors.numpy import load_file, save_file

    overrides = ((PROJECTOR, "affine8"),)
    out = run_convert(tiny("gemma4-moe"), tmp_path / "out", "mxfp4", tensor_overrides=overrides)[0].path
    tensors = {k: np.array(v) for k, v in load_file(out / "model.safetensors").items() if k != f"{PROJECTOR}.biases"}
    save_file(tensors, out / "model.safetensors", {"format": "mlx"})
    index = json.loads((out / "model.safetensors.index.json").read_text())
    index["weight_map"].pop(f"{PROJECTOR}.biases")
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    kept = Path(shutil.copytree(out, tmp_path / "kept"))
    assert run(["patch", str(out)]) == 1
    assert "convert it again from the unquantized source" in capsys.readouterr().err
    assert contents(out) == contents(kept)
