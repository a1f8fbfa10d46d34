"""The vocabulary of tensor roles: what a tensor is for, in words that do not depend on the architecture.

Recipes, floors and cards speak in roles, so that one recipe fits every architecture plugin.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a tensor does in the model. The value is the word used in recipes and on cards."""

    EMBEDDING = "embedding"
    PER_LAYER_EMBEDDING = "per-layer-embedding"
    PER_LAYER_PROJECTION = "per-layer-projection"
    LM_HEAD = "lm-head"
    ATTENTION_Q = "attention-q"
    ATTENTION_K = "attention-k"
    ATTENTION_V = "attention-v"
    ATTENTION_O = "attention-o"
    LINEAR_ATTENTION_QKV = "linear-attention-qkv"
    LINEAR_ATTENTION_Z = "linear-attention-z"
    LINEAR_ATTENTION_GATES = "linear-attention-gates"
    LINEAR_ATTENTION_OUT = "linear-attention-out"
    LINEAR_ATTENTION_STATE = "linear-attention-state"
    CONV = "conv"
    MLP_GATE = "mlp-gate"
    MLP_UP = "mlp-up"
    MLP_DOWN = "mlp-down"
    EXPERT_GATE = "expert-gate"
    EXPERT_UP = "expert-up"
    EXPERT_DOWN = "expert-down"
    SHARED_EXPERT_GATE_PROJ = "shared-expert-gate-proj"
    SHARED_EXPERT_UP = "shared-expert-up"
    SHARED_EXPERT_DOWN = "shared-expert-down"
    SHARED_EXPERT_GATE = "shared-expert-gate"
    ROUTER = "router"
    NORM = "norm"
    SCALAR = "scalar"
    VISION = "vision"
    AUDIO = "audio"
    PROJECTOR = "projector"
    MTP = "mtp"
    OTHER = "other"


EXPERTS = frozenset({Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN})
TOWERS = frozenset({Role.VISION, Role.AUDIO})

# Words for sets of roles, for recipes.
GROUPS: dict[str, frozenset[Role]] = {
    "attention": frozenset({Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V, Role.ATTENTION_O}),
    "linear-attention": frozenset(
        {
            Role.LINEAR_ATTENTION_QKV,
            Role.LINEAR_ATTENTION_Z,
            Role.LINEAR_ATTENTION_GATES,
            Role.LINEAR_ATTENTION_OUT,
        }
    ),
    "mlp": frozenset({Role.MLP_GATE, Role.MLP_UP, Role.MLP_DOWN}),
    "experts": EXPERTS,
    "shared-expert": frozenset({Role.SHARED_EXPERT_GATE_PROJ, Role.SHARED_EXPERT_UP, Role.SHARED_EXPERT_DOWN}),
    "gates": frozenset({Role.ROUTER, Role.SHARED_EXPERT_GATE, Role.LINEAR_ATTENTION_GATES}),
    "embeddings": frozenset({Role.EMBEDDING, Role.PER_LAYER_EMBEDDING, Role.LM_HEAD}),
    "towers": TOWERS,
}


@dataclass(frozen=True)
class Placement:
    """Where a tensor stands: its role and, inside a stack of layers, its layer.

    `layer` counts from 0 of `layers`; both are None outside the text model's stack.
    `attention` is the layer's kind: `full`, `sliding` or `linear`.
    """

    role: Role
    layer: int | None = None
    layers: int | None = None
    attention: str | None = None

    @property
    def expert(self) -> bool:
        return self.role in EXPERTS
