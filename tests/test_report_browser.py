"""A report in a real browser: the table and the plots are there, legible, and nothing sticks out."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_runs import make_comparison

from learned_aggregation.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Shows a report in a frame of a given width and writes down what the browser made of it.
PROBE = """<!DOCTYPE html><title>no answer</title>
<iframe style="width:{width}px;height:800px;border:0" srcdoc="{page}" onload="
  const page = this.contentDocument, style = element => this.contentWindow.getComputedStyle(element);
  const boxes = list => [...page.querySelectorAll(list)].map(e => e.getBoundingClientRect());
  document.title = JSON.stringify({{
    wide: page.documentElement.scrollWidth,
    rows: boxes('tbody tr').filter(box => box.height > 0).length,
    best: boxes('td.best').length,
    plots: boxes('svg[role=img]').map(box => [box.width, box.height]),
    curves: boxes('svg[role=img] path').filter(box => box.width > 100 && box.height > 20).length,
    images: boxes('svg[role=img] image').filter(box => box.width > 50 && box.height > 50).length,
    letters: [...page.querySelectorAll('svg[role=img] text')].map(e => e.getBoundingClientRect().height),
    ink: style(page.querySelector('svg[role=img] text')).fill,
    line: style(page.querySelector('.legend path')).stroke,
    paper: style(page.body).backgroundColor,
  }})"></iframe>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report with everything in it."""
    return write_report(make_comparison(tmp_path_factory.mktemp("compare"), seeds=2, rounds=20))


def dump(path: Path, profile: Path, *flags: str) -> str:
    """The DOM of a page once it has loaded."""
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def probe(page: Path, tmp_path: Path, width: int, *flags: str) -> dict:
    """What the browser measures in a frame of that width."""
    wrapper = tmp_path / "probe.html"
    wrapper.write_text(PROBE.format(width=width, page=html.escape(page.read_text())))
    title = re.search(r"<title>(.*?)</title>", dump(wrapper, tmp_path / "profile", *flags), re.DOTALL)
    return json.loads(html.unescape(title[1]))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two `rgb(r, g, b)` colours, from 1 to 21 (WCAG 2.1, 1.4.3)."""
    lights = []
    for color in (one, other):
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_the_table_and_the_plots_are_in_the_page(page, tmp_path):
    dom = dump(page, tmp_path / "profile")
    table = re.search(r"<h2>Comparison</h2>.*?</table>", dom, re.DOTALL)[0]
    assert "fedlagg-adafac (quickstart)" in table
    assert "0.0610 ± 0.0040" in table
    labels = re.findall(r'<svg role="img" aria-label="([^"]*)"', dom)
    assert {"Test loss by rounds", "Test loss by bytes", "Classes by clients", "Meta loss"} <= set(labels)
    assert any(label.startswith("Outer valid loss by slowmo_learning_rate") for label in labels)


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible_on_any_screen(page, tmp_path, scheme, width):
    flags = [
        "--window-size=1300,900",
        f"--blink-settings=preferredColorScheme={['dark', 'light'].index(scheme)}",
    ]
    seen = probe(page, tmp_path, width, *flags)
    assert seen["wide"] == width  # the page itself does not scroll sideways
    assert seen["rows"] > 12
    assert seen["best"] > 10
    assert len(seen["plots"]) == 24
    assert all(300 <= w <= width and h > 150 for w, h in seen["plots"])
    assert seen["curves"] > 100
    assert seen["images"] == 2  # the heat maps of the sweep and the partition
    assert min(seen["letters"]) >= 7
    assert contrast(seen["ink"], seen["paper"]) > 7
    assert contrast(seen["line"], seen["paper"]) > 3
    assert contrast(seen["paper"], "rgb(255, 255, 255)" if scheme == "light" else "rgb(0, 0, 0)") < 1.3
