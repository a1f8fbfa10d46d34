"""Fold activation scales into the weights: exact in function, kinder to quantization.

For a linear y = W x whose input x comes out of a norm (or of another linear's rows), W's columns are
multiplied by s and what makes x is divided by s. Following the published "UD" builds, for an input channel
of mean squared activation m: s = max(m, 1e-8) ** a, normalised by sqrt(max(s) * min(s)). They fix a = 0.5;
here a group takes the exponent, 0 (no fold) among them, that errs least in its own format: the search is
that of AWQ (arXiv:2306.00978, section 3.2), on a sample of rows and weighted by m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from convx.dtypes import F32, DType
from convx.errors import SourceError
from convx.formats import Format
from convx.imatrix.files import Entry
from convx.shaping import map_rows
from convx.tensors import Array, Tensor

FLOOR = 1e-8
"""Least mean squared activation that counts."""
EXPONENTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Candidates; the last is used where nothing of a group is quantized, so that there is nothing to choose by."""
SAMPLE_ROWS = 64
SAMPLE_EXPERTS = 8

FormatOf = Callable[[str], Format | None]


@dataclass(frozen=True)
class FoldGroup:
    """`before` is divided, and each of `linears` multiplied, by one factor an input channel.

    `before` names a norm's weight (K,), or a linear whose output rows are the channels: (K, ...), or
    (E, K, ...) with experts, whose factors then differ from expert to expert. `linears` are (rows, K) or
    (E, rows, K). All of them see one input, so an importance of any of them serves for all.
    """

    before: str
    linears: tuple[str, ...]


def layer_groups(
    weights: Mapping[str, Tensor],
    stack: str,
    layers: int,
    by_norm: Mapping[str, tuple[str, ...]],
    by_rows: Mapping[str, str],
) -> list[FoldGroup]:
    """Groups of `layers` equal layers `STACK.N`, for architecture plugins: those of whose members all are there.

    `by_norm`: norm -> the linears that it feeds; `by_rows`: linear -> the linear that its rows feed. Names are module
    paths inside a layer; linears that a layer does not have are left out of its group.
    """
    found = []
    for prefix in (f"{stack}.{layer}" for layer in range(layers)):
        for norm, linears in by_norm.items():
            names = tuple(f"{prefix}.{n}.weight" for n in linears if f"{prefix}.{n}.weight" in weights)
            found.append(FoldGroup(f"{prefix}.{norm}.weight", names))
        for rows, linear in by_rows.items():
            found.append(FoldGroup(f"{prefix}.{rows}.weight", (f"{prefix}.{linear}.weight",)))
    return [g for g in found if g.linears and g.before in weights and all(n in weights for n in g.linears)]


@dataclass
class Folded:
    """The weights with scales folded in, and what was left out, for the plan's notes."""

    weights: dict[str, Tensor]
    groups: int = 0
    notes: list[str] = field(default_factory=list)


def scales_of(importance: Array, exponent: float) -> Array:
    """Mean squared activations (..., K) -> factors (..., K) float32, of geometric middle 1."""
    raw = np.maximum(importance.astype(np.float64), FLOOR) ** exponent
    middle = np.sqrt(raw.max(-1, keepdims=True) * raw.min(-1, keepdims=True))
    scaled: Array = (raw / middle).astype(np.float32)
    return scaled


def fold(
    weights: Mapping[str, Tensor],
    groups: Iterable[FoldGroup],
    importance: Mapping[str, Entry],
    stored: DType,
    format_of: FormatOf = lambda name: None,
) -> Folded:
    """Fold every group that is complete; `stored` is the type that norms are rounded to when written.

    `format_of` gives the format that a weight will be stored in, None for none. Reads a sample of the weights.

    Raises SourceError when an importance has another number of channels or experts than its weight: the
    matrix then belongs to another model.
    """
    out = Folded(dict(weights))
    for group in groups:
        names = (group.before, *group.linears)
        if any(name not in weights for name in names):
            continue
        known = {name: importance[name] for name in group.linears if name in importance}
        if not known:
            out.notes.append(f"not folded, the importance matrix lacks {', '.join(group.linears)}")
            continue
        for name, entry in known.items():
            _check(name, weights[name], entry)
        exponent = _best_exponent(out.weights, group, known, format_of)
        if exponent:
            _fold_group(out, group, list(known.values()), stored, exponent)
            out.groups += 1
    return out


def _check(name: str, tensor: Tensor, entry: Entry) -> None:
    experts = tensor.shape[0] if tensor.ndim == 3 else 1
    if entry.sums.shape != (experts, tensor.shape[-1]):
        raise SourceError(
            f"the importance matrix has {entry.sums.shape} for {name}, whose shape is {tensor.shape}",
            hint="it belongs to another model",
        )


