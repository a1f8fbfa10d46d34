"""convx convert: the main job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from convx.cli.options import planning, session_arguments, size
from convx.errors import UsageError


@click.command("convert", short_help="Convert a checkpoint.")
@click.argument("source", required=False)
@click.argument("out", required=False, type=click.Path(path_type=Path))
@click.option("--hf-path", "--model", "hf_path", help="mlx-lm's word for SOURCE.")
@click.option("--mlx-path", type=click.Path(path_type=Path), help="mlx-lm's word for OUT.")
@planning
@click.option("--jobs", type=click.IntRange(1, 256), help="Threads; two a processor if left out.")
@click.option(
    "--max-memory", callback=size, metavar="SIZE", default="512M", show_default=True, help="Bound on data in flight."
)
@click.option("--resume", is_flag=True, help="Go on with a stopped run, and fail if there is none.")
@click.option("--overwrite", is_flag=True, help="Replace what is in OUT.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors and results.")
@click.option("--log-json", is_flag=True, help="Progress as one JSON object a line, on stderr.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def command(**given: Any) -> None:  # noqa: ANN401
    """Convert SOURCE (a folder or Hub id; the current folder by default) to OUT.

    With several formats the source is read once, and each goes to OUT-FORMAT.
    """
    source, out = _paths(given)
    arguments = session_arguments(given)
    from convx.cli.output import print_plan, print_reports, watcher
    from convx.convert import convert
    from convx.session import open_session

    session = open_session(source, **arguments)
    target = out or _default_out(session.prepared.source.folder, session.plans[0].base.spec, len(session.plans))
    if given["dry_run"]:
        for plan in session.plans:
            print_plan(plan, as_json=given["as_json"])
        return
    with watcher(quiet=given["quiet"], log_json=given["log_json"]) as progress:
        progress.announce(session.plans, target, given["max_memory"])
        reports = convert(
            session, target, command=_command(arguments, session.prepared.source.name, target),
            jobs=given["jobs"], max_memory=given["max_memory"], overwrite=given["overwrite"],
            resume=given["resume"], progress=progress,
        )  # fmt: skip
    print_reports(reports, as_json=given["as_json"])


def _paths(given: dict[str, Any]) -> tuple[str, Path | None]:
    source, out = given.pop("source"), given.pop("out")
    hf_path, mlx_path = given.pop("hf_path"), given.pop("mlx_path")
    if source and hf_path:
        if out:
            raise UsageError("SOURCE is given twice", hint="leave --hf-path out")
        source, out = hf_path, Path(source)
    if out and mlx_path:
        raise UsageError("OUT is given twice", hint="leave --mlx-path out")
    return source or hf_path or ".", out or mlx_path


def _default_out(folder: Path, spec: str, outputs: int) -> Path:
    """Beside the source: NAME-FORMAT, or NAME for a family, whose members add their format themselves."""
    folder = folder.resolve()
    return folder.parent / (folder.name if outputs > 1 else f"{folder.name}-{spec.replace(':', '-')}")


def _command(arguments: dict[str, Any], source: str, out: Path) -> str:
    """The command line that makes the same output, in canonical order and without paths of this machine."""
    options = arguments["options"]
    words = ["convx", source, out.name]
    if arguments["arch"]:
        words += ["--arch", arguments["arch"]]
    if arguments["formats"]:
        words += ["--format", ",".join(arguments["formats"])]
    if arguments["recipe"]:
        recipe = arguments["recipe"]
        words += ["--recipe", Path(recipe).name if recipe.endswith(".toml") else recipe]
    for name, value in options.settings:
        words += ["--set", f"{name}={value}"]
    for pattern, spec in options.tensor_overrides:
        words += ["--tensor", f"{pattern}={spec}"]
    if options.dtype is not None:
        words += ["--dtype", options.dtype.name]
    for flag, value, usual in (
        ("--modality", options.modality, "all"),
        ("--mtp", options.mtp, "drop"),
        ("--shared-kv", options.shared_kv, "drop"),
    ):
        if value != usual:
            words += [flag, value]
    for target in options.target:
        words += ["--target", target]
    if options.imatrix:
        words += ["--imatrix", Path(options.imatrix).name]
    for name, value in options.generation:
        words += ["--generation", f"{name}={value}"]
    words += ["--requantize"] * options.requantize
    if options.base_model:
        words += ["--base-model", options.base_model]
    return shlex.join(words)
