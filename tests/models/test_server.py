"""mlx_vlm.server streams answers of converted models."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from support import MODELS

QUICK = "gemma4-moe"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(path):
    port = free_port()
    command = [sys.executable, "-m", "mlx_vlm.server", "--model", str(path), "--port", str(port), "--host", "127.0.0.1"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}", server
        finally:
            server.terminate()
            server.wait(20)


def wait_until_up(url: str, server, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert server.poll() is None, "the server ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
            return
        time.sleep(0.3)
    raise AssertionError("the server did not come up")


def stream(url: str, path) -> list[dict]:
    body = {"model": str(path), "input": "hello", "stream": True, "max_output_tokens": 4}
    request = urllib.request.Request(
        f"{url}/v1/responses", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        lines = [line.decode().strip() for line in answer]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


@pytest.mark.parametrize("model", [pytest.param(m, marks=() if m == QUICK else pytest.mark.slow) for m in MODELS])
def test_server_streams_a_response(converted, model):
    path = converted(model, "hub", "mxfp8" if model == "gemma4-e4b" else "nvfp4")
    with serving(path) as (url, server):
        wait_until_up(url, server)
        events = stream(url, path)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "response.created"
    assert any(kind.endswith("text.delta") for kind in kinds)
    assert kinds[-1] in {"response.completed", "response.incomplete"}  # four tokens are seldom the end
