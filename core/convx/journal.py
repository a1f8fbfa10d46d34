"""What is already written: a file beside the partial folder, from which a stopped run goes on.

The first line says which work this is. Each further line is the number of a finished tensor, or `sync N`: the
first N of them have reached the disk. After a kill the others count as well, because the kernel still holds
their bytes; after a restart of the machine they do not.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from convx.errors import WriteError

SYNC_SECONDS = 10.0


class Journal:
    """Opens or continues the journal at `path` for the work that `key` describes (name -> digest or version).

    Raises WriteError when a journal for other work is there, naming what differs.
    """

    def __init__(self, path: Path, key: dict[str, str], sync: Callable[[], None]) -> None:
        self.path = path
        self.done: set[int] = set()
        self._sync = sync
        self._lock = threading.Lock()
        self._last_sync = time.monotonic()
        self._head = {"boot": boot_id(), **key}
        known = read_journal(path)
        if known is not None:
            refuse_other(path, known[0], key)
            self.done = known[1]
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o644)
        lines = [json.dumps(self._head), *map(str, sorted(self.done)), "sync 0"]
        os.write(self._fd, ("\n".join(lines) + "\n").encode())

    def add(self, number: int) -> None:
        """Note a finished tensor, and now and then force everything to the disk."""
        with self._lock:
            self.done.add(number)
            os.write(self._fd, f"{number}\n".encode())
            due = time.monotonic() - self._last_sync > SYNC_SECONDS
            if due:
                self._last_sync = time.monotonic()
            count = len(self.done)
        if due:
            self._sync()
            with self._lock:
                os.write(self._fd, f"sync {count}\n".encode())

    def close(self) -> None:
        os.close(self._fd)


def boot_id() -> str:
    """Changes when the machine restarts; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def read_journal(path: Path) -> tuple[dict[str, str], set[int]] | None:
    """(head, finished tensors) of a journal, or None when there is none that can be read."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        head = json.loads(lines[0])
    except (OSError, ValueError):
        return None
    if not isinstance(head, dict):
        return None
    body = lines[1:-1]  # what follows the last newline was cut off in writing
    numbers = [int(line) for line in body if line.isascii() and line.isdigit()]
    if not head.get("boot") or head["boot"] != boot_id():
        synced = [int(line[5:]) for line in body if line.startswith("sync ") and line[5:].isdigit()]
        numbers = numbers[: max(synced, default=0)]
    return head, set(numbers)


def refuse_other(path: Path, head: dict[str, str], key: dict[str, str]) -> None:
    differs = [name for name in key if head.get(name) != key[name]]
    if differs:
        raise WriteError(
            f"{path}: an unfinished run of other work is here; it differs in {', '.join(differs)}",
            hint="repeat that run's command to finish it, or add --overwrite to start anew",
        )
