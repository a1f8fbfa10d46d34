"""The shard files of one output while they are written: preallocated, written at any position, hashed when full."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np

from convx.errors import WriteError
from convx.layout import StoredPart
from convx.plan import Plan, PlannedTensor
from convx.storage import StoredFile
from convx.tensors import Array

_CHUNK = 1 << 22
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}


class ShardFiles:
    """Opens every shard of a plan in `folder`, at its final size, with its header written."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self._fds: list[int] = []
        self._bases = [len(shard.header) for shard in plan.shards]
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._sums = []
        for number, shard in enumerate(plan.shards):
            self._fds.append(_open_sized(folder / shard.name, shard.nbytes, shard.header))
            parts = [p for t in plan.tensors for p in t.parts if p.shard == number]
            ends = sorted((self._bases[number] + p.offset + p.nbytes, p.name) for p in parts)
            self._sums.append(RunningSum(folder / shard.name, ends, shard.nbytes))

    def write(self, part: StoredPart, array: Array, begin: int) -> None:
        """Write rows of a part, `begin` bytes into it."""
        if array.dtype != part.dtype:
            raise WriteError(f"{part.name}: planned as {part.dtype}, encoded as {array.dtype}")
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        if begin + len(data) > part.nbytes:
            raise WriteError(f"{part.name}: planned as {part.nbytes} bytes, more were encoded")
        fd, at = self._fds[part.shard], self._bases[part.shard] + part.offset + begin
        while data:
            count = os.pwrite(fd, data, at)
            data, at = data[count:], at + count

    def copy(self, part: StoredPart, file: StoredFile, source: int, begin: int, count: int) -> bool:
        """Copy stored bytes inside the kernel; False where it cannot, with nothing written."""
        if not hasattr(os, "copy_file_range"):
            return False
        at = self._bases[part.shard] + part.offset + begin
        done = 0
        while done < count:
            try:
                step = os.copy_file_range(file.fileno(), self._fds[part.shard], count - done, source + done, at + done)
            except OSError as error:
                if error.errno in _NO_KERNEL_COPY:
                    return False
                raise
            if step == 0:
                return False
            done += step
        return True

    def finish_tensor(self, form: PlannedTensor) -> None:
        """Note that all of a tensor is written; its shard is hashed in the background as far as it is complete."""
        running = self._sums[form.parts[0].shard]
        if running.finish(part.name for part in form.parts):
            self._hasher.submit(running.catch_up)

    def sync(self) -> None:
        for fd in self._fds:
            os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)

    def checksums(self) -> dict[str, str]:
        """sha256 of each shard by name; call it when all tensors are finished."""
        sums = [self._hasher.submit(running.digest) for running in self._sums]
        return {shard.name: found.result() for shard, found in zip(self.plan.shards, sums, strict=True)}

    def close(self) -> None:
        for running in self._sums:
            running.stopped.set()
        self._hasher.shutdown(wait=True, cancel_futures=True)
        while self._fds:
            os.close(self._fds.pop())


class RunningSum:
    """sha256 of a file whose parts are finished in any order: hashed up to the first part that is not.

    `ends` are (end position, name) of its parts, in order. `catch_up` and `digest` run on one thread.
    """

    def __init__(self, path: Path, ends: Sequence[tuple[int, str]], size: int) -> None:
        self._path = path
        self._ends = ends
        self._size = size
        self._next = 0
        self._done: set[str] = set()
        self._lock = threading.Lock()
        self._ready = 0
        self._hashed = 0
        self._sum = sha256()
        self.stopped = threading.Event()

    def finish(self, names: Iterable[str]) -> bool:
        """Note finished parts; True when more of the file can be hashed."""
        with self._lock:
            self._done.update(names)
            before = self._next
            while self._next < len(self._ends) and self._ends[self._next][1] in self._done:
                self._ready = self._ends[self._next][0]
                self._next += 1
            return self._next > before

    def catch_up(self) -> None:
        with self._lock:
            ready = self._ready
        self._hash_to(ready)

    def digest(self) -> str:
        self._hash_to(self._size)
        return self._sum.hexdigest()

    def _hash_to(self, end: int) -> None:
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._hashed)
            while self._hashed < end and not self.stopped.is_set():
                chunk = file.read(min(_CHUNK, end - self._hashed))
                self._sum.update(chunk)
                self._hashed += len(chunk)


def hash_file(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    digest = sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _open_sized(path: Path, nbytes: int, header: bytes) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        _allocate(fd, nbytes)
        os.pwrite(fd, header, 0)
    except OSError as error:
        os.close(fd)
        raise WriteError(
            f"{path}: cannot reserve {nbytes} bytes: {error.strerror}",
            hint="make room, then run the same command again",
        ) from error
    return fd


def _allocate(fd: int, nbytes: int) -> None:
    if os.fstat(fd).st_size > nbytes:
        os.ftruncate(fd, nbytes)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, nbytes)
            return
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
                raise
    os.ftruncate(fd, nbytes)
