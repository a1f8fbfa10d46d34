"""Ask a checkpoint through mlx_vlm.server, streaming `/v1/responses` on the loopback address."""

from __future__ import annotations

import base64
import json
import mimetypes
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError

from convx.errors import MeasureError
from convx.measure.probes import Ask, Piece, Probe, watch
from convx.measure.steps import Steps

START_SECONDS = 600.0
ANSWER_SECONDS = 600.0
_FIRST_WAIT = 0.2


def probe_server(path: Path, asks: list[Ask], max_tokens: int, steps: Steps) -> list[Probe]:
    """Start a server of its own for this checkpoint, ask it, and stop it whatever happens."""
    started = time.perf_counter()
    with serving(path) as url:
        probes = [Probe("load", True, time.perf_counter() - started)]
        steps.advance()
        for ask in asks:
            probes.append(watch(ask, lambda a: answer(url, path, a, max_tokens), lambda a: ""))
            steps.advance()
        started = time.perf_counter()
    probes.append(Probe("unload", True, time.perf_counter() - started))
    steps.advance()
    return probes


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """A server on a free port of 127.0.0.1; gives its address once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "mlx_vlm.server", "--model", str(path), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_up(f"http://127.0.0.1:{port}", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(server)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(server: subprocess.Popen[Any]) -> None:
    """End a process: politely, then not."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _wait_until_up(url: str, server: subprocess.Popen[Any], log: IO[str]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            log.seek(0)
            last = log.read().strip().splitlines()[-3:]
            raise MeasureError(f"mlx_vlm.server ended with code {server.returncode}: {' / '.join(last)[-500:]}")
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(_FIRST_WAIT)
    raise MeasureError(f"mlx_vlm.server did not answer within {START_SECONDS:.0f} s")


def answer(url: str, path: Path, ask: Ask, max_tokens: int) -> Iterator[Piece]:
    """The pieces of a streamed response; the last carries its status and usage."""
    body = {"model": str(path), "input": _input(ask), "stream": True, "max_output_tokens": max_tokens, "temperature": 0}
    request = urllib.request.Request(
        f"{url}/v1/responses", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as stream:
            for line in stream:
                if line.startswith(b"data: {"):
                    yield from _pieces(json.loads(line[len(b"data: ") :]))
    except HTTPError as error:
        raise RuntimeError(f"HTTP {error.code}: {error.read(300).decode(errors='replace')}") from error


def _input(ask: Ask) -> Any:  # noqa: ANN401
    if ask.image is None:
        return ask.text
    kind = mimetypes.guess_type(ask.image.name)[0] or "image/png"
    data = base64.b64encode(ask.image.read_bytes()).decode()
    parts = [
        {"type": "input_text", "text": ask.text},
        {"type": "input_image", "image_url": f"data:{kind};base64,{data}"},
    ]
    return [{"role": "user", "content": parts}]


def _pieces(event: dict[str, Any]) -> Iterator[Piece]:
    kind = event.get("type", "")
    if kind == "response.output_text.delta":
        yield Piece(event.get("delta", ""))
    elif kind == "response.reasoning_text.delta":
        yield Piece("", event.get("delta", ""))
    elif kind in {"response.completed", "response.incomplete"}:
        response = event.get("response") or {}
        reason = (response.get("incomplete_details") or {}).get("reason")
        tokens = (response.get("usage") or {}).get("output_tokens", 0)
        yield Piece("", stop_reason="stop" if kind.endswith("completed") else reason or "length", tokens=tokens)
    elif kind in {"response.failed", "error"}:
        raise RuntimeError(str((event.get("response") or event).get("error")))
