"""Carry out plans: read each tile once, encode it for every output, write it to its place.

Work is cut into tiles (ranges of rows). Every tile's bytes and their position are fixed by the plan, so any
number of threads may do them in any order, and a run that was stopped goes on where its journal says.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from convx.dtypes import BF16, F16, DType, is_float
from convx.errors import ConvxError, SourceError, WriteError
from convx.formats import Format
from convx.journal import Journal
from convx.nodes import cast
from convx.plan import Plan, PlannedTensor
from convx.shards import ShardFiles
from convx.storage import View
from convx.tensors import Array, row_count, row_length

TILE_BYTES = 1 << 20
"""Most source bytes in a tile when memory allows; small enough for a tile to stay in cache."""
FOOTPRINT = 6
"""Bytes in flight for each source byte of a tile: the rows, a float32 copy, and what is encoded from them."""


class Progress(Protocol):
    def advance(self, nbytes: int, tensor: str) -> None: ...


@dataclass(frozen=True)
class Job:
    """One tensor of the source's order, with its planned form in each output."""

    number: int
    forms: tuple[PlannedTensor, ...]
    outputs: tuple[ShardFiles, ...]

    @property
    def name(self) -> str:
        return self.forms[0].name

    @property
    def rows(self) -> int:
        return row_count(self.forms[0].info.shape)

    @property
    def row_bytes(self) -> int:
        return row_length(self.forms[0].info.shape) * self.forms[0].tensor.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.forms[0].tensor.nbytes


@dataclass(frozen=True)
class Tile:
    job: Job
    start: int
    stop: int


def make_jobs(plans: Sequence[Plan], outputs: Sequence[ShardFiles]) -> list[Job]:
    """One job a tensor; the plans are of one source, so they hold the same tensors."""
    by_name = [{t.name: t for t in plan.tensors} for plan in plans]
    return [
        Job(n, tuple(names[tensor.name] for names in by_name), tuple(outputs))
        for n, tensor in enumerate(plans[0].tensors)
    ]


def tile_rows(job: Job, jobs: int, max_memory: int) -> int:
    """Rows a tile so that `jobs` of them in flight stay under `max_memory` bytes."""
    budget = min(TILE_BYTES, max_memory // (jobs * FOOTPRINT))
    return max(1, min(job.rows, budget // max(1, job.row_bytes)))


class Executor:
    """Runs tiles on threads; kernels, reads and writes release the interpreter's lock."""

    def __init__(
        self,
        jobs: Sequence[Job],
        journal: Journal,
        *,
        workers: int,
        max_memory: int,
        allow_nonfinite: bool,
        progress: Progress,
    ) -> None:
        self._jobs = jobs
        self._journal = journal
        self._workers = workers
        self._max_memory = max_memory
        self._allow_nonfinite = allow_nonfinite
        self._progress = progress
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._left: dict[int, int] = {}
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Do every tile that the journal does not have. Raises the first failure, once all threads have ended."""
        tiles = iter(self._tiles())
        threads = [threading.Thread(target=self._work, args=(tiles,), name=f"tile-{n}") for n in range(self._workers)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _tiles(self) -> Iterator[Tile]:
        for job in self._jobs:
            if job.number in self._journal.done:
                continue
            step = tile_rows(job, self._workers, self._max_memory)
            starts = range(0, max(1, job.rows), step)
            self._left[job.number] = len(starts)
            for start in starts:
                yield Tile(job, start, min(start + step, job.rows))

    def _next(self, tiles: Iterator[Tile]) -> Tile | None:
        with self._lock:
            return None if self._stop.is_set() else next(tiles, None)

    def _work(self, tiles: Iterator[Tile]) -> None:
        try:
            while (tile := self._next(tiles)) is not None:
                self._do(tile)
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or _explained(error)
            self._stop.set()

    def _do(self, tile: Tile) -> None:
        write_tile(tile, self._allow_nonfinite)
        job = tile.job
        self._progress.advance((tile.stop - tile.start) * job.row_bytes, job.name)
        with self._lock:
            self._left[job.number] -= 1
            finished = self._left[job.number] == 0
        if finished:
            for output, form in zip(job.outputs, job.forms, strict=True):
                output.finish_tensor(form)
            self._journal.add(job.number)


def write_tile(tile: Tile, allow_nonfinite: bool) -> None:
    job = tile.job
    read: dict[int, Array] = {}  # outputs of one run share their tensors, unless scales are folded into them
    for form, output in zip(job.forms, job.outputs, strict=True):
        if allow_nonfinite and _copied(tile, form, output):
            continue
        tensor = form.tensor
        if id(tensor) not in read:
            read[id(tensor)] = tensor.rows(tile.start, tile.stop)
            if not allow_nonfinite:
                check_finite(read[id(tensor)], job, tile)
        values = cast(read[id(tensor)], form.dtype, tensor.node.sources)
        for part, array in zip(form.parts, _encoded(form, values), strict=True):
            columns = row_length(part.shape)
            output.write(part, array, tile.start * columns * part.dtype.itemsize)


def _encoded(form: PlannedTensor, values: Array) -> tuple[Array, ...]:
    spec = form.decision.spec
    return spec.encode(values) if isinstance(spec, Format) else (values,)


def _copied(tile: Tile, form: PlannedTensor, output: ShardFiles) -> bool:
    """Let the kernel copy a tile whose stored bytes are those of the source."""
    node = form.tensor.node
    if isinstance(form.decision.spec, Format) or form.dtype != form.tensor.dtype or not isinstance(node, View):
        return False
    run = node.stored_run()
    if run is None:
        return False
    file, offset = run
    begin, count = tile.start * tile.job.row_bytes, (tile.stop - tile.start) * tile.job.row_bytes
    return output.copy(form.parts[0], file, offset + begin, begin, count)


def check_finite(rows: Array, job: Job, tile: Tile) -> None:
    """Raises SourceError when a weight is NaN or Inf. Single numbers may be infinite: they are bounds."""
    if not is_float(rows.dtype) or not job.forms[0].info.shape:
        return
    if not _has_nonfinite(rows, rows.dtype):
        return
    bad = int((~np.isfinite(rows.astype(np.float32))).sum())
    names = ", ".join(job.forms[0].tensor.sources)
    raise SourceError(
        f"{names}: {bad} NaN or Inf weights in rows {tile.start} to {tile.stop} of {job.name}",
        hint="the source is damaged; --allow-nonfinite writes it all the same",
    )


def _has_nonfinite(rows: Array, dtype: DType) -> bool:
    if rows.size and dtype in {BF16, F16}:
        # Integer compare of the bits: sign off, then all values from the infinity's up are Inf or NaN.
        limit = 0x7F80 if dtype == BF16 else 0x7C00
        return bool((rows.view(np.uint16) & np.uint16(0x7FFF)).max() >= limit)
    return not np.isfinite(rows).all()


def _explained(error: BaseException) -> BaseException:
    if isinstance(error, ConvxError) or not isinstance(error, OSError):
        return error
    where = f" ({error.filename})" if error.filename else ""
    hint = "make room and run the same command again: it goes on where it stopped"
    return WriteError(f"writing failed: {os.strerror(error.errno or 0)}{where}", hint=hint)


def default_jobs() -> int:
    """Threads for tiles: two a processor that this process may use, since each waits for the disk; 16 at most."""
    count: Callable[[], int] = getattr(os, "process_cpu_count", None) or (lambda: len(_affinity()))
    return max(2, min(16, 2 * (count() or 1)))


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
