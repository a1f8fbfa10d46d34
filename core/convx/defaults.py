"""The engine's own hook implementations: what happens when no plugin speaks."""

from __future__ import annotations

from convx import hookimpl
from convx.export import Export, carry_all
from convx.options import Options
from convx.source import Source


@hookimpl
def convx_export_processor(source: Source, options: Options) -> Export:
    return carry_all(source, options)
