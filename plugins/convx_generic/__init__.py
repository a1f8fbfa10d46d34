"""Any architecture that the installed mlx-vlm or mlx-lm can load, through its own class and `sanitize`.

The price is one tensor in memory at a time, and coarser knowledge: roles are read off common names, and
floors are the model's own `quant_predicate`.
"""

from __future__ import annotations

from convx import Config, Floor, Options, Placement, Tensor, TensorInfo, hookimpl
from convx_generic import names


@hookimpl
def convx_detect(config: Config) -> float | None:
    from convx_generic.models import is_known

    return 0.1 if is_known(config) else None


@hookimpl
def convx_sanitize_weights(weights: dict[str, Tensor], config: Config, options: Options) -> dict[str, Tensor]:
    from convx_generic.models import sanitize

    return sanitize(weights, config)


@hookimpl
def convx_explain_tensor(name: str) -> str | None:
    return "left out by the model's own sanitize"


@hookimpl
def convx_tensor_role(name: str, config: Config) -> Placement:
    return names.place(name, config)


@hookimpl
def convx_tensor_floor(tensor: TensorInfo, config: Config) -> Floor | None:
    from convx_generic.models import floor

    return floor(tensor, config)
