"""Write measurements into `convx.json`: what was measured, with which settings, on what, when."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from convx.checkpoint import RECORD, read_record, write_record
from convx.record import package_versions

Entry = dict[str, Any]
"""{"settings": what was asked, "values": what came out, "made": versions, hardware and date}."""

_PACKAGES = ("mlx", "mlx-metal", "mlx-cpu", "mlx-lm", "mlx-vlm", "transformers", "lm-eval", "numpy")


def make_entry(settings: dict[str, Any], values: dict[str, Any], seconds: float) -> Entry:
    made = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "versions": package_versions(_PACKAGES),
        "hardware": hardware(),
    }
    return {"settings": settings, "values": values, "made": made}


def save(folder: Path, kind: str, entry: Entry) -> bool:
    """Add an entry to the checkpoint's record, in place of one with the same settings. False: there is no record."""
    if not (folder / RECORD).is_file():
        return False
    record = read_record(folder)
    known: list[Entry] = record.setdefault("measurements", {}).setdefault(kind, [])
    known[:] = [e for e in known if e["settings"] != entry["settings"]] + [entry]
    write_record(folder, record)
    return True


def recorded(record: dict[str, Any] | None, kind: str, fits: Callable[[Entry], bool]) -> Entry | None:
    """The latest entry of a kind that fits, or None."""
    entries: list[Entry] = ((record or {}).get("measurements") or {}).get(kind) or []
    return next((entry for entry in reversed(entries) if fits(entry)), None)


def hardware() -> dict[str, Any]:
    """The machine: processor, cores, memory in bytes, system, and the device that MLX computes on."""
    import mlx.core as mx

    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": pages * size,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": str(mx.default_device()).removeprefix("Device(").removesuffix(", 0)"),
        "device_name": mx.device_info().get("device_name"),
    }


def _processor() -> str:
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.processor()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
