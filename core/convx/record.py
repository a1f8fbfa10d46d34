"""`convx.json`: what was made of what, by which decisions, with which versions. The card is rendered from it.

Nothing here depends on the clock, the machine or the number of workers: equal plans give equal records.
"""

from __future__ import annotations

import platform
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import convx
from convx.describe import plan_json, tensor_json
from convx.dtypes import NAMES
from convx.imatrix.files import read_imatrix
from convx.plan import Plan

SCHEMA = 1
_PACKAGES = ("mlx", "mlx-lm", "mlx-vlm", "numpy", "ml_dtypes")


def package_versions(names: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    found = {"convx": convx.__version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def make_record(plan: Plan, out_name: str, command: str, siblings: list[dict[str, Any]]) -> dict[str, Any]:
    """The record of a planned output, checksums of its files not yet in it."""
    planned = plan_json(plan)
    source = plan.source
    return {
        "schema": SCHEMA,
        "name": out_name,
        "versions": package_versions(),
        "command": command,
        "source": {
            "name": source.name,
            "repo": source.repo,
            "revision": source.revision,
            "headers_sha256": source.header_hash,
            "bytes": source.nbytes,
        },
        "base_model": plan.options.base_model or source.repo or _own_base_model(plan),
        "license": plan.options.license or _own_front_matter(plan).get("license"),
        "license_link": _own_front_matter(plan).get("license_link"),
        "language": list(plan.options.language) or _own_front_matter(plan).get("language"),
        "digest": plan.digest,
        **{k: planned[k] for k in (
            "architecture", "format", "recipe", "recipe_version", "recipe_sha256", "loader", "parameters",
            "bits_per_weight", "total_bytes", "overrides", "missing", "warnings", "dropped",
        )},
        "recipe_text": plan.recipe.text if plan.recipe else None,
        "options": options_json(plan),
        "model_type": plan.config.get("model_type"),
        "multimodal": plan.loader == "mlx-vlm",
        "tensors": [
            {
                **tensor_json(tensor),
                "module": tensor.info.module,
                "parts": [{"name": p.name, "dtype": NAMES[p.dtype], "shape": list(p.shape)} for p in tensor.parts],
            }
            for tensor in plan.tensors
        ],
        "calibration": _calibration(plan),
        "siblings": siblings,
        "files": {},
        "patches": [],
        "measurements": {},
    }  # fmt: skip


def _calibration(plan: Plan) -> dict[str, Any] | None:
    """Which importance matrix was folded in, and what it was made on."""
    path = plan.options.imatrix
    if path is None:
        return None
    datasets = list(read_imatrix(path).datasets)
    sums = [word.removeprefix("sha256:") for name in datasets for word in name.split() if word.startswith("sha256:")]
    digest = sha256(Path(path).read_bytes()).hexdigest()
    return {"imatrix": Path(path).name, "sha256": digest, "datasets": datasets, "data_sha256": sums}


def options_json(plan: Plan) -> dict[str, Any]:
    options = plan.options
    return {
        "modality": options.modality,
        "mtp": options.mtp,
        "shared_kv": options.shared_kv,
        "dtype": options.dtype.name if options.dtype else None,
        "tensor": [f"{pattern}={spec}" for pattern, spec in options.tensor_overrides],
        "settings": dict(options.settings),
        "generation": dict(options.generation),
        "requantize": options.requantize,
    }


def _own_front_matter(plan: Plan) -> dict[str, Any]:
    """The front matter of the source's own card, if it has one."""
    import yaml

    path = Path(plan.source.folder) / "README.md"
    if plan.source.bare or not path.is_file():
        return {}
    head, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("---\n")
    block, closed, _ = rest.partition("\n---")
    if head.strip() or not closed:
        return {}
    try:
        found = yaml.safe_load(block)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _own_base_model(plan: Plan) -> str | None:
    """What the source itself was made from, or its name where its config keeps one."""
    name = plan.source.config.get("_name_or_path")
    return str(name) if isinstance(name, str) and name.count("/") == 1 and not name.startswith(("/", ".")) else None
