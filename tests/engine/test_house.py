"""Rules of the house that a tool can check: who imports whom, what a wheel holds, what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

import convx

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(p.name for p in (ROOT / "plugins").iterdir() if (p / "__init__.py").is_file())


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, type checking included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "core").rglob("*.py")), ids=lambda p: p.stem)
def test_the_engine_imports_no_plugin(path):
    assert not imports(path) & set(PLUGINS)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_no_other(plugin):
    for path in (ROOT / "plugins" / plugin).rglob("*.py"):
        assert not imports(path) & (set(PLUGINS) - {plugin}), path


@pytest.mark.parametrize("path", sorted((ROOT / "core").rglob("*.py")), ids=lambda p: p.stem)
def test_the_engine_names_no_model(path):
    """Words of one architecture in the engine are a defect; the testing kit makes tiny ones, the demo shows one."""
    if "testing" in path.parts or path.stem == "demo":
        return
    strings = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
    for word in ("gemma4", "qwen3_5", "qwen3_5_moe", "qwen35"):
        assert word not in strings


def test_public_names_are_pinned():
    assert set(convx.__all__) == {
        "GROUPS", "Checkpoint", "Config", "ConvxError", "Decision", "Export", "Facts", "FilePatch", "Floor",
        "FoldGroup", "Format", "JsonPatch", "Options", "Part", "Patch", "Placement", "Plan", "PlanError",
        "PluginError", "RecipeError", "Role", "Section", "Source", "SourceError", "Tensor", "TensorError",
        "TensorInfo", "TensorPatch", "__version__", "carry_all", "concatenate", "hookimpl", "layer_groups", "map_rows", "split",
        "stack", "to_json",
    }  # fmt: skip
    assert all(getattr(convx, name) is not None for name in convx.__all__)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_three_folders_and_nothing_else(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    wanted = set()
    for folder in ("core", "plugins", "templates"):
        for path in (ROOT / folder).rglob("*"):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
            if path.is_file() and not hidden:
                wanted.add(path.relative_to(ROOT / folder).as_posix())
    assert names == wanted


def test_declared_entry_points_are_those_that_load(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group, entries in project["entry-points"].items():
        assert {n: o.entry_point.value for n, o in convx.plugins.offers(group).items()} == entries


def test_templates_are_package_resources():
    assert (files("convx_templates") / "card.md.j2").is_file()
