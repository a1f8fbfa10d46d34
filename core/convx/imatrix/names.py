"""Which weight an importance matrix means: llama.cpp's names, by the role and layer of ours.

The names are those of gguf-py's tensor maps (gguf/constants.py). Where llama.cpp has several for one role
over time, the first is written and all are read. A weight without a name there goes by its module's path.
"""

from __future__ import annotations

from collections.abc import Iterable

from convx.decide import TensorInfo
from convx.errors import SourceError
from convx.imatrix.files import Entry, ImportanceMatrix
from convx.roles import Role

GGUF_NAMES: dict[Role, tuple[str, ...]] = {
    Role.ATTENTION_Q: ("attn_q",),
    Role.ATTENTION_K: ("attn_k",),
    Role.ATTENTION_V: ("attn_v",),
    Role.ATTENTION_O: ("attn_output",),
    Role.LINEAR_ATTENTION_QKV: ("attn_qkv", "ssm_in"),
    Role.LINEAR_ATTENTION_Z: ("attn_gate",),
    Role.LINEAR_ATTENTION_OUT: ("ssm_out",),
    Role.MLP_GATE: ("ffn_gate",),
    Role.MLP_UP: ("ffn_up",),
    Role.MLP_DOWN: ("ffn_down",),
    Role.EXPERT_GATE: ("ffn_gate_exps", "ffn_gate_up_exps"),
    Role.EXPERT_UP: ("ffn_up_exps", "ffn_gate_up_exps"),
    Role.EXPERT_DOWN: ("ffn_down_exps",),
    Role.SHARED_EXPERT_GATE_PROJ: ("ffn_gate_shexp",),
    Role.SHARED_EXPERT_UP: ("ffn_up_shexp",),
    Role.SHARED_EXPERT_DOWN: ("ffn_down_shexp",),
    Role.SHARED_EXPERT_GATE: ("ffn_gate_inp_shexp",),
    Role.ROUTER: ("ffn_gate_inp",),
    Role.LM_HEAD: ("output",),
}
_LINEAR_GATES = {"in_proj_a": "ssm_alpha", "in_proj_b": "ssm_beta"}


def gguf_names(info: TensorInfo) -> tuple[str, ...]:
    """Names that a matrix may have for a weight, the usual one first."""
    place = info.placement
    stems = GGUF_NAMES.get(place.role, ())
    if place.role is Role.LINEAR_ATTENTION_GATES:
        stems = tuple(g for end, g in _LINEAR_GATES.items() if info.module.endswith(end))
    if not stems:
        return (info.name,)
    prefix = "" if place.layer is None else f"blk.{place.layer}."
    return (*(f"{prefix}{stem}.weight" for stem in stems), info.name)


def by_weight(matrix: ImportanceMatrix, infos: Iterable[TensorInfo]) -> dict[str, Entry]:
    """The matrix's entries by our weights' names. Raises SourceError when it knows none of them."""
    found = {}
    for info in infos:
        entry = next((matrix.entries[n] for n in gguf_names(info) if n in matrix.entries), None)
        if entry is not None:
            found[info.name] = entry
    if not found:
        some = ", ".join(list(matrix.entries)[:3]) or "nothing"
        raise SourceError(
            f"the importance matrix names no weight of this model; it has {some} ...",
            hint="it belongs to another model",
        )
    return found
