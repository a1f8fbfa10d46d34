"""The model card: facts from `convx.json`, sections from plugins, one Jinja template. No number comes from elsewhere."""

from __future__ import annotations

import math
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from convx.checkpoint import read_record
from convx.errors import ConvxError

if TYPE_CHECKING:
    from convx.plugins import Hooks

CARD = "README.md"


@dataclass(frozen=True)
class Section:
    """Markdown under a title. Sections of one title, from several plugins, are joined."""

    title: str
    body: str


@dataclass(frozen=True)
class RoleRow:
    """All tensors of one role: how many, how large, in which formats, and why."""

    role: str
    tensors: int
    parameters: int
    share: float
    specs: tuple[str, ...]
    bytes: int
    reasons: tuple[str, ...]

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.bytes / max(1, self.parameters)


@dataclass(frozen=True)
class Facts:
    """The record of a checkpoint, and what follows from it by arithmetic."""

    record: dict[str, Any]

    @property
    def tensors(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.record["tensors"]
        return found

    @cached_property
    def roles(self) -> frozenset[str]:
        return frozenset(t["role"] for t in self.tensors)

    def lowest_bits(self, *roles: str) -> int | None:
        """Fewest bits of any quantized tensor in these roles, or None when there is none."""
        return min((t["bits"] for t in self.tensors if t["role"] in roles and t["mode"]), default=None)

    def dropped_because(self, words: str) -> int:
        """How many source tensors were dropped for a reason that has these words."""
        return sum(words in d["reason"] for d in self.record["dropped"])

    @cached_property
    def by_role(self) -> tuple[RoleRow, ...]:
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for tensor in self.tensors:
            groups[tensor["role"]].append(tensor)
        rows = [_role_row(role, members, self.record["parameters"]) for role, members in groups.items()]
        return tuple(sorted(rows, key=lambda r: -r.parameters))

    @cached_property
    def by_spec(self) -> tuple[RoleRow, ...]:
        """The same rows, gathered by format instead of by role: the tiers of the model."""
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for tensor in self.tensors:
            groups[tensor["format"]].append(tensor)
        rows = [_role_row(spec, members, self.record["parameters"]) for spec, members in groups.items()]
        return tuple(sorted(rows, key=lambda r: r.bits_per_weight))


def _role_row(role: str, members: list[dict[str, Any]], total: int) -> RoleRow:
    parameters = sum(math.prod(t["shape"]) for t in members)
    reasons = dict.fromkeys(t["reason"] for t in members)
    return RoleRow(
        role, len(members), parameters, parameters / max(1, total), tuple(dict.fromkeys(t["format"] for t in members)),
        sum(t["bytes"] for t in members), tuple(reasons),
    )  # fmt: skip


def gather_sections(facts: Facts, hooks: Hooks) -> dict[str, str]:
    """Sections that plugins give, by title; bodies of one title joined in the order they were given."""
    merged: dict[str, list[str]] = {}
    for section in hooks.render_card(facts):
        merged.setdefault(section.title, []).append(section.body.strip())
    return {title: "\n".join(dict.fromkeys(bodies)) for title, bodies in merged.items()}


_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")


def escape_markdown(text: str) -> str:
    """Text that renders as itself wherever Markdown stands, tables included."""
    return _MARKDOWN.sub(r"\\\1", re.sub(r"\s+", " ", text)).replace("\\<", "&lt;").replace("\\>", "&gt;")


def fence(text: str) -> str:
    """Text for inside a fenced block: nothing in it can close the fence."""
    return re.sub(r"`{3,}", "'''", text)


def gigabytes(nbytes: float) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.2f} MB"


def billions(count: float) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e8 else f"{count / 1e6:.2f} M"


def render(facts: Facts, hooks: Hooks, template: str | Path | None = None) -> str:
    """The card's Markdown.

    `template` is a Jinja file of one's own, which may extend `card.md.j2`, or a `card.toml`: a table `[sections]`
    of title = Markdown that is added or, under a title that is there already, put in its place. Raises
    ConvxError when either is not sound or names a fact that is not there.
    """
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment
    from markupsafe import Markup

    import convx_templates

    sections = gather_sections(facts, hooks)
    if template is not None and Path(template).suffix == ".toml":
        sections |= read_sections(Path(template))
        template = None
    loaders: list[jinja2.BaseLoader] = [jinja2.PackageLoader("convx_templates", "")]
    if template is not None:
        loaders.insert(0, jinja2.FileSystemLoader(Path(template).resolve().parent))
    env = SandboxedEnvironment(
        loader=jinja2.ChoiceLoader(loaders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda v: escape_markdown(v) if isinstance(v, str) and not isinstance(v, Markup) else v,
    )
    env.filters.update(
        gb=gigabytes,
        billions=billions,
        fence=lambda text: Markup(fence(str(text))),
        raw=lambda text: Markup(str(text)),
        url=lambda text: Markup(quote(str(text), safe="/")),
    )
    hooks.jinja_environment(env)
    name = Path(template).name if template else convx_templates.CARD
    try:
        body = env.get_template(name).render(
            facts=facts,
            record=facts.record,
            sections=sections,
            pictures=_pictures(facts),
            front_matter=front_matter(facts),
        )
    except jinja2.TemplateError as error:
        raise ConvxError(f"the card's template {name}: {error}", hint="see docs: model cards") from error
    return re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


def _pictures(facts: Facts) -> str:
    if not facts.record.get("pictures"):
        return ""
    from convx.pictures import Picture, picture_markdown

    return picture_markdown([Picture(**entry) for entry in facts.record["pictures"]])


def read_sections(path: Path) -> dict[str, str]:
    """The `[sections]` of a `card.toml`: title -> Markdown, taken as it is, for it is the publisher's own."""
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8")).get("sections", {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConvxError(f"{path}: not readable as TOML: {error}") from None
    if not isinstance(sections, dict) or not all(isinstance(body, str) for body in sections.values()):
        raise ConvxError(f"{path}: [sections] must be a table of title = text")
    return sections


def front_matter(facts: Facts) -> str:
    """The YAML block for the Hub, through huggingface_hub's own class."""
    from huggingface_hub import ModelCardData

    record = facts.record
    given = {
        "library_name": "mlx",
        "pipeline_tag": "image-text-to-text" if record["multimodal"] else "text-generation",
        "base_model": record["base_model"],
        "license": record["license"],
        "language": record["language"],
        "tags": list(_tags(record)),
    }
    if record["base_model"]:
        given["base_model_relation"] = "quantized"
    if record.get("license_link"):
        given["license_link"] = record["license_link"]
    data = ModelCardData(**{k: v for k, v in given.items() if v})
    return str(data.to_yaml()).rstrip() + "\n"


def _tags(record: dict[str, Any]) -> Iterable[str]:
    yield "mlx"
    yield "convx"
    modes = {t["mode"] for t in record["tensors"] if t["mode"]}
    yield from sorted(modes)


def write_card(folder: Path, hooks: Hooks, template: str | Path | None = None) -> Path:
    """Render the card of a checkpoint from its record, in place of the one that is there."""
    text = render(Facts(read_record(folder)), hooks, template)
    partial = folder / f".{CARD}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / CARD)
    return folder / CARD