def _best_exponent(
    weights: Mapping[str, Tensor], group: FoldGroup, known: Mapping[str, Entry], format_of: FormatOf
) -> float:
    """The candidate with the least relative error of the outputs, summed over the group's quantized linears."""
    formats = {name: form for name in group.linears if (form := format_of(name)) is not None}
    if not formats:
        return EXPONENTS[-1]
    pooled = _pooled(list(known.values()))
    errors = np.zeros(len(EXPONENTS))
    for name, form in formats.items():
        for rows, importance in _samples(weights[name], known.get(name), pooled, weights[group.before].ndim == 3):
            errors += [_output_error(rows, importance, scales_of(importance, e), form) for e in EXPONENTS]
    return EXPONENTS[int(errors.argmin())]


def _samples(tensor: Tensor, entry: Entry | None, pooled: Array, per_expert: bool) -> Iterator[tuple[Array, Array]]:
    """Some rows (n, K) of a weight, or of some of its experts, with the importance (K,) of their channels."""
    if tensor.ndim == 2:
        yield _spread(tensor), pooled
        return
    for expert in np.linspace(0, tensor.shape[0] - 1, min(SAMPLE_EXPERTS, tensor.shape[0]), dtype=int):
        seen = entry is not None and per_expert and entry.counts.reshape(-1)[expert] > 0
        own = entry.sums[expert] / entry.counts.reshape(-1)[expert] if seen and entry is not None else pooled
        yield _spread(tensor[int(expert)]), own


def _spread(tensor: Tensor) -> Array:
    """Rows spread over a matrix, as float32."""
    blocks = np.linspace(0, max(0, tensor.shape[0] - 8), SAMPLE_ROWS // 8, dtype=int)
    rows = [tensor.rows(int(b), min(int(b) + 8, tensor.shape[0])) for b in dict.fromkeys(blocks.tolist())]
    return np.concatenate(rows).astype(np.float32)


def _output_error(rows: Array, importance: Array, scales: Array, form: Format) -> float:
    """sum m (Q(W s) / s - W)^2 / sum m W^2, the error of the outputs if channels are independent."""
    error = form.decode(form.encode(rows * scales)) / scales - rows
    return float((importance * error**2).sum() / max((importance * rows**2).sum(), 1e-30))


def _fold_group(out: Folded, group: FoldGroup, entries: list[Entry], stored: DType, exponent: float) -> None:
    before = out.weights[group.before]
    if before.ndim == 1:
        scales, divided = _through_norm(before, scales_of(_pooled(entries), exponent), stored)
    else:
        pooled = before.ndim == 2
        scales = scales_of(_pooled(entries), exponent) if pooled else _per_expert(out, group, entries[0], exponent)
        divided = before.astype(F32) * (1.0 / scales)[..., None]
    out.weights[group.before] = divided
    for name in group.linears:
        tensor = out.weights[name]
        factors = scales[:, None, :] if scales.ndim == 2 else scales
        out.weights[name] = tensor.astype(F32) * factors.astype(np.float32)


def _pooled(entries: list[Entry]) -> Array:
    """Mean squared activation a channel over all linears and experts that share the input: (K,)."""
    total = sum(entry.sums.sum(0) for entry in entries)
    count = sum(float(entry.counts.sum()) for entry in entries)
    return np.asarray(total) / max(count, 1.0)


def _through_norm(norm: Tensor, scales: Array, stored: DType) -> tuple[Array, Tensor]:
    """The norm divided and rounded as it will be stored, and the factors that undo exactly that.

    A norm's weight is stored in 16 bits; dividing it rounds. Multiplying the linears by old / stored instead
    of by the wanted factor keeps the model's function in spite of the rounding.
    """
    weight = norm.read().astype(np.float32)
    divided = (weight / scales).astype(stored)
    exact = divided.astype(np.float32)
    usable = (exact != 0) & np.isfinite(exact)
    factors = np.where(usable, weight / np.where(usable, exact, 1), 1.0)
    divided = np.where(usable, exact, weight).astype(stored)
    return factors.astype(np.float32), map_rows(lambda _: divided[None], [norm], len(divided), stored)


def _per_expert(out: Folded, group: FoldGroup, entry: Entry, exponent: float) -> Array:
    """Factors (E, K); experts that calibration never reached are named and left as they are."""
    unseen = np.flatnonzero(entry.counts.reshape(-1) == 0)
    if len(unseen):
        which = ", ".join(map(str, unseen[:8])) + (" ..." if len(unseen) > 8 else "")
        out.notes.append(f"{group.linears[0]}: experts {which} were never seen in calibration and are left unscaled")
    scales = scales_of(entry.sums / np.maximum(entry.counts.reshape(-1, 1), 1), exponent)
    scales[unseen] = 1.0
    return scales
