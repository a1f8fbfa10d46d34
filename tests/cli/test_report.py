"""`convx report`: one page that needs nothing else; what it holds, and how it behaves in a browser."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser

from convx.checkpoint import RECORD, read_record, write_record
from convx.cli import run

HOSTILE = (
    '</script><script>document.title = "caught"</script><img src=x onerror="document.title=1"> {{ 7 * 7 }} & \u2028'
)
needs_chromium = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


class Page(HTMLParser):
    """What a page holds: the text of its scripts and style, and every address in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.held: dict[str, list[str]] = {"script": [], "style": []}
        self.data = ""
        self.addresses: list[str] = []
        self.policy = ""
        self._at = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self._at = "data" if said.get("type") == "application/json" else tag
        self.addresses += [said[key] for key in ("src", "href", "srcset", "action") if said.get(key)]
        if said.get("http-equiv") == "Content-Security-Policy":
            self.policy = said["content"]
        assert not [key for key in said if key.startswith("on") or key == "style"]

    def handle_endtag(self, tag):
        self._at = ""

    def handle_data(self, data):
        if self._at == "data":
            self.data += data
        elif self._at in self.held:
            self.held[self._at].append(data)


def report(folder: Path, out: Path) -> Page:
    assert run(["report", str(folder), "-o", str(out)]) == 0
    return Page(out)


def with_hostile_words(folder: Path, to: Path) -> Path:
    """A copy whose every word is an attack on the page."""
    shutil.copytree(folder, to)
    record = read_record(to)
    record |= {"name": HOSTILE, "architecture": HOSTILE, "recipe": HOSTILE, "format": HOSTILE}
    for tensor in record["tensors"]:
        tensor |= {"reason": HOSTILE, "role": HOSTILE, "format": HOSTILE, "name": f"{HOSTILE}.{tensor['name']}"}
    write_record(to, record)
    return to


def grown(folder: Path, to: Path, layers: int) -> Path:
    """A record with the first layer's tensors repeated, and an error for each."""
    record = read_record(folder)
    own = [t for t in record["tensors"] if ".layers.0." in t["name"]]
    for layer in range(1, layers):
        for tensor in copy.deepcopy(own):
            record["tensors"].append(tensor | {"name": tensor["name"].replace(".0.", f".{layer}.", 1), "layer": layer})
    rows = [{"name": t["name"], "role": t["role"], "layer": t["layer"], "elements": 8, "relative_error": 1 / (2 + i)}
            for i, t in enumerate(record["tensors"])]  # fmt: skip
    record["measurements"] = {"tensors": [{"settings": {}, "values": {"tensors": rows}}]}
    to.mkdir()
    write_record(to, record)
    return to


def test_every_tensor_is_in_it_with_its_decision(converted, tmp_path):
    page = report(converted("gemma4-moe"), tmp_path / "page.html")
    told = json.loads(page.data)
    rows = {row[0]: dict(zip(told["columns"], row, strict=True)) for row in told["rows"]}
    for tensor in read_record(converted("gemma4-moe"))["tensors"]:
        row = rows[tensor["name"]]
        for key in ("role", "layer", "format", "bits", "bytes", "reason", "by", "shape", "source"):
            assert row[key] == tensor[key]
        assert row["error"] is None


