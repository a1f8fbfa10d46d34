"""Audit a checkpoint: its files against its record, its config against what loaders read, a strict reload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from convx.checkpoint import RECORD, Checkpoint, open_checkpoint
from convx.dtypes import NAMES
from convx.errors import ConvxError, VerifyError
from convx.loaders import is_multimodal
from convx.plugins import Formats
from convx.shards import hash_file
from convx.source import INDEX, read_header
from convx.storage import StoredFile

LOADER_KEYS = frozenset({"group_size", "bits", "mode", "quant_method", "linear_class", "quantization_mode"})
"""Keys beside module paths that mlx-swift-lm accepts inside `quantization`."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be (`error`), or that people should know (`info`)."""

    severity: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Verdict:
    path: Path
    findings: tuple[Finding, ...]
    loaders: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not any(f.severity == "error" for f in self.findings)

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "ok": self.ok,
            "loaders": list(self.loaders),
            "findings": [f.__dict__ for f in self.findings],
        }

    def require(self) -> None:
        """Raises VerifyError naming the first errors, unless all is well."""
        if not self.ok:
            errors = [str(f) for f in self.findings if f.severity == "error"]
            raise VerifyError(f"{self.path}: {len(errors)} faults\n  " + "\n  ".join(errors[:10]))


def verify(path: str | Path, *, checksums: bool = True, load: bool = True) -> Verdict:
    """Audit the checkpoint at `path`. Raises SourceError when it cannot be opened at all."""
    checkpoint = open_checkpoint(path)
    findings = [*check_files(checkpoint), *check_config(checkpoint), *check_record(checkpoint)]
    if checksums:
        findings += check_sums(checkpoint)
    loaders: list[str] = []
    if load:
        for loader in ("mlx-vlm", "mlx-lm"):
            found, loaded = check_load(checkpoint, loader)
            findings += found
            loaders += [loader] * loaded
        if not loaders:
            findings.append(Finding("error", str(path), "no stock loader opens it"))
    checkpoint.source.close()
    return Verdict(Path(path), tuple(findings), tuple(loaders))


