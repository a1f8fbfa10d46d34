"""Compare two plans or checkpoints tensor by tensor, summed up by role."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convx.checkpoint import RECORD
from convx.errors import ConvxError, SourceError
from convx.inspect import inspect_checkpoint
from convx.requantize import quantization_of
from convx.source import read_json

ABSENT = "absent"


@dataclass(frozen=True)
class Change:
    """Tensors of one role that are stored as `old` on one side and as `new` on the other."""

    role: str
    old: str
    new: str
    tensors: int
    parameters: int
    old_bytes: int
    new_bytes: int

    @property
    def changed(self) -> bool:
        return self.old != self.new or self.old_bytes != self.new_bytes

    def bits_per_weight(self, nbytes: int) -> float:
        return 8 * nbytes / max(1, self.parameters)


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Two plans, records or inspections (each with `tensors`) -> changes, the largest first."""
    before, after = ({t["name"]: t for t in side["tensors"]} for side in (old, new))
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for name in {**before, **after}:
        sides = [side.get(name) for side in (before, after)]
        role = next(str(t["role"]) for t in reversed(sides) if t is not None)
        groups[role, _format(sides[0]), _format(sides[1])].append(name)
    changes = [_change(*key, names, before, after) for key, names in groups.items()]
    return sorted(changes, key=lambda c: (not c.changed, -abs(c.new_bytes - c.old_bytes), -c.parameters, c.role))


def _format(tensor: dict[str, Any] | None) -> str:
    return ABSENT if tensor is None else str(tensor["format"])


def _change(role: str, old: str, new: str, names: list[str], before: dict[str, Any], after: dict[str, Any]) -> Change:
    parameters = sum(math.prod((after.get(n) or before[n])["shape"]) for n in names)
    old_bytes, new_bytes = (sum(side[n]["bytes"] for n in names if n in side) for side in (before, after))
    return Change(role, old, new, len(names), parameters, old_bytes, new_bytes)


def compare_json(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The comparison as `convx plan --diff OTHER --json` prints it."""
    keys = ("parameters", "total_bytes", "bits_per_weight")
    return {
        "old": {key: old[key] for key in keys},
        "new": {key: new[key] for key in keys},
        "changes": [asdict(change) for change in compare(old, new)],
    }


def read_other(path: str | Path) -> dict[str, Any] | None:
    """A saved plan, or what a converted checkpoint holds; None for a source, which must be planned first."""
    path = Path(path)
    if path.is_file():
        found = _json_object(path)
        return found if isinstance(found.get("tensors"), list) else None
    config = path / "config.json"
    if not config.is_file():
        return None
    converted = (path / RECORD).is_file() or quantization_of(read_json(config)) is not None
    return inspect_checkpoint(path) if converted else None


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise SourceError(f"{path}: not JSON", hint="--diff takes the output of convx plan --json") from None
    except OSError as error:
        raise ConvxError(f"{path}: {error.strerror}") from None
    if not isinstance(found, dict):
        raise SourceError(f"{path}: not one plan", hint="--diff takes the output of convx plan --json for one format")
    return found
