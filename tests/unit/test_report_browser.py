"""Pages of reports in headless Chromium at three widths, light and dark: nothing sticks out, no plot is blank."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from report_runs import OUT_OF_MEMORY, make_run

from chord_exp.report.figures.summary import look
from chord_exp.report.page.html import render
from chord_exp.report.read.folders import find_runs
from chord_exp.report.read.runs import read_runs
from chord_exp.run_files.record import FAILED

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# widths of the frames on a picture; the last one runs no script
WIDTHS, HEIGHT = (360, 800, 1400, 700), 4000
# of the page's own documents: how far each is wider than its frame, and where its plots are on the picture
MEASURE = """
addEventListener("load", () => setTimeout(() => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, at = frame.getBoundingClientRect();
    const shown = [...page.querySelectorAll(".plot svg, .canvas canvas, .rows svg, .parallel svg")];
    const plots = shown.filter(one => one.checkVisibility()).map(one => {
      const box = one.getBoundingClientRect(), title = one.closest("figure").innerText;
      return [title, box.left + at.left, box.top + at.top, box.width, box.height];
    });
    const canvases = page.querySelectorAll("canvas").length;
    return {over: page.documentElement.scrollWidth - page.documentElement.clientWidth, plots, canvases};
  });
  document.body.append(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(found)}));
}, 2000));
"""

# what a page's charts show after its controls are used, and under the pointer
USE = """
const later = act => setTimeout(act, 1000);
addEventListener("load", () => later(() => {
  const page = document.querySelector("iframe").contentWindow, found = {};
  const controls = page.document.querySelector(".controls");
  const [figure] = page.document.querySelectorAll("figure.live");
  const choose = (name, value) => {
    controls[name].value = value;
    controls.dispatchEvent(new page.Event("change"));
    return figure.live;
  };
  const spread = column => {
    const values = column.filter(value => value !== null);
    return Math.max(...values) - Math.min(...values);
  };
  for (const axis of ["samples", "flops", "seconds", "step"]) found[axis] = choose("axis", axis).data[0].at(-1);
  for (const smooth of ["0", "12", "1"]) found["smooth" + smooth] = choose("smooth", smooth).data.slice(1).map(spread);
  later(() => {
    figure.live.setCursor({left: figure.live.valToPos(30, "x"), top: 20});
    found.title = figure.querySelector("figcaption").innerText;
    found.out = figure.querySelector(".out").innerText;
    document.body.append(Object.assign(document.createElement("pre"), {textContent: JSON.stringify([found])}));
  });
}));
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def chromium(folder: Path, page: Path, *flags: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *flags]
    # as if so many milliseconds had passed
    command += ["--virtual-time-budget=8000"]
    command += [f"--window-size={sum(WIDTHS)},{HEIGHT}", f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    make_run(root / "one", 60, status=FAILED, error=OUT_OF_MEMORY)
    overrides = {"model.path": "a/very/long/path/to/a/model/that/does/not/break/anywhere_at_all_in_a_line"}
    for number, (peak, seed) in enumerate((peak, seed) for peak in (0.1, 0.3, 0.6) for seed in (1, 2)):
        given = [*(f"{key}={value}/{peak}" for key, value in overrides.items()), f"mu_peak={peak}", f"lr={peak / 100}"]
        make_run(root / "sweep" / str(number), 40, seed=seed, peak=peak, overrides=given)
    return {name: render(look(read_runs(find_runs([root / name])))) for name in ("one", "sweep")}


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("name", ["one", "sweep"])
def test_nothing_sticks_out_and_no_plot_is_blank(pages, tmp_path, name, scheme):
    frame = '<iframe {} style="border:0;float:left" width={} height={} srcdoc="{}"></iframe>'
    still = 'sandbox="allow-same-origin"'
    kinds = zip(WIDTHS, ("", "", "", still), strict=True)
    frames = "".join(frame.format(kind, width, HEIGHT, html.escape(pages[name])) for width, kind in kinds)
    page, picture = tmp_path / "frames.html", tmp_path / "picture.png"
    page.write_text(
        f'<meta charset="utf-8"><body style="margin:0">{frames}<script>{MEASURE}</script>', encoding="utf-8"
    )
    colours = f"--blink-settings=preferredColorScheme={('dark', 'light').index(scheme)}"
    dom = chromium(tmp_path, page, colours, "--dump-dom")
    chromium(tmp_path, page, colours, f"--screenshot={picture}")
    pixels = matplotlib.image.imread(picture)[..., :3]
    ground = pixels[2, 2].mean()
    assert ground < 0.3 if scheme == "dark" else ground > 0.9

    measured = json.loads(html.unescape(re.findall(r"<pre>(\[\{.*?)</pre></body>", dom, re.DOTALL)[-1]))
    for width, found in zip(WIDTHS, measured, strict=True):
        assert found["over"] == 0, f"{width} wide: {found['over']} too wide"
        assert len(found["plots"]) > 10
        assert (found["canvases"] > 0) == (width != WIDTHS[-1])
        for title, left, top, wide, high in found["plots"]:
            assert wide > 0.4 * min(width, 400) and high > 20, title
            if top + high > HEIGHT:
                continue
            # grey is the grid; a curve has a colour
            inside = pixels[int(top) : int(top + high), int(left) : int(left + wide)]
            coloured = np.ptp(inside, axis=2) > 0.2
            assert coloured.sum() > 20, f"blank at {width}: {title}"


def test_charts_can_be_drawn_over_other_axes_smoothed_and_asked_for_lines(tmp_path):
    run = make_run(tmp_path / "run", 60, composed={"model": {"parameters_b": 0.001}})
    page = tmp_path / "frame.html"
    text = html.escape(render(look(read_runs([run]))))
    page.write_text(
        f'<meta charset="utf-8"><iframe width=1000 height=2000 srcdoc="{text}"></iframe><script>{USE}</script>',
        encoding="utf-8",
    )
    dom = chromium(tmp_path, page, "--dump-dom")
    (found,) = json.loads(html.unescape(re.findall(r"<pre>(\[\{.*?)</pre></body>", dom, re.DOTALL)[-1]))
    assert found["title"] == "Rollout reward"
    assert (found["step"], found["samples"]) == (60, 60 * 64)
    assert found["seconds"] == pytest.approx(2 * 60, abs=2)
    # 4,000 tokens a step, three quarters of its rows rollouts
    assert found["flops"] == pytest.approx(60 * 4000 * 1e6 * (6 + 2 * 0.75))
    (alone,), (raw, mean), (raw_too, smoother) = (found[f"smooth{width}"] for width in (0, 1, 12))
    assert alone == raw == raw_too and smoother < mean < raw
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    value, line = re.findall(r"each step \(thin\) (\S+) \(line (\d+)\)", found["out"])[0]
    assert found["out"].startswith("step 30") and rows[int(line) - 1]["step"] == 30
    assert rows[int(line) - 1]["rollout/accuracy/mean"] == pytest.approx(float(value), rel=1e-3)
