"""The main job: plan, write beside the target, verify, rename into place."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from convx.card import write_card
from convx.checkpoint import (
    FilePatch,
    JsonPatch,
    Patch,
    TensorPatch,
    apply_json,
    journal_path,
    open_checkpoint,
    partial_folder,
    put_in_place,
    refuse_conflicts,
    write_record,
    write_sidecars,
)
from convx.compat import require_sound_mlx
from convx.errors import ConvxError, PluginError, SourceError, UsageError, WriteError
from convx.execute import Executor, Progress, default_jobs, make_jobs
from convx.journal import Journal, read_journal, refuse_other
from convx.plan import Plan
from convx.record import make_record, package_versions
from convx.report import Report
from convx.session import Session
from convx.shards import ShardFiles, hash_file
from convx.verify import verify

DEFAULT_MEMORY = 512 << 20
"""Bound on the bytes of tiles in flight."""
_SPARE_BYTES = 64 << 20


class Quiet:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int = 0) -> None: ...

    def advance(self, nbytes: int, tensor: str) -> None: ...


def convert(
    session: Session,
    out: Path,
    *,
    command: str = "",
    jobs: int | None = None,
    max_memory: int = DEFAULT_MEMORY,
    overwrite: bool = False,
    resume: bool = False,
    progress: Quiet | None = None,
) -> list[Report]:
    """Write the session's outputs: to `out`, or to `out-FORMAT` each when there are several.

    Raises WriteError when a target is not empty (unless `overwrite`), is the source, or does not fit on the
    disk; SourceError for NaN or Inf weights; VerifyError when the result is not what was planned. A run that
    is stopped leaves a hidden partial folder and a journal beside the target, and goes on when repeated;
    a run that fails for what is in the source leaves nothing.
    """
    require_sound_mlx()
    progress = progress or Quiet()
    outs = output_paths(out, session.plans)
    for target in outs:
        refuse_target(target, session, overwrite)
    with ExitStack() as held:
        for target in outs:
            held.enter_context(only_one(target))
            refuse_target(target, session, overwrite)  # again, for who had it until now
        return _convert(session, outs, command, jobs, max_memory, progress, overwrite=overwrite, resume=resume)


def _convert(
    session: Session,
    outs: Sequence[Path],
    command: str,
    jobs: int | None,
    max_memory: int,
    progress: Quiet,
    *,
    overwrite: bool,
    resume: bool,
) -> list[Report]:
    key = _journal_key(session.plans)
    journal_file = journal_path(min(outs))
    _prepare_partials(outs, session.plans, journal_file, key, overwrite=overwrite, resume=resume)
    started = time.monotonic()
    try:
        done, sums = _write_weights(session, outs, journal_file, key, jobs or default_jobs(), max_memory, progress)
        for plan, target in zip(session.plans, outs, strict=True):
            _finish(plan, target, session, command, outs, sums[target])
            progress.stage(f"verify {target.name}")
            verify(partial_folder(target), checksums=False).require()
    except Exception as error:
        if not isinstance(error, WriteError | OSError | MemoryError):
            _discard(outs, journal_file)  # repeating would fail in the same way
        raise
    for target in outs:
        put_in_place(partial_folder(target), target)
    journal_file.unlink(missing_ok=True)
    session.prepared.source.close()
    seconds = time.monotonic() - started
    reports = [Report(t, p, seconds, done, p.warnings) for p, t in zip(session.plans, outs, strict=True)]
    return [_observed(report, session) for report in reports]


def _observed(report: Report, session: Session) -> Report:
    """Tell the observers; one that fails is a note, for the output is complete."""
    try:
        session.prepared.hooks.finished(report)
    except ConvxError as error:
        return replace(report, warnings=(*report.warnings, str(error)))
    return report


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Hold the target for this run. Raises WriteError when another run is writing it."""
    path = out.parent / f".{out.name}.convx-lock"
    try:
        opened = path.open("w")
    except OSError as error:
        raise WriteError(f"{out}: cannot be written: {error.strerror}", hint="give another OUT") from None
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WriteError(f"{out}: another convx is writing it", hint="wait for it, or give another OUT") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def output_paths(out: Path, plans: Sequence[Plan]) -> list[Path]:
    out = out.resolve() if out.is_symlink() else out  # the folder a link names is replaced, not the link
    if len(plans) == 1:
        return [out]
    names = [plan.base.spec.replace(":", "-") for plan in plans]
    if len(set(names)) < len(names):
        raise UsageError(f"--format names one format twice: {', '.join(names)}")
    members = [out.parent / f"{out.name}-{name}" for name in names]
    return [member.resolve() if member.is_symlink() else member for member in members]


def refuse_target(target: Path, session: Session, overwrite: bool) -> None:
    source = session.prepared.source
    if source.bare:
        raise SourceError(
            f"{source.path}: a config alone has no weights to convert",
            hint="give the folder of a checkpoint with *.safetensors; convx plan works on a config",
        )
    inside = target.resolve()
    if inside == source.path.resolve():
        raise WriteError(f"{target}: is the source itself, which is never changed", hint="give another OUT")
    if source.path.resolve().is_relative_to(inside):
        raise WriteError(f"{target}: holds the source, which is never changed", hint="give another OUT")
    if inside.is_relative_to(source.path.resolve()):
        raise WriteError(f"{target}: is inside the source, which is never changed", hint="give another OUT")
    if target.exists() and not target.is_dir():
        raise WriteError(f"{target}: is a file", hint="give another OUT")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise WriteError(f"{target}: is not empty", hint="give another OUT, or --overwrite to replace it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{target.parent}: cannot be made: {error.strerror}", hint="give another OUT") from None


