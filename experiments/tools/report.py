"""Opens a report in headless Chromium: no error in its console, curves are drawn, switches and tables work, the run pages open.

    python experiments/tools/report.py BINARY [FOLDER] [--shots FOLDER]

FOLDER is that of a sweep (results/reference/classic). Needs the Python package `playwright` and a Chromium (Debian's package
`chromium`, or CHROMIUM=PATH); without them it says SKIPPED. --shots keeps pictures: light, dark, narrow, one run, print as PDF.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

# How many pixels of a canvas have a colour of their own: axes and grid are grey.
COLOURED = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let n = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b, a] = data.slice(i, i + 4);
    if (a > 60 && Math.max(r, g, b) - Math.min(r, g, b) > 60) n++;
  }
  return n;
}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("folder", nargs="?", default="results/reference/classic")
    parser.add_argument("--shots", type=Path)
    args = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit(print("SKIPPED: no Python package playwright, so reports are not opened in a browser"))
    if not chromium:
        sys.exit(print("SKIPPED: no Chromium, so reports are not opened in a browser"))
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        file = Path(work, "report.html")
        subprocess.run([args.binary, "report", args.folder, "--out", file], check=True, stdout=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        errors = []
        check_page(opened(browser, file.as_uri(), errors), args.shots)
        if args.shots:
            shots(browser, file.as_uri(), errors, args.shots)
        check_server(browser, args, errors)
        browser.close()
    assert not errors, errors
    print("report: 1 passed, 0 failed")


def opened(browser, address, errors, **options):
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith((address, "data:")) else errors.append(f"asks for {r.url}"))
    page.goto(address)
    page.wait_for_selector("#panels canvas")
    return page


def coloured(page):
    return page.locator("#panels canvas").first.evaluate(COLOURED)


def check_page(page, shots):
    # Curves draw, and follow the switches.
    panels = page.locator("#panels .panel").count()
    everything = coloured(page)
    assert panels > 0 and everything > 500, (panels, everything)
    agents = page.locator("#agents .chip")
    agents.first.click()
    assert agents.first.get_attribute("aria-pressed") == "false"
    assert 0 < coloured(page) < everything or agents.count() == 1
    agents.first.click()
    assert coloured(page) == everything
    page.locator("#bands").uncheck()
    assert coloured(page) < everything
    page.locator("#bands").check()
    envs = page.locator("#envs .chip")
    if envs.count() > 1:
        envs.first.click()
        assert page.locator("#panels .panel").count() == panels - 1
        envs.first.click()
    page.locator("#smooth").fill("2")
    assert "running mean" in page.locator("#curve-caption").inner_text()
    page.locator("#smooth").fill("0")

    # The values at the pointer, and by the keyboard.
    box = page.locator("#panels .u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#tip:not([hidden])")
    assert "[" in page.locator("#tip").inner_text()
    page.mouse.move(5, 5)
    page.wait_for_selector("#tip", state="hidden")
    page.locator("#panels .plot").first.focus()
    page.keyboard.press("End")
    last = page.locator("#tip b").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#tip b").inner_text() != last
    page.keyboard.press("Escape")

    # The table sorts, both ways, and filters.
    def column():
        texts = page.locator("#summary-table tbody tr td:nth-child(5)").all_inner_texts()
        return [float(text.replace("\u2212", "-")) for text in texts]

    header = page.locator('#summary-table button[data-column="IQM"]')
    header.click()
    assert column() == sorted(column(), reverse=True)
    page.locator('#summary-table button[data-column="IQM"]').press("Enter")
    assert column() == sorted(column())
    assert page.locator("#summary-table th:nth-child(5)").get_attribute("aria-sort") == "ascending"
    rows = len(column())
    page.locator("#find").fill(page.locator("#summary-table tbody tr td:nth-child(1)").first.inner_text())
    assert 0 < len(column()) <= rows
    page.locator("#find").fill("no such thing")
    assert len(column()) == 0
    page.locator("#find").fill("")

    # A run, and the next one.
    page.locator("#run-table tbody button").first.click()
    heading = page.locator("#run-h").inner_text()
    assert page.locator("#run canvas").count() > 0
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=shots / "run.png")
    page.locator('#run button[aria-label="Next run"]').click()
    assert page.locator("#run-h").inner_text() != heading
    page.keyboard.press("Escape")
    page.wait_for_selector("#run", state="hidden")
    page.locator('#theme [data-value="dark"]').click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def shots(browser, address, errors, folder):
    opened(browser, address, errors).screenshot(path=folder / "light.png", full_page=True)
    opened(browser, address, errors, color_scheme="dark").screenshot(path=folder / "dark.png", full_page=True)
    narrow = opened(browser, address, errors, viewport={"width": 390, "height": 844})
    assert narrow.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than a telephone"
    narrow.screenshot(path=folder / "narrow.png", full_page=True)
    opened(browser, address, errors).pdf(path=folder / "print.pdf", format="A4")


def check_server(browser, args, errors):
    """The page of `--serve` shows a run that is added."""
    with tempfile.TemporaryDirectory() as work:
        rows = Path(args.folder, "eval.csv").read_text().splitlines(keepends=True)
        key = rows[1].split(",")[:3]
        first = [row for row in rows[1:] if row.split(",")[:3] == key]
        file = Path(work, "eval.csv")
        file.write_text("".join([rows[0], *first]))
        server = subprocess.Popen([args.binary, "report", work, "--serve"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            address = server.stdout.readline().strip()
            with urllib.request.urlopen(address) as answer:
                assert b"data-live" in answer.read()
            page = opened(browser, address, errors)
            assert page.locator("#facts").inner_text().startswith("1 run ")
            file.write_text("".join(rows))
            page.wait_for_selector("#facts:has-text('runs')", timeout=60_000)
        finally:
            server.kill()
            server.wait()


main()
