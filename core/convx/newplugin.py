"""`convx plugins new`: the folder of a plugin package that passes its tests from the first minute."""

from __future__ import annotations

import re
from pathlib import Path

from convx.errors import UsageError, WriteError

FILES = {
    "pyproject.toml": "pyproject.toml.j2",
    "README.md": "README.md.j2",
    "src/{module}/__init__.py": "init.py.j2",
    "src/{module}/architecture.py": "architecture.py.j2",
    "src/{module}/format.py": "format.py.j2",
    "tests/conftest.py": "conftest.py.j2",
    "tests/test_conformance.py": "test_conformance.py.j2",
}


def make_plugin(name: str, into: Path) -> Path:
    """Write a new plugin package `name` (a distribution's name) into a folder of that name."""
    import jinja2

    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise UsageError(
            f"{name!r} is not a name for a package", hint="use small letters, digits and dashes: convx-mine"
        )
    folder = into / name
    if folder.exists() and any(folder.iterdir()):
        raise WriteError(f"{folder}: is not empty", hint="choose another name")
    module = name.replace("-", "_")
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("convx_templates", "plugin"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    word = name.removeprefix("convx-").replace("-", "")
    for path, template in FILES.items():
        target = folder / path.format(module=module)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(env.get_template(template).render(name=name, module=module, word=word), encoding="utf-8")
    return folder
