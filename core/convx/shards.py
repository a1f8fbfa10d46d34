"""The shard files of one output while they are written: preallocated, written at any position, hashed when full."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
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
        self._left = Counter(t.parts[0].shard for t in plan.tensors)
        self._lock = threading.Lock()
        self._hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        self._hashes: dict[int, Future[str]] = {}
        for shard in plan.shards:
            self._fds.append(_open_sized(folder / shard.name, shard.nbytes, shard.header))

    def write(self, part: StoredPart, array: Array, begin: int) -> None:
        """Write rows of a part, `begin` bytes into it."""
        if array.dtype != part.dtype:
            raise WriteError(f"{part.name}: planned as {part.dtype}, encoded as {array.dtype}")
        data = memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
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
                step = os.copy_file_range(
                    file.fileno(), self._fds[part.shard], count - done, source + done, at + done
                )
            except OSError as error:
                if error.errno in _NO_KERNEL_COPY:
                    return False
                raise
            if step == 0:
                return False
            done += step
        return True

    def finish_tensor(self, form: PlannedTensor) -> None:
        """Note that all of a tensor is written; a full shard is hashed in the background."""
        shard = form.parts[0].shard
        with self._lock:
            self._left[shard] -= 1
            if self._left[shard] == 0:
                self._hashes[shard] = self._hasher.submit(hash_file, self.folder / self.plan.shards[shard].name)

    def sync(self) -> None:
        for fd in self._fds:
            os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)

    def checksums(self) -> dict[str, str]:
        """sha256 of each shard by name; waits for those still being hashed."""
        for number, shard in enumerate(self.plan.shards):
            if number not in self._hashes:
                self._hashes[number] = self._hasher.submit(hash_file, self.folder / shard.name)
        return {self.plan.shards[n].name: future.result() for n, future in self._hashes.items()}

    def close(self) -> None:
        self._hasher.shutdown(wait=True, cancel_futures=True)
        while self._fds:
            os.close(self._fds.pop())


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
            f"{path}: cannot reserve {nbytes} bytes: {error.strerror}", hint="make room, then run the same command again"
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