def test_it_asks_for_nothing_outside_itself(converted, tmp_path):
    page = report(converted("gemma4-moe"), tmp_path / "page.html")
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert sum(address.startswith("data:image/svg+xml") for address in page.addresses) == 4
    for kind in ("script", "style"):
        digest = base64.b64encode(sha256("".join(page.held[kind]).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none'")


def test_without_matplotlib_it_shows_what_lies_in_the_folder(converted, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(converted("gemma4-moe"), tmp_path / "model"))
    monkeypatch.setattr("convx.report_page.find_spec", lambda name: None)
    assert not any(a.startswith("data:image") for a in report(folder, tmp_path / "none.html").addresses)
    assert run(["card", str(folder), "--pictures"]) == 0
    assert sum(a.startswith("data:image") for a in report(folder, tmp_path / "some.html").addresses) == 4


def test_hostile_words_are_inert(converted, tmp_path):
    folder = with_hostile_words(converted("gemma4-moe"), tmp_path / "model")
    page = report(folder, tmp_path / "page.html")
    assert len(page.held["script"]) == 1 and "caught" not in page.held["script"][0]
    assert json.loads(page.data)["rows"][0][0].startswith(HOSTILE)
    assert not re.search("<img src=x", (tmp_path / "page.html").read_text())


def test_a_checkpoint_that_convx_did_not_make(converted, tmp_path, capsys):
    folder = Path(shutil.copytree(converted("gemma4-moe"), tmp_path / "model"))
    (folder / RECORD).unlink()
    assert run(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model-report.html")
    assert "as stored" in Page(tmp_path / "model-report.html").data


def test_where_it_cannot_be_written(converted, tmp_path, capsys):
    assert run(["report", str(converted("gemma4-moe")), "-o", str(tmp_path / "no" / "page.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err


# ---------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def many_tensors(converted, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    report(grown(converted("gemma4-moe"), folder / "model", 150), folder / "page.html")
    return folder / "page.html"


FOCUSED = "document.activeElement.textContent"
ROWS = "[...document.querySelectorAll('.body .row')].map(row => row.firstChild.textContent)"


class TestInChromium:
    pytestmark = needs_chromium

    @pytest.fixture(autouse=True)
    def opened(self, browser, many_tensors):
        self.page = browser
        browser.open(many_tensors)
        yield
        assert browser.complaints == []
        assert {url.partition(":")[0] for url in browser.requests} <= {"file", "data"}

    def test_the_keyboard_alone_is_enough(self):
        ask, press = self.page.ask, self.page.press
        press("Tab")
        assert ask(FOCUSED) == "Skip to the tensors"
        press("Enter")
        assert ask("document.activeElement.id") == "tensors"
        ask("document.querySelector('.body [tabindex=\"0\"]').focus()")
        press("Home")
        first = ask(FOCUSED)
        while (opened := ask("document.activeElement.getAttribute('aria-expanded')")) is None:
            press("ArrowDown")
        parent = ask(FOCUSED)
        press("ArrowLeft" if opened == "true" else "ArrowRight")
        assert ask("document.activeElement.getAttribute('aria-expanded')") != opened
        press("ArrowLeft", "ArrowRight", "ArrowRight")
        assert ask("document.activeElement.getAttribute('aria-level')") == "2"
        assert ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        press("ArrowLeft")
        assert ask(FOCUSED) == parent
        press("End", "Home")
        assert ask(FOCUSED) == first

    def test_enter_tells_all_about_a_tensor_and_escape_goes_back(self):
        ask, press = self.page.ask, self.page.press
        ask("document.getElementById('flat').click()")
        ask("document.querySelector('.body [tabindex=\"0\"]').focus()")
        press("Enter")
        assert ask("document.activeElement.id") == "about"
        assert ask("document.querySelector('#about h3').textContent") == ask(f"{ROWS}[0]")
        assert "decided by" in ask("document.getElementById('about').textContent")
        press("Escape")
        assert ask("document.getElementById('about').hidden") is True
        assert ask("document.activeElement.getAttribute('aria-posinset')") == "1"

    def test_thousands_of_tensors_are_sorted_and_filtered_at_once(self):
        ask = self.page.ask
        many = ask("JSON.parse(document.getElementById('data').textContent).rows.length")
        assert many > 2000
        took = ask(
            "(() => { const start = performance.now(); document.getElementById('expand').click();"
            "document.body.offsetHeight; return performance.now() - start; })()"
        )
        assert took < 2000
        assert ask("document.querySelectorAll('.body .row').length") > many
        ask("document.getElementById('flat').click()")
        ask("document.querySelector('[data-key=error] button').click()")
        assert ask("document.querySelector('[data-key=error]').getAttribute('aria-sort')") == "descending"
        errors = ask("[...document.querySelectorAll('.body .error')].map(cell => parseFloat(cell.textContent))")
        assert errors == sorted(errors, reverse=True)
        self.page.ask("document.getElementById('words').focus()")
        self.page.type("layers.149. router")
        ask("new Promise(done => setTimeout(done, 400))")
        names = ask(ROWS)
        assert names and all(".layers.149." in name for name in names)
        assert ask("document.getElementById('count').textContent") == f"{len(names)} of {many} tensors"

    def test_it_fits_narrow_windows_and_dark_ones(self, many_tensors):
        self.page.open(many_tensors, width=360, height=700, dark=True)
        assert self.page.ask("document.documentElement.scrollWidth") <= 360
        assert self.page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"

    def test_hostile_words_stay_words(self, converted, tmp_path):
        folder = with_hostile_words(converted("gemma4-moe"), tmp_path / "model")
        report(folder, tmp_path / "hostile.html")
        self.page.open(tmp_path / "hostile.html")
        title = " ".join(f"{HOSTILE}: report".split())
        assert self.page.ask("document.title").split() == title.split()
        assert self.page.ask("document.querySelectorAll('script').length") == 2
        assert self.page.ask("document.querySelectorAll('img[onerror]').length") == 0
        assert "onerror" in self.page.ask("document.querySelector('.body').textContent")