def _journal_key(plans: Sequence[Plan]) -> dict[str, str]:
    versions = package_versions()
    return {
        "source": plans[0].source.fingerprint(),
        "formats": ", ".join(sorted(plan.base.spec for plan in plans)),
        "plan": " ".join(sorted(plan.digest for plan in plans)),
        "versions": " ".join(f"{k} {v}" for k, v in versions.items()),
    }


def _prepare_partials(
    outs: Sequence[Path],
    plans: Sequence[Plan],
    journal: Path,
    key: dict[str, str],
    *,
    overwrite: bool,
    resume: bool,
) -> None:
    """Make the partial folders, or keep those of a stopped run when its journal fits."""
    known = read_journal(journal)
    if known is not None and overwrite and known[0] | key != known[0]:
        known = None
    if known is not None:
        refuse_other(journal, known[0], key)
        if all(_complete_partial(partial_folder(o), p) for o, p in zip(outs, plans, strict=True)):
            return
    if resume:
        raise WriteError(f"{outs[0]}: nothing to resume", hint="leave --resume out to start")
    _discard(outs, journal)
    need = sum(sum(s.nbytes for s in plan.shards) for plan in plans) + _SPARE_BYTES
    free = shutil.disk_usage(outs[0].parent).free
    if free < need:
        raise WriteError(
            f"{outs[0].parent}: {need / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free",
            hint="make room, or give another OUT",
        )
    for target in outs:
        partial_folder(target).mkdir()


def _complete_partial(folder: Path, plan: Plan) -> bool:
    return all((folder / s.name).is_file() and (folder / s.name).stat().st_size == s.nbytes for s in plan.shards)


def _discard(outs: Sequence[Path], journal: Path) -> None:
    for target in outs:
        shutil.rmtree(partial_folder(target), ignore_errors=True)
    journal.unlink(missing_ok=True)


def _write_weights(
    session: Session,
    outs: Sequence[Path],
    journal_file: Path,
    key: dict[str, str],
    workers: int,
    max_memory: int,
    progress: Quiet,
) -> tuple[int, dict[Path, dict[str, str]]]:
    """Write every shard; gives the bytes found done and the checksums of each output's shards."""
    with ExitStack() as stack:
        files = []
        for plan, target in zip(session.plans, outs, strict=True):
            output = ShardFiles(plan, partial_folder(target))
            stack.callback(output.close)
            files.append(output)
        journal = Journal(journal_file, key, lambda: _sync_all(files))
        stack.callback(journal.close)
        work = make_jobs(session.plans, files)
        done = sum(job.nbytes for job in work if job.number in journal.done)
        for job in work:
            if job.number in journal.done:
                for output, form in zip(job.outputs, job.forms, strict=True):
                    output.finish_tensor(form)
        progress.stage("convert", sum(job.nbytes for job in work))
        if done:
            progress.advance(done, "resumed")
        watched: Progress = progress
        Executor(
            work, journal, workers=workers, max_memory=max_memory,
            allow_nonfinite=session.prepared.options.allow_nonfinite, progress=watched,
        ).run()  # fmt: skip
        progress.stage("checksums")
        return done, {target: output.checksums() for target, output in zip(outs, files, strict=True)}


def _sync_all(files: Sequence[ShardFiles]) -> None:
    for output in files:
        output.sync()


def _finish(
    plan: Plan, target: Path, session: Session, command: str, outs: Sequence[Path], sums: dict[str, str]
) -> None:
    """Write everything that is not weights: sidecars, patches, record, card."""
    folder = partial_folder(target)
    write_sidecars(plan, folder)
    siblings = [
        {
            "name": other.name,
            "format": p.base.spec,
            "bits_per_weight": p.bits_per_weight,
            "total_bytes": p.total_bytes,
        }
        for p, other in zip(session.plans, outs, strict=True)
        if other != target
    ]
    patches = _fresh_patches(plan, folder, session)
    apply_json(folder, patches)
    record = make_record(plan, target.name, command, siblings)
    record["patches"] = [p.target for p in patches]
    record["files"] = file_entries(folder, sums)
    write_record(folder, record)
    write_card(folder, session.prepared.hooks)


def _fresh_patches(plan: Plan, folder: Path, session: Session) -> list[JsonPatch | FilePatch]:
    checkpoint = replace(open_checkpoint(folder), fresh=True)
    patches: list[Patch] = []
    for loader in plan.options.target or (None,):
        patches += session.prepared.hooks.post_save_patches(checkpoint, plan.config, loader)
    patches += [JsonPatch("generation_config.json", (key,), value) for key, value in plan.options.generation]
    refuse_conflicts(patches)
    tensors = [patch.target for patch in patches if isinstance(patch, TensorPatch)]
    if tensors:
        raise PluginError(
            f"a post-save patch changes {', '.join(tensors)} of a fresh conversion, against its plan",
            hint="change weights in convx_sanitize_weights; patch tensors only where checkpoint.fresh is false",
        )
    return [patch for patch in patches if not isinstance(patch, TensorPatch)]


def file_entries(folder: Path, known: dict[str, str]) -> dict[str, Any]:
    """Size and sha256 of each file of a checkpoint, its record and its card left out."""
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in {"convx.json", "README.md"}:
            out[name] = {"bytes": path.stat().st_size, "sha256": known.get(name) or hash_file(path)}
    return out