def check_files(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Index and folder agree, with each other and with the tensors."""
    index = checkpoint.source.read_json(INDEX)
    if index is None:
        yield Finding("error", INDEX, "is missing")
        return
    listed = set(index.get("weight_map", {}).values())
    for path in sorted(checkpoint.path.glob("model*.safetensors")):
        if path.name not in listed:
            yield Finding("error", path.name, "is not in the index, but mlx-lm would load it")
    for name in sorted(set(checkpoint.source.tensors) - set(index["weight_map"])):
        yield Finding("error", name, f"is stored but not in {INDEX}")
    extra = [p.name for p in checkpoint.path.glob("*.partial")]
    for name in extra:
        yield Finding("error", name, "is a half-written file")
    recorded = (checkpoint.record or {}).get("total_bytes")
    outside = recorded_outside(checkpoint)
    total = checkpoint.source.nbytes + outside
    for where, said in ((INDEX, index.get("metadata", {}).get("total_size")), (RECORD, recorded)):
        if said is not None and said != total:
            yield Finding("error", where, f"says {said} tensor bytes, the files hold {total}")


def recorded_outside(checkpoint: Checkpoint) -> int:
    """Tensor bytes of recorded files that the index leaves out on purpose (draft layers split off)."""
    path = checkpoint.path / "mtp.safetensors"
    return sum(t.nbytes for t in read_header(StoredFile(path))[1]) if path.is_file() else 0


def check_config(checkpoint: Checkpoint) -> Iterator[Finding]:
    """The rules by which the stock loaders read `quantization`."""
    config = checkpoint.config
    top = config.get("quantization")
    if top != config.get("quantization_config"):
        yield Finding("error", "config.json", "quantization and quantization_config differ")
    scaled = {n.removesuffix(".scales") for n in checkpoint.tensors if n.endswith(".scales")}
    if top is None:
        for module in sorted(scaled):
            yield Finding("error", module, "has scales, but the config says nothing of quantization")
        return
    if not isinstance(top, dict):
        yield Finding("error", "config.json", "quantization is not an object")
        return
    yield from _check_entries(checkpoint, top, scaled)


def _check_entries(checkpoint: Checkpoint, top: dict[str, Any], scaled: set[str]) -> Iterator[Finding]:
    formats = Formats()
    yield from _check_entry(checkpoint, "config.json: quantization", top, formats)
    for key, entry in top.items():
        if key in LOADER_KEYS:
            continue
        if entry is False:
            if key in scaled:
                yield Finding("error", key, "is false in the config, but stored with scales")
        elif not isinstance(entry, dict):
            yield Finding("error", f"config.json: {key}", "is neither an object nor false")
        else:
            yield from _check_entry(checkpoint, f"config.json: {key}", entry, formats)
            if key not in scaled:
                yield Finding("error", f"config.json: {key}", "names no module that is stored with scales")
    for module in sorted(scaled):
        yield from _check_module(checkpoint, module, formats)


def _check_entry(checkpoint: Checkpoint, where: str, entry: dict[str, Any], formats: Formats) -> Iterator[Finding]:
    missing = {"group_size", "bits", "mode"} - set(entry)
    if missing == {"mode"} and checkpoint.record is None:
        yield Finding("info", where, "lacks mode; loaders take it for affine, as mlx-lm writes it")
        entry = {"mode": "affine", **entry}
    elif missing:
        yield Finding("error", where, f"lacks {', '.join(sorted(missing))}")
        return
    try:
        formats.by_mode(entry["mode"], entry["bits"], entry["group_size"])
    except ConvxError as error:
        yield Finding("error", where, error.message)


def _check_module(checkpoint: Checkpoint, module: str, formats: Formats) -> Iterator[Finding]:
    """The stored parts of a module are those of the format that the config gives it."""
    entry = {"mode": "affine", **(checkpoint.entry(module) or {})}
    weight, scales = checkpoint.tensors.get(f"{module}.weight"), checkpoint.tensors[f"{module}.scales"]
    if weight is None or not {"mode", "bits", "group_size"} <= set(entry):
        yield Finding("error", module, "has scales but no weight, or no complete entry in the config")
        return
    try:
        form = formats.by_mode(entry["mode"], entry["bits"], entry["group_size"])
    except ConvxError:
        return
    columns = weight.shape[-1] * 32 // form.bits
    dtype = scales.dtype
    for part in form.parts(columns, dtype):
        stored = checkpoint.tensors.get(f"{module}.{part.suffix}")
        wanted = (*weight.shape[:-1], part.columns)
        if stored is None:
            yield Finding("error", f"{module}.{part.suffix}", f"is missing; {form.spec} stores it")
        elif (stored.dtype, stored.shape) != (part.dtype, wanted):
            yield Finding(
                "error", f"{module}.{part.suffix}",
                f"is {NAMES[stored.dtype]} {stored.shape}; {form.spec} stores {NAMES[part.dtype]} {wanted}",
            )  # fmt: skip
    declared = {f"{module}.{p.suffix}" for p in form.parts(columns, dtype)}
    for name in (f"{module}.scales", f"{module}.biases"):
        if name in checkpoint.tensors and name not in declared:
            yield Finding("error", name, f"is stored, but {form.spec} has no such part")


def check_record(checkpoint: Checkpoint) -> Iterator[Finding]:
    """Every tensor on disk is one that the plan wrote, with its type and shape, and the other way round."""
    if checkpoint.record is None:
        yield Finding("info", RECORD, "is missing, so the files are not compared with a plan")
        return
    stored = dict(checkpoint.source.tensors)
    for tensor in checkpoint.record["tensors"]:
        for part in tensor["parts"]:
            found = stored.pop(part["name"], None)
            if found is None:
                if tensor["role"] != "mtp":
                    yield Finding("error", part["name"], "was planned but is not stored")
            elif (NAMES[found.dtype], list(found.shape)) != (part["dtype"], part["shape"]):
                yield Finding(
                    "error", part["name"],
                    f"is {NAMES[found.dtype]} {list(found.shape)}, planned {part['dtype']} {part['shape']}",
                )  # fmt: skip
        yield from _check_bits(checkpoint, tensor)
    for name in stored:
        yield Finding("error", name, "is stored but was not planned")


def _check_bits(checkpoint: Checkpoint, tensor: dict[str, Any]) -> Iterator[Finding]:
    entry = checkpoint.entry(tensor["module"])
    if tensor["mode"] is None:
        if entry is not None:
            yield Finding("error", tensor["module"], "was planned unquantized but has scales")
        return
    planned = {key: tensor[key] for key in ("mode", "bits", "group_size")}
    said = {key: (entry or {}).get(key) for key in planned}
    if said != planned:
        yield Finding("error", tensor["module"], f"the config says {said}, planned {planned}")


def check_sums(checkpoint: Checkpoint) -> Iterator[Finding]:
    for name, entry in (checkpoint.record or {}).get("files", {}).items():
        path = checkpoint.path / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            yield Finding("error", RECORD, f"names {name!r}, which is outside the folder")
        elif not path.is_file():
            yield Finding("error", name, "is recorded but not here")
        elif hash_file(path) != entry["sha256"]:
            yield Finding("error", name, "differs from its recorded checksum")


def check_load(checkpoint: Checkpoint, loader: str) -> tuple[list[Finding], bool]:
    """Load strictly and lazily in a stock loader, and compare each module's bits with the record."""
    try:
        model = load_strict(checkpoint.path, loader)
    except Exception as error:
        if _unsupported(checkpoint, loader, error):
            return [Finding("info", loader, f"does not know {checkpoint.config.get('model_type')}")], False
        first = (str(error).strip().splitlines() or [""])[0][:300]
        return [Finding("error", loader, f"refuses it: {type(error).__name__}: {first}")], False
    return list(_compare_modules(checkpoint, model, loader)), True


def load_strict(path: Path, loader: str) -> Any:  # noqa: ANN401
    """The loader's model with every parameter bound to its file, none evaluated."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        if loader == "mlx-vlm":
            from mlx_vlm.utils import load_model as load_vlm

            return load_vlm(path, lazy=True, strict=True)
        from mlx_lm.utils import load_model as load_lm

        return load_lm(path, lazy=True, strict=True)[0]


def _unsupported(checkpoint: Checkpoint, loader: str, error: Exception) -> bool:
    primary = "mlx-vlm" if is_multimodal(checkpoint.config) else "mlx-lm"
    return loader != primary and isinstance(error, ValueError) and "not supported" in str(error)


def _compare_modules(checkpoint: Checkpoint, model: Any, loader: str) -> Iterator[Finding]:  # noqa: ANN401
    loaded = {
        name: {"mode": getattr(m, "mode", "affine"), "bits": m.bits, "group_size": m.group_size}
        for name, m in model.named_modules()
        if hasattr(m, "bits") and hasattr(m, "group_size")
    }
    known = {name for name, _ in model.named_modules()}
    for tensor in (checkpoint.record or {}).get("tensors", ()):
        module = tensor["module"]
        if module not in known:
            continue
        planned = {key: tensor[key] for key in ("mode", "bits", "group_size")} if tensor["mode"] else None
        if loaded.get(module) != planned:
            yield Finding("error", module, f"{loader} loads it as {loaded.get(module)}, planned {planned}")
