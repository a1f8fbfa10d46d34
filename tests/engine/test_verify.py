"""verify finds what is wrong: each fault that loaders stumble on is made here, and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from convx.source import open_source
from convx.verify import verify


@pytest.fixture
def made(converted, tmp_path) -> Path:
    return Path(shutil.copytree(converted("gemma4-moe", "hub", "nvfp4"), tmp_path / "made"))


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def both(change):
    """Change `quantization` and its copy alike."""

    def apply(config):
        change(config["quantization"])
        change(config["quantization_config"])

    return apply


ROUTER = "language_model.model.layers.0.router.proj"

FAULTS = {
    "copies differ": (lambda c: c["quantization"].update(bits=8), "differ"),
    "mode lost": (both(lambda q: q[ROUTER].pop("mode")), "lacks mode"),
    "illegal bits": (both(lambda q: q[ROUTER].update(bits=7)), "no format plugin stores mode 'affine' at 7 bits"),
    "illegal group": (both(lambda q: q[ROUTER].update(group_size=16)), "no group size 16"),
    "override lost": (both(lambda q: q.pop(ROUTER)), "router.proj"),
    "override of nothing": (both(lambda q: q.update({"nobody": q[ROUTER]})), "names no module"),
    "false but quantized": (both(lambda q: q.update({ROUTER: False})), "is false in the config, but stored"),
    "no quantization": (
        lambda c: [c.pop("quantization"), c.pop("quantization_config")],
        "says nothing of quantization",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_config_faults(made, case):
    change, message = FAULTS[case]
    edit(made / "config.json", change)
    verdict = verify(made, checksums=False, load=False)
    assert not verdict.ok
    assert any(message in str(f) for f in verdict.findings), verdict.findings


def test_a_flipped_byte(made):
    with (made / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    assert [str(f) for f in verify(made).findings] == ["error: model.safetensors: differs from its recorded checksum"]


def test_a_stale_shard_that_mlx_lm_would_load(made):
    shutil.copy(made / "model.safetensors", made / "model-00001-of-00002.safetensors")
    said = [str(f) for f in verify(made, checksums=False, load=False).findings]
    assert any("model-00001-of-00002.safetensors: is not in the index" in s for s in said)


def test_a_record_of_another_plan(made):
    def change(record):
        tensor = next(t for t in record["tensors"] if t["mode"] == "nvfp4")
        tensor.update(mode="mxfp8", bits=8, group_size=32)

    edit(made / "convx.json", change)
    verdict = verify(made, checksums=False)
    assert sum("planned" in f.what for f in verdict.findings) >= 2  # by the config, and as loaded


def test_a_missing_parameter_fails_the_strict_load(made):
    from safetensors.numpy import load_file, save_file

    path = made / "model.safetensors"
    tensors = {k: np.array(v) for k, v in load_file(path).items() if k != "language_model.model.norm.weight"}
    save_file(tensors, path, {"format": "mlx"})
    edit(made / "model.safetensors.index.json", lambda i: i["weight_map"].pop("language_model.model.norm.weight"))
    said = "\n".join(str(f) for f in verify(made, checksums=False).findings)
    assert "mlx-vlm: refuses it" in said and "mlx-lm: refuses it" in said
    assert "was planned but is not stored" in said


def test_records_cannot_point_outside(made):
    edit(made / "convx.json", lambda r: r["files"].update({"../secret": {"bytes": 1, "sha256": "x"}}))
    assert any("outside the folder" in f.what for f in verify(made, load=False).findings)


def test_checkpoints_of_others_are_verified_without_a_record(made):
    (made / "convx.json").unlink()
    verdict = verify(made)
    assert verdict.ok
    assert [f.severity for f in verdict.findings] == ["info"]


def test_output_contract(converted):
    """Index, metadata and config as the stock tools write them."""
    path = converted("qwen35-moe", "hub", "mxfp4")
    index = json.loads((path / "model.safetensors.index.json").read_text())
    written = open_source(path)
    assert index["metadata"]["total_size"] == written.nbytes
    assert list(index["weight_map"]) == sorted(index["weight_map"]) == sorted(written.tensors)
    raw = (path / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert header["__metadata__"] == {"format": "mlx"}
    config = json.loads((path / "config.json").read_text())
    assert config["quantization"] == config["quantization_config"]
    assert "convx" not in json.dumps(config)
