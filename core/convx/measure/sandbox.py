"""Run code that a model wrote, where it can reach neither the network nor anyone's files; or not at all.

On Linux: namespaces of its own for users, mounts, processes and network, a root that holds the Python installation
read-only and nothing else, no capabilities, limits on time, memory and files. Before any code is run, a probe tries to
get out; if it can, or if there is no sandbox (elsewhere than on Linux there is none), all is refused.
"""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from convx.errors import MeasureError

SECONDS = 10
MEMORY_BYTES = 1 << 30
FILE_BYTES = 1 << 20
_TOOLS = ("unshare", "mount", "pivot_root", "setpriv", "sh")
_PYTHON_PARTS = ("/usr", "/bin", "/lib", "/lib64")

_LAUNCHER = f"""\
import resource as r, sys
for kind, limit in ((r.RLIMIT_CPU, {SECONDS}), (r.RLIMIT_FSIZE, {FILE_BYTES}), (r.RLIMIT_NOFILE, 64),
                    (r.RLIMIT_CORE, 0), (r.RLIMIT_AS, {MEMORY_BYTES}), (r.RLIMIT_NPROC, 64)):
    r.setrlimit(kind, (limit, limit))
code = sys.stdin.read()
exec(compile(code, "answer", "exec"), {{"__name__": "__main__"}})
"""

# $1 the new root, $2 python, $3 the launcher, then the folders to show in it. umount(8) needs /proc, which is not
# there, so the old root is let go by the system call: MNT_DETACH is 2.
_LINUX = """\
set -e
root=$1; python=$2; launcher=$3; shift 3
mount -t tmpfs -o size=64m,mode=755,nosuid,nodev tmpfs "$root"
for part; do
  [ -d "$part" ] || continue
  mkdir -p "$root$part"
  mount --rbind "$part" "$root$part"
  mount -o remount,bind,ro,nosuid,nodev "$root$part"
done
mkdir -p "$root/tmp" "$root/.old"
cd "$root"
pivot_root . .old
cd /tmp
"$python" -I -S -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).umount2(b"/.old", 2) != 0)'
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$python" -I -S -c "$launcher"
"""

_PROBE = """\
import socket
out = []
try:
    socket.create_connection(("127.0.0.1", {port}), 2); out.append("network")
except OSError: pass
try:
    open({secret!r}).read(); out.append("read")
except OSError: pass
try:
    open({target!r}, "w").write("x"); out.append("write")
except OSError: pass
print("inside", *out)
"""


@dataclass(frozen=True)
class Outcome:
    """How a program ended: `passed` means exit code 0 in time."""

    passed: bool
    timed_out: bool
    output: str


def run_sandboxed(code: str, seconds: float = SECONDS) -> Outcome:
    """Run a Python program. Raises MeasureError when this machine offers no sandbox that holds."""
    why = refusal()
    if why is not None:
        raise MeasureError(
            f"code that a model wrote is not run here: {why}",
            hint="run it on Linux with user namespaces, or leave it out",
        )
    return _run(code, seconds)


@cache
def refusal() -> str | None:
    """Why nothing can be run safely on this machine, or None: found by trying to get out of the sandbox."""
    if platform.system() != "Linux":
        return "the sandbox needs Linux"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"no {', '.join(missing)}"
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryDirectory(dir=Path.home()) as home:
        secret = Path(home) / "secret"
        secret.write_text("x")
        port = listener.getsockname()[1]
        probe = _PROBE.format(port=port, secret=str(secret), target=str(Path(home) / "written"))
        said = _run(probe, SECONDS).output.strip()
    if not said.startswith("inside"):
        return f"the sandbox does not start ({said.splitlines()[-1][:200] if said else 'no output'})"
    reached = said.split()[1:]
    return f"the sandbox lets through: {', '.join(reached)}" if reached else None


def _run(code: str, seconds: float) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="convx-sandbox-") as scratch:
        try:
            done = subprocess.run(
                _command(scratch), input=code, capture_output=True, text=True, errors="replace", timeout=seconds,
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}, cwd=scratch, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Outcome(False, True, "")
        return Outcome(done.returncode == 0, False, (done.stdout + done.stderr)[-4000:])


def _command(scratch: str) -> list[str]:
    python = str(Path(sys.executable).resolve())
    prefix = str(Path(sys.base_prefix).resolve())
    parts = dict.fromkeys((*_PYTHON_PARTS, prefix, str(Path(python).parent)))
    isolate = ["--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    return ["unshare", *isolate, "sh", "-c", _LINUX, "sh", scratch, python, _LAUNCHER, *parts]
