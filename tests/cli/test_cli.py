"""The command line as people use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from convx.cli import run


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from convx.cli import run; run(['--help']); print(sorted(m for m in sys.modules if '.' not in m))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(out.strip().splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert not modules & {"mlx", "mlx_lm", "mlx_vlm", "transformers", "numpy", "numba", "rich", "huggingface_hub"}
    assert not any(m.startswith("convx_") for m in modules)


@pytest.mark.parametrize("command", ["convert", "plan", "verify", "inspect", "card", "patch", "plugins", "demo"])
def test_every_command_has_help(capsys, command):
    assert run([command, "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_convert_help_lists_what_is_on_offer(capsys):
    run(["convert", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "gemma4" in said and "nvfp4" in said


def test_the_literal_command_inside_a_checkpoint(tiny, tmp_path, monkeypatch, capsys):
    """`convx --arch gemma4 --format nvfp4` in a checkpoint's folder writes beside it."""
    import shutil

    folder = tmp_path / "gemma"
    shutil.copytree(tiny("gemma4-moe"), folder)
    monkeypatch.chdir(folder)
    assert run(["--arch", "gemma4", "--format", "nvfp4", "--quiet"]) == 0
    assert str(tmp_path / "gemma-nvfp4") in capsys.readouterr().out
    assert run(["verify", str(tmp_path / "gemma-nvfp4")]) == 0


def test_words_of_mlx_lm(tiny, tmp_path):
    out = tmp_path / "out"
    assert run(["--hf-path", str(tiny("gemma4-moe")), "--mlx-path", str(out), "-q", "--q-mode", "affine", "--q-bits", "8",
                "--q-group-size", "32", "--quiet"]) == 0  # fmt: skip
    said = json.loads((out / "config.json").read_text())["quantization"]
    assert {k: said[k] for k in ("mode", "bits", "group_size")} == {"mode": "affine", "bits": 8, "group_size": 32}


def test_plan_inspect_and_verify_speak_alike(tiny, tmp_path, capsys):
    source, out = str(tiny("qwen35-moe")), str(tmp_path / "out")
    run(["plan", source, "--format", "mxfp4", "--json"])
    planned = json.loads(capsys.readouterr().out)
    run([source, out, "--format", "mxfp4", "--quiet", "--json"])
    made = json.loads(capsys.readouterr().out)[0]
    run(["inspect", out, "--json"])
    found = json.loads(capsys.readouterr().out)
    run(["verify", out, "--json"])
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["ok"] is True and verdict["findings"] == []
    for key in ("architecture", "format", "parameters", "bits_per_weight", "total_bytes", "overrides"):
        assert planned[key] == made[key] == found[key], key
    wanted = {"name", "role", "shape", "source", "format", "mode", "bits", "group_size", "bytes", "reason"}
    by_name = {t["name"]: t for t in found["tensors"]}
    for tensor in planned["tensors"]:
        assert wanted <= set(tensor)
        same = by_name[tensor["name"]]
        assert {k: tensor[k] for k in wanted} == {k: same[k] for k in wanted}


def test_results_go_to_stdout_and_everything_else_to_stderr(tiny, tmp_path, capsys):
    run([str(tiny("gemma4-moe")), str(tmp_path / "out"), "--format", "nvfp4"])
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert "stage: convert" in said.err


def test_log_json_is_one_object_a_line(tiny, tmp_path, capsys):
    run([str(tiny("gemma4-moe")), str(tmp_path / "out"), "--format", "nvfp4", "--log-json"])
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert "plan" in events and "stage" in events


def test_dry_run_writes_nothing(tiny, tmp_path, capsys):
    assert run([str(tiny("gemma4-moe")), str(tmp_path / "out"), "--format", "nvfp4", "--dry-run"]) == 0
    assert not list(tmp_path.iterdir())
    assert "bits per weight" in capsys.readouterr().out


def test_several_formats_from_one_read(tiny, tmp_path):
    assert run([str(tiny("gemma4-moe")), str(tmp_path / "g"), "--format", "mxfp4,nvfp4,bf16", "--quiet"]) == 0
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["g-bf16", "g-mxfp4", "g-nvfp4"]
    card = (tmp_path / "g-mxfp4" / "README.md").read_text()
    assert "## Variants" in card and "g-nvfp4" in card
    assert run([str(tiny("gemma4-moe")), str(tmp_path / "alone"), "--format", "mxfp4", "--quiet"]) == 0
    for path in (tmp_path / "alone").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "g-mxfp4" / path.name).read_bytes()


def test_plugins_are_listed_without_being_imported(capsys):
    assert run(["plugins", "list", "--json"]) == 0
    found = {(p["kind"], p["name"]) for p in json.loads(capsys.readouterr().out)}
    assert {("architectures", "gemma4"), ("architectures", "qwen35"), ("formats", "nvfp4")} <= found


def test_card_is_rendered_again_from_the_record(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    run([str(tiny("gemma4-moe")), str(out), "--format", "nvfp4", "--quiet"])
    before = (out / "README.md").read_text()
    (out / "README.md").unlink()
    assert run(["card", str(out)]) == 0
    assert (out / "README.md").read_text() == before


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "convx", "--version"], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0 and "convx" in done.stdout
