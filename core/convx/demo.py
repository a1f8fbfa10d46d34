"""The whole road on a tiny real checkpoint: make it, convert it, load it with the stock loader, generate, verify."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

from convx.convert import convert
from convx.session import open_session
from convx.testing.tiny import make_image, make_tiny
from convx.verify import verify

PROMPT = "Describe this image."


def run_demo(folder: Path, say: Callable[[str], None], *, fmt: str = "nvfp4") -> Path:
    """Run the demo in `folder` (its `source` and `gemma4-FORMAT` are made anew); gives the card's path."""
    source, out = folder / "source", folder / f"gemma4-{fmt}"
    for path in (source, out):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    say("make     a tiny Gemma 4 MoE checkpoint, random weights, as the Hub has the real one")
    make_tiny(source, "gemma4-moe")
    say(f"convert  convx {source} {out} --arch gemma4 --format {fmt}")
    session = open_session(source, arch="gemma4", formats=(fmt,))
    report = convert(session, out, command=f"convx source {out.name} --arch gemma4 --format {fmt}")[0]
    plan = report.plan
    say(f"         {plan.total_bytes:,} bytes, {plan.bits_per_weight:.3f} bits per weight, {report.seconds:.1f} s")
    verdict = verify(out)
    verdict.require()
    say(f"verify   ok; loads strictly in {' and '.join(verdict.loaders)}")
    say(f"generate {_generate(out, folder)!r}  (random weights: tokens, not sense)")
    say(f"card     {out / 'README.md'}")
    return out / "README.md"


def _generate(out: Path, folder: Path) -> str:
    """Some tokens from text and an image, through stock mlx-vlm."""
    from mlx_vlm import generate, load
    from mlx_vlm.prompt_utils import apply_chat_template

    image = make_image(folder / "image.png", (64, 48))
    with contextlib.redirect_stdout(io.StringIO()):
        model, processor = load(str(out))
        prompt = apply_chat_template(processor, model.config, PROMPT, num_images=1)
        result = generate(model, processor, prompt, image=[str(image)], max_tokens=8, verbose=False)
    return str(result.text)
