"""Killed, stopped or out of space: repeating the command goes on, and the bytes are those of a run in one piece."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from support import run_convert

from convx import execute, shards
from convx.checkpoint import journal_path, partial_folder
from convx.errors import WriteError
from convx.journal import Journal, boot_id, read_journal


def contents(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def left_behind(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("fmt", ["nvfp4", "mxfp4,affine4,bf16"])
def test_the_number_of_threads_does_not_change_a_byte(tiny, tmp_path, fmt):
    results = []
    for jobs, memory in ((1, 512 << 20), (2, 1 << 20), (4, 256 << 10)):
        folder = tmp_path / str(jobs)
        folder.mkdir()
        reports = run_convert(tiny("gemma4-moe"), folder / "out", fmt, jobs=jobs, max_memory=memory)
        results.append([contents(r.path) for r in reports])
    assert results[0] == results[1] == results[2]


class Enough(BaseException):
    """Stands for the kill: not an error that anything handles."""


@pytest.mark.parametrize("after", [0, 1, 7, 40])
def test_a_run_that_dies_goes_on(tiny, tmp_path, monkeypatch, after):
    whole = run_convert(tiny("qwen35-moe"), tmp_path / "whole" / "out", "nvfp4")[0]
    out = tmp_path / "died" / "out"
    real, count = execute.write_tile, iter(range(10**6))

    def dying(tile, allow):
        if next(count) >= after:
            raise Enough
        real(tile, allow)

    monkeypatch.setattr(execute, "write_tile", dying)
    with pytest.raises(Enough):
        run_convert(tiny("qwen35-moe"), out, "nvfp4", jobs=1)
    monkeypatch.setattr(execute, "write_tile", real)
    assert journal_path(out).is_file() and partial_folder(out).is_dir() and not out.exists()
    report = run_convert(tiny("qwen35-moe"), out, "nvfp4", resume=True)[0]
    assert (report.resumed_bytes > 0) == (after > 0)
    assert contents(out) == contents(whole.path)
    assert not left_behind(out.parent)


def test_a_full_disk_keeps_what_is_done(tiny, tmp_path, monkeypatch):
    out = tmp_path / "out"
    real, count = os.pwrite, iter(range(10**6))

    def full(fd, data, at):
        if next(count) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(shards.os, "pwrite", full)
    with pytest.raises(WriteError, match=r"(?s)No space left on device.*run the same command again"):
        run_convert(tiny("gemma4-moe"), out, "nvfp4")
    monkeypatch.setattr(shards.os, "pwrite", real)
    report = run_convert(tiny("gemma4-moe"), out, "nvfp4")[0]
    assert report.resumed_bytes > 0
    whole = run_convert(tiny("gemma4-moe"), tmp_path / "whole" / "out", "nvfp4")[0]
    assert contents(out) == contents(whole.path)


def test_a_journal_of_other_work_is_refused(tiny, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(execute, "write_tile", lambda *_: (_ for _ in ()).throw(Enough()))
    with pytest.raises(Enough):
        run_convert(tiny("gemma4-moe"), out, "nvfp4")
    monkeypatch.undo()
    with pytest.raises(WriteError, match="differs in formats, plan"):
        run_convert(tiny("gemma4-moe"), out, "mxfp4")
    with pytest.raises(WriteError, match="differs in source"):
        run_convert(tiny("gemma4-moe", seed=5, experts=8), out, "nvfp4")
    assert run_convert(tiny("gemma4-moe"), out, "mxfp4", overwrite=True)[0].path == out
    assert not left_behind(tmp_path)


def test_two_runs_to_one_target(tiny, tmp_path):
    from convx.convert import only_one

    with only_one(tmp_path / "out"), pytest.raises(WriteError, match="another convx is writing it"):
        run_convert(tiny("gemma4-moe"), tmp_path / "out", "nvfp4")
    assert run_convert(tiny("gemma4-moe"), tmp_path / "out", "nvfp4")
    assert not left_behind(tmp_path)


def test_nothing_to_resume(tiny, tmp_path):
    with pytest.raises(WriteError, match="nothing to resume"):
        run_convert(tiny("gemma4-moe"), tmp_path / "out", "nvfp4", resume=True)


def test_a_partial_folder_that_was_taken_away_is_not_trusted(tiny, tmp_path, monkeypatch):
    import shutil

    out, count, real = tmp_path / "out", iter(range(10**6)), execute.write_tile
    monkeypatch.setattr(
        execute, "write_tile", lambda *a: real(*a) if next(count) < 20 else (_ for _ in ()).throw(Enough())
    )
    with pytest.raises(Enough):
        run_convert(tiny("gemma4-moe"), out, "nvfp4", jobs=1)
    monkeypatch.undo()
    shutil.rmtree(partial_folder(out))
    assert run_convert(tiny("gemma4-moe"), out, "nvfp4")[0].resumed_bytes == 0


def test_overwrite_replaces_only_when_the_new_one_is_complete(tiny, tmp_path, monkeypatch):
    out = run_convert(tiny("gemma4-moe"), tmp_path / "out", "nvfp4")[0].path
    before = contents(out)
    monkeypatch.setattr(execute, "write_tile", lambda *_: (_ for _ in ()).throw(Enough()))
    with pytest.raises(Enough):
        run_convert(tiny("gemma4-moe"), out, "mxfp4", overwrite=True)
    assert contents(out) == before
    monkeypatch.undo()
    run_convert(tiny("gemma4-moe"), out, "mxfp4", overwrite=True)
    assert contents(out) != before


def test_after_a_restart_only_what_was_synced_counts(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path, {"plan": "x"}, lambda: None)
    for number in (3, 4, 5):
        journal.add(number)
    journal.close()
    assert read_journal(path)[1] == {3, 4, 5}
    text = path.read_text().replace(boot_id() or '"boot": ""', "another boot")
    path.write_text(text + "sync 2\n6\n7")  # the last line was cut off in writing
    assert read_journal(path)[1] == {3, 4}


def command(source: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "convx", str(source), str(out), "--format", "nvfp4,affine4", "--quiet", *more]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_twenty_random_moments(tiny, tmp_path, how):
    """A source large enough to be caught in the middle; killed anywhere from the imports to the rename."""
    source = tiny("gemma4-moe", hidden=512, experts=128, moe_intermediate=512, shards=3)
    started = time.monotonic()
    subprocess.run(command(source, tmp_path / "whole" / "out"), check=True)
    seconds = time.monotonic() - started
    wanted = [contents(p) for p in sorted((tmp_path / "whole").iterdir())]
    moments = random.Random(how).choices(range(10, 100), k=20)
    resumed = 0
    for n, percent in enumerate(moments):
        out = tmp_path / str(n) / "out"
        run = subprocess.Popen(command(source, out), stderr=subprocess.PIPE, text=True)
        time.sleep(seconds * percent / 100)
        run.send_signal(how)
        _, said = run.communicate(timeout=30)
        if how == signal.SIGINT and run.returncode == 130:
            assert "run the same command again" in said
        resumed += journal_path(out.parent / "out-nvfp4").exists()
        subprocess.run(command(source, out, "--overwrite"), check=True)
        assert [contents(p) for p in sorted(out.parent.iterdir())] == wanted, f"killed at {percent} %"
    assert resumed > 0, "no kill fell into the work"
