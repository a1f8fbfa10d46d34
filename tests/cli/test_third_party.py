"""The example package, built as a wheel and installed beside convx, adds an architecture and a format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "convx-example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """An environment in which the example's wheel is installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("example")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(EXAMPLE)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    site = folder / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(site)}


def convx(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "convx", *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_own_tests_pass(installed):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, cwd=EXAMPLE)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_it_is_listed_and_converts(installed, tmp_path):
    listed = json.loads(convx(installed, "plugins", "list", "--json"))
    mine = {(p["kind"], p["name"]) for p in listed if p["distribution"] == "convx-example"}
    assert mine == {("architectures", "llama"), ("formats", "clipped4")}
    make = f"import sys; sys.path.insert(0, {str(EXAMPLE / 'tests')!r}); from test_conformance import make_llama; " \
           f"from pathlib import Path; make_llama(Path({str(tmp_path / 'source')!r}))"  # fmt: skip
    subprocess.run([sys.executable, "-c", make], env=installed, check=True)
    convx(
        installed, str(tmp_path / "source"), str(tmp_path / "out"), "--arch", "llama", "--format", "clipped4", "--quiet"
    )
    assert "ok; loads in mlx-vlm, mlx-lm" in convx(installed, "verify", str(tmp_path / "out"))
    record = json.loads((tmp_path / "out" / "convx.json").read_text())
    formats = {t["role"]: t["format"] for t in record["tensors"]}
    assert formats["mlp-up"] == "clipped4:g64" and formats["lm-head"] == "affine6:g64"


def test_a_new_plugin_package_passes_its_own_tests(tmp_path):
    environment = dict(os.environ)
    convx(environment, "plugins", "new", "convx-mine", "--into", str(tmp_path))
    folder = tmp_path / "convx-mine"
    environment["PYTHONPATH"] = str(folder / "src")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    again = subprocess.run([sys.executable, "-m", "convx", "plugins", "new", "convx-mine", "--into", str(tmp_path)],
                           capture_output=True, text=True)  # fmt: skip
    assert again.returncode == 1 and "is not empty" in again.stderr
