"""Bad input: one clear error, exit code 1 (2 for usage), no traceback, nothing left behind, the source untouched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from convx.cli import run
from convx.source import open_source


@pytest.fixture
def source(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny("gemma4-moe"), tmp_path / "source"))


def refused(capsys, tmp_path, *arguments: str, code: int = 1) -> str:
    """Run convx, expect the exit code, and nothing new in the folder; gives what was said on stderr."""
    before = {p: p.stat().st_mtime_ns for p in sorted(tmp_path.rglob("*"))}
    assert run([str(a) for a in arguments]) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert {p: p.stat().st_mtime_ns for p in sorted(tmp_path.rglob("*"))} == before
    return said


def edit_tensor(source: Path, name: str, values: np.ndarray) -> None:
    """Overwrite the first bytes of a stored tensor."""
    stored = open_source(source).tensors[name]
    with stored.file.path.open("r+b") as file:
        file.seek(stored.offset)
        file.write(values.tobytes())


def rewrite(source: Path, change) -> None:
    """Rewrite the one shard of a source with its tensors changed."""
    from safetensors.numpy import load_file, save_file

    path = source / "model.safetensors"
    import ml_dtypes

    tensors = {k: np.array(v) for k, v in load_file(path).items()}
    assert any(v.dtype == ml_dtypes.bfloat16 for v in tensors.values())
    save_file(change(tensors), path, {"format": "pt"})


def test_no_config(capsys, tmp_path, source):
    (source / "config.json").unlink()
    assert "no config.json" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_truncated_shard(capsys, tmp_path, source):
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "ends 100 bytes too early" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_unknown_architecture(capsys, tmp_path, source):
    said = refused(capsys, tmp_path, source, tmp_path / "out", "--arch", "gema4")
    assert "unknown architecture 'gema4'" in said and "did you mean 'gemma4'" in said


def test_architecture_of_another_model(capsys, tmp_path, source):
    assert "does not know model_type 'gemma4'" in refused(
        capsys, tmp_path, source, tmp_path / "out", "--arch", "qwen35"
    )


def test_model_type_that_no_plugin_knows(capsys, tmp_path, source):
    (source / "config.json").write_text('{"model_type": "of-no-one"}')
    assert "no architecture plugin knows model_type 'of-no-one'" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_unknown_format(capsys, tmp_path, source):
    said = refused(capsys, tmp_path, source, tmp_path / "out", "--format", "nvpf4")
    assert "unknown format 'nvpf4'" in said and "did you mean 'nvfp4'" in said


def test_group_size_that_loaders_refuse(capsys, tmp_path, source):
    assert "affine4 has no group size 16" in refused(
        capsys, tmp_path, source, tmp_path / "out", "--format", "affine4:g16"
    )


def test_target_is_the_source(capsys, tmp_path, source):
    assert "is the source itself" in refused(capsys, tmp_path, source, source, "--overwrite")


def test_target_holds_the_source(capsys, tmp_path, source):
    assert "holds the source" in refused(capsys, tmp_path, source, tmp_path, "--overwrite")


def test_target_is_not_empty(capsys, tmp_path, source):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    assert "is not empty" in refused(capsys, tmp_path, source, out)
    assert (out / "mine.txt").read_text() == "precious"


def test_target_is_a_file(capsys, tmp_path, source):
    (tmp_path / "out").write_text("precious")
    assert "is a file" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_unknown_extra_tensor(capsys, tmp_path, source):
    rewrite(source, lambda t: {**t, "model.language_model.layers.0.novelty.weight": np.ones((2, 2), np.float32)})
    assert "novelty" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_missing_tensor(capsys, tmp_path, source):
    rewrite(source, lambda t: {k: v for k, v in t.items() if k != "model.language_model.norm.weight"})
    assert "language_model.model.norm.weight" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_wrong_shape(capsys, tmp_path, source):
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    rewrite(source, lambda t: {**t, name: t[name][:-1]})
    assert "self_attn.q_proj.weight: shape" in refused(capsys, tmp_path, source, tmp_path / "out")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["layers.0.mlp.gate_proj.weight", "layers.0.input_layernorm.weight"])
def test_nonfinite_weights(capsys, tmp_path, source, value, name):
    import ml_dtypes

    edit_tensor(source, f"model.language_model.{name}", np.array([value], ml_dtypes.bfloat16))
    said = refused(capsys, tmp_path, source, tmp_path / "out", "--format", "nvfp4")
    assert f"model.language_model.{name}: 1 NaN or Inf weights" in said
    assert "--allow-nonfinite" in said
    assert run([str(source), str(tmp_path / "out"), "--format", "bf16", "--allow-nonfinite", "--quiet"]) == 0


def test_quantized_source(capsys, tmp_path, converted):
    out = converted("gemma4-moe", "hub", "affine4")
    said = refused(capsys, tmp_path, out, tmp_path / "out", "--format", "affine8")
    assert "quantized already" in said and "--requantize" in said


def test_quantized_source_on_request(tmp_path, converted):
    out = converted("gemma4-moe", "hub", "affine4")
    assert run([str(out), str(tmp_path / "out"), "--format", "mxfp8", "--requantize", "--quiet"]) == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]["mode"] == "mxfp8"


def test_scales_that_no_config_explains(capsys, tmp_path, source):
    """Row 18 of the field: scales that would be ignored are fatal."""
    rewrite(source, lambda t: {**t, "model.language_model.layers.0.mlp.gate_proj.weight_scale": np.ones(1, np.float32)})
    assert "quantized already" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_plugin_that_raises(capsys, tmp_path, source):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import convx\n@convx.hookimpl\ndef convx_tensor_predicate(tensor):\n    raise KeyError('oops')\n"
    )
    said = refused(capsys, tmp_path, source, tmp_path / "out", "--plugin", plugin, "--format", "nvfp4")
    assert "mine.py" in said and "convx_tensor_predicate" in said and "oops" in said


def test_plugin_with_a_misspelt_hook(capsys, tmp_path, source):
    plugin = tmp_path / "mine.py"
    plugin.write_text("import convx\n@convx.hookimpl\ndef convx_tensor_predicat(tensor):\n    return None\n")
    said = refused(capsys, tmp_path, source, tmp_path / "out", "--plugin", plugin)
    assert "did you mean convx_tensor_predicate" in said


@pytest.mark.parametrize("spec", ["nonsense", "=affine8", "(=affine8", "nothing_like_this=affine8"])
def test_tensor_override_that_cannot_be(capsys, tmp_path, source, spec):
    refused(capsys, tmp_path, source, tmp_path / "out", "--format", "nvfp4", "--tensor", spec,
            code=2 if spec in {"nonsense", "=affine8"} else 1)  # fmt: skip


def test_bare_config_cannot_be_converted(capsys, tmp_path, source):
    assert "no weights to convert" in refused(capsys, tmp_path, source / "config.json", tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--formt", "nvfp4"], "No such option"),
        (["pln"], "Did you mean 'plan'"),
        ([".", "out", "--max-memory", "much"], "is not a size"),
        ([".", "out", "--format", "nvfp4", "--q-mode", "mxfp4"], "the same choice"),
        ([".", "out", "--format", "nvfp4", "--bits", "8"], "contradicts"),
        (["plan", "--modality", "sound"], "'all', 'text'"),
    ],
)
def test_usage(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, tmp_path, *arguments, code=2)


def test_a_full_disk_is_found_before_work(capsys, tmp_path, source, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "are needed" in refused(capsys, tmp_path, source, tmp_path / "out")


def test_target_inside_the_source(capsys, tmp_path, source):
    assert "is inside the source" in refused(capsys, tmp_path, source, source / "out")


def test_integer_weights(capsys, tmp_path, source):
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    rewrite(source, lambda t: {**t, name: t[name].view(np.int16)})
    assert "is stored as int16" in refused(capsys, tmp_path, source, tmp_path / "out")


@pytest.mark.parametrize("change", [{"text_config": "4"}, {"dtype": []}, {"model_type": ["a"]}, {"vision_config": 3}])
def test_config_parts_of_the_wrong_kind(capsys, tmp_path, source, change):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **change}))
    assert f"{next(iter(change))} holds a" in refused(capsys, tmp_path, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
        ("@convx.hookimpl\ndef convx_sanitize_config(config):\n    return 3", "gave a int, not a dict"),
        ("@convx.hookimpl\ndef convx_tensor_role(name):\n    return 'x'", "gave a str, not a Placement"),
        ("@convx.hookimpl\ndef convx_render_card(facts):\n    return [1]", "gave a int, not a Section"),
        ("@convx.hookimpl\ndef convx_post_save_patch():\n    return [1]", "gave a int, not a patch"),
        (
            "@convx.hookimpl\ndef convx_post_save_patch():\n    return [convx.FilePatch('../evil', b'')]",
            "is not a file of",
        ),
    ],
)
def test_plugins_that_give_what_they_should_not(capsys, tmp_path, source, body, words):
    plugin = tmp_path / "mine.py"
    plugin.write_text(f"import convx\n{body}\n")
    assert words in refused(capsys, tmp_path, source, tmp_path / "out", "--plugin", plugin, "--format", "nvfp4")


def test_a_target_that_is_a_link_keeps_the_link(tmp_path, source):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run([str(source), str(tmp_path / "link"), "--format", "nvfp4", "--quiet"]) == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "config.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real", "source"]


def test_formats_named_twice_or_not_at_all(capsys, tmp_path, source):
    assert "one format twice" in refused(capsys, tmp_path, source, tmp_path / "o", "--format", "mxfp4,mxfp4", code=2)
    assert "no format" in refused(capsys, tmp_path, source, tmp_path / "o", "--format", ",", code=2)
