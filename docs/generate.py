"""Write the pages of the reference that are generated: hooks, command line. `make docs` runs it; a test compares.

python docs/generate.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import click

from convx import hookspecs
from convx.cli.root import COMMANDS, cli

HERE = Path(__file__).parent
PHASES = re.compile(r"^# -+ (\w+)$", re.M)


def hooks_page() -> str:
    source = Path(hookspecs.__file__).read_text()
    lines = [
        "# Hooks",
        "",
        "Generated from `convx/hookspecs.py` by `make docs`.",
        "",
        inspect.getdoc(hookspecs) or "",
        "",
    ]
    for piece in PHASES.split(source)[1:]:
        if re.fullmatch(r"\w+", piece):
            lines += [f"## Phase: {piece}", ""]
            continue
        for name in re.findall(r"^def (convx_\w+)", piece, re.M):
            lines += _hook(name)
    return "\n".join(lines).rstrip() + "\n"


def _hook(name: str) -> list[str]:
    spec = hookspecs.HOOKS[name]
    signature = inspect.signature(spec)
    arguments = ", ".join(f"{p.name}: {p.annotation}" for p in signature.parameters.values())
    returns = signature.return_annotation
    used = sorted(p.parent.name for p in (HERE.parent / "plugins").glob("*/__init__.py") if name in p.read_text())
    users = f"Implemented by: {', '.join(f'`{u}`' for u in used)}." if used else ""
    return [f"### `{name}({arguments}) -> {returns}`", "", inspect.getdoc(spec) or "", "", users, ""]


def cli_page() -> str:
    lines = ["# Command line", "", "Generated from the commands' own help by `make docs`.", ""]
    ctx = click.Context(cli, info_name="convx", terminal_width=100)
    lines += ["```text", cli.get_help(ctx), "```", ""]
    for name in COMMANDS:
        command = cli.get_command(ctx, name)
        assert command is not None
        sub = click.Context(command, info_name=name, parent=ctx, terminal_width=100)
        lines += [f"## convx {name}", "", "```text", command.get_help(sub), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


PAGES = {"hooks.md": hooks_page, "cli.md": cli_page}


def main() -> int:
    stale = [name for name, page in PAGES.items() if not _is(HERE / "reference" / name, page())]
    if "--check" in sys.argv:
        print("\n".join(f"stale: docs/reference/{name}" for name in stale))
        return bool(stale)
    (HERE / "reference").mkdir(exist_ok=True)
    for name in stale:
        (HERE / "reference" / name).write_text(PAGES[name]())
        print(f"wrote docs/reference/{name}")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
