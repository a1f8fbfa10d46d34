"""convx against mlx_lm.convert and mlx_vlm.convert on one source, in turn: wall, CPU and peak memory, as ratios.

    python tests/benchmarks/convert.py [--layers 2 --experts 32] [--modes mxfp4,affine] [--tools convx,mlx_lm] [--json]

`make bench` runs it on a small source; `--layers 6 --experts 64` is the 2.6 B one of docs/explanation/speed.md.
A tool that takes longer than --limit is stopped, and its figures are then lower bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from source import make_source

CONVX = {"none": "bf16", "affine": "affine4", "mxfp4": "mxfp4", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}


@dataclass(frozen=True)
class Run:
    tool: str
    mode: str
    finished: bool
    wall: float
    cpu: float
    peak_mb: float


def command(tool: str, mode: str, source: Path, out: Path) -> list[str]:
    if tool == "convx":
        return [sys.executable, "-m", "convx", str(source), str(out), "--format", CONVX[mode], "--quiet"]
    words = [sys.executable, "-m", tool, "convert", "--hf-path", str(source), "--mlx-path", str(out)]
    return words if mode == "none" else [*words, "-q", "--q-mode", mode]


def measure(tool: str, mode: str, source: Path, work: Path, limit: float) -> Run:
    out = work / f"{tool}-{mode}"
    shutil.rmtree(out, ignore_errors=True)
    started = time.monotonic()
    child = subprocess.Popen(command(tool, mode, source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stopped = False
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - started > limit and not stopped:
            child.terminate()
            stopped = True
        time.sleep(0.02)
    wall = time.monotonic() - started
    shutil.rmtree(out, ignore_errors=True)
    peak = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Run(tool, mode, not stopped and status == 0, wall, usage.ru_utime + usage.ru_stime, peak)


def table(runs: list[Run]) -> str:
    ours = {run.mode: run for run in runs if run.tool == "convx"}
    lines = [
        "| tool | mode | wall | CPU | peak memory | wall / convx | memory / convx |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        mine = ours.get(run.mode)
        ratios = (f"{run.wall / mine.wall:.1f}", f"{run.peak_mb / mine.peak_mb:.1f}") if mine else ("", "")
        more = "" if run.finished else " (stopped)"
        lines.append(
            f"| {run.tool} | {run.mode} | {run.wall:.1f} s{more} | {run.cpu:.1f} s | {run.peak_mb:.0f} MB | {ratios[0]} | {ratios[1]} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--experts", type=int, default=32)
    parser.add_argument("--modes", default="affine,mxfp4")
    parser.add_argument("--tools", default="convx,mlx_lm,mlx_vlm")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a tool is stopped")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        work = Path(folder)
        parameters = make_source(work / "source", sparse=False, layers=given.layers, experts=given.experts, vocab=2048)
        pairs = [(mode, tool) for mode in given.modes.split(",") for tool in given.tools.split(",")]
        runs = [measure(tool, mode, work / "source", work, given.limit) for mode, tool in pairs]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    if given.json:
        print(json.dumps({"machine": machine, "parameters": parameters, "runs": [asdict(r) for r in runs]}, indent=1))
    else:
        print(f"{parameters / 1e9:.2f} B parameters; {machine}\n\n{table(runs)}")


if __name__ == "__main__":
    main()
