"""`convx publish`, against a stand-in for the Hub that keeps what it is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
from hub import Hub, running_hub

from convx.cli import run

TOKEN = "hf_notarealtokenbutlonglikeone123456"


@pytest.fixture
def hub(monkeypatch):
    """A running stand-in that this process takes for the Hub, logged in."""
    with running_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def checkpoint(converted, tmp_path) -> Path:
    return Path(shutil.copytree(converted("gemma4-moe"), tmp_path / "model"))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_file_arrives_as_it_is(hub: Hub, checkpoint, capsys):
    assert run(["publish", str(checkpoint), "me/model", "--message", "First"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"{hub.url}/me/model\n", "")
    assert hub.files == contents(checkpoint)
    assert hub.bodies["commit"]["summary"] == "First"
    assert not hub.private
    assert not hub.asked("collections")


def test_a_folder_of_pictures_goes_too_and_strangers_stay(hub: Hub, checkpoint, capsys):
    pytest.importorskip("matplotlib")
    assert run(["card", str(checkpoint), "--pictures"]) == 0
    (checkpoint / "notes.txt").write_text("mine alone")
    assert run(["publish", str(checkpoint), "me/model"]) == 0
    assert "left out: notes.txt" in capsys.readouterr().err
    assert set(contents(checkpoint)) - set(hub.files) == {"notes.txt"}
    assert "images/bits-by-layer-dark.png" in hub.files


def test_private_and_in_a_collection(hub: Hub, checkpoint):
    assert run(["publish", str(checkpoint), "me/model", "--private", "--collection", "me/mine-1"]) == 0
    assert hub.private
    path, said = hub.bodies["collection"]
    assert path == "/api/collections/me/mine-1/items"
    assert said["item"] == {"id": "me/model", "type": "model"}


def test_a_public_repository_is_not_taken_for_a_private_one(hub: Hub, checkpoint, capsys):
    hub.exists, hub.private = True, False
    assert run(["publish", str(checkpoint), "me/model", "--private"]) == 1
    assert "public" in capsys.readouterr().err
    assert not hub.asked("preupload|commit")


def test_a_dry_run_asks_the_hub_nothing(hub: Hub, checkpoint, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert run(["publish", str(checkpoint), "me/model", "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == {name: len(content) for name, content in sorted(contents(checkpoint).items())}
    assert said["url"] is None and said["private"] is False
    assert hub.requests == []


def test_what_does_not_verify_is_refused(hub: Hub, checkpoint, capsys):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "edited": True}))
    assert run(["publish", str(checkpoint), "me/model"]) == 1
    assert "config.json: differs from its recorded checksum" in capsys.readouterr().err
    assert hub.requests == []


def test_a_bad_name_is_refused_before_anything_else(checkpoint, capsys):
    assert run(["publish", str(checkpoint), "me/model/too/deep", "--dry-run"]) == 1
    assert "owner/name" in capsys.readouterr().err


def test_not_logged_in(hub: Hub, checkpoint, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    assert run(["publish", str(checkpoint), "me/model"]) == 1
    assert "error: not logged in to the Hub\n  run `hf auth login`" in capsys.readouterr().err
    assert hub.requests == []


@pytest.mark.parametrize("path", ["repos/create", "preupload", "objects/batch", "commit", "collections"])
def test_a_refusal_is_one_clear_error_without_the_token(hub: Hub, checkpoint, path, capsys):
    """Even where the Hub's answer repeats the token."""
    hub.refuse[path] = (403, "TOKEN may not do that")
    assert run(["publish", str(checkpoint), "me/model", "--collection", "me/mine-1"]) == 1
    said = capsys.readouterr()
    assert "HTTP 403" in said.err and "[token] may not do that" in said.err
    assert "Traceback" not in said.err
    assert TOKEN not in said.out + said.err


@pytest.mark.slow
def test_as_people_run_it(converted, tmp_path):
    """In a process of its own, told where the Hub is by HF_ENDPOINT; no file and no word holds the token."""
    folder = Path(shutil.copytree(converted("gemma4-moe"), tmp_path / "model"))
    with running_hub() as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1",
               "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"), "HF_HUB_VERBOSITY": "debug"}  # fmt: skip
        command = [sys.executable, "-m", "convx", "publish", str(folder), "me/model", "--debug"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert hub.files == contents(folder)
        assert TOKEN in hub.tokens
        hub.refuse["commit"] = (403, "TOKEN may not do that")
        refused = subprocess.run(command, env=env, capture_output=True, text=True)
        assert refused.returncode != 0 and "Traceback" in refused.stderr
    for said in (done.stdout, done.stderr, refused.stdout, refused.stderr):
        assert TOKEN not in said
    assert not any(TOKEN.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
