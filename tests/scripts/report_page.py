"""Opens a report in Chromium without a network, and prints what a reader would meet there.

usage: report_page.py report.html result.json [folder for screenshots]
FINEGRAIN_CHROMIUM, or a chromium on the path, or Playwright's own.
"""

import json
import os
import pathlib
import shutil
import sys

try:
    from playwright.sync_api import Error, sync_playwright
except ImportError:
    sys.exit(77)

page_path, result_path = map(pathlib.Path, sys.argv[1:3])
shots = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
result = json.loads(result_path.read_text())
seen = {"errors": [], "requests": [], "bytes": page_path.stat().st_size}


def percent(estimate):
    if not estimate:
        return "–"
    zero = lambda v: 0.0 if abs(v) < 0.05 else v
    value, interval = zero(100 * estimate["value"]), estimate["interval"]
    text = f"{value:.1f}"
    return f"{text} [{zero(100 * interval['low']):.1f}, {zero(100 * interval['high']):.1f}]" if interval else text


with sync_playwright() as playwright:
    executable = os.environ.get("FINEGRAIN_CHROMIUM") or shutil.which("chromium")
    try:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
    except Error:
        sys.exit(77)
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: seen["errors"].append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    page.on("request", lambda request: seen["requests"].append(request.url))
    page.goto(page_path.resolve().as_uri())

    def rows(number):
        table = page.locator(f'#{number[0]} figure[data-table="{number[1]}"] tbody tr')
        return [row.locator("td").all_inner_texts() for row in table.all()]

    # The tables against the figures of the JSON, written down anew.
    seen["table_1"] = [row[:3] for row in rows(("win", "Table 1"))]
    seen["json_1"] = [
        [row["variant"], percent(row["win_rate"]["overall"]), str(row["win_rate"]["overall"]["n"])]
        for row in result["win_rates"]
    ]
    cells = {}
    for cell in result["reward_models"]["cells"]:
        cells.setdefault((cell["trained_on"], cell["scheme"]), {})[cell["tested_on"]] = percent(cell["accuracy"]["overall"])
    seen["table_2"] = [[row[0], row[1], row[3]] for row in rows(("models", "Table 2")) if row[0] != "longer is better"]
    seen["json_2"] = [[f"{on}, {scheme}", of["pairs"], of["edits"]] for (on, scheme), of in cells.items()]
    seen["matrix"] = [text.split("\n")[0].strip() for text in page.locator("#cells td").all_inner_texts()]
    longer = {cell["tested_on"]: percent(cell["accuracy"]["overall"]) for cell in result["reward_models"]["longer_is_better"]}
    seen["json_matrix"] = [of[on] for of in [*cells.values(), longer] for on in ("pairs", "edits")]
    seen["table_3"] = [row[0] for row in rows(("cost", "Table 3")) if row[0]]
    seen["json_3"] = [row["variant"] for row in result["costs"]]
    seen["forest"] = page.locator("#forest").inner_text() or page.locator("#forest").text_content()

    seen["charts"] = {name: page.locator(f"#{name} svg[role=img]").count() for name in ("calibration", "lengths", "curves")}
    for axis in ("0", "2", "1"):
        page.select_option("#axis", axis)

    # Tokens: the figures under the pointer.
    token = page.locator(".tok").first
    token.scroll_into_view_if_needed()
    token.hover()
    seen["tip"] = page.locator("#tip").inner_text()
    seen["measures"] = page.locator("#measure option").evaluate_all("all => all.map(one => one.value)")
    coloured = {}
    for measure in seen["measures"]:
        page.select_option("#measure", measure)
        coloured[measure] = page.locator(".tok").evaluate_all("all => all.filter(one => one.style.background).length")
    seen["coloured"] = coloured
    page.select_option("#measure", seen["measures"][0])

    # Search, filter and order.
    count = lambda: int(page.locator("#count").inner_text().split(" of ")[1].split(" ")[0])
    seen["all"] = count()
    word = page.locator("#cards .side p").first.inner_text().split()[0]
    page.fill("#search", word)
    seen["found"], seen["marks"] = count(), page.locator("#cards mark").count()
    page.fill("#search", "no such text anywhere")
    seen["none"] = count()
    page.fill("#search", "")
    variant = result["variants"][0]["name"]
    totals = lambda: page.evaluate(
        "v => [...document.querySelectorAll('.card .side')].filter(s => s.querySelector('b').textContent === v)"
        ".map(s => (s.textContent.match(/total reward ([−0-9.e]+)/) || [])[1]).filter(Boolean).map(t => Number(t.replace('−', '-')))",
        variant,
    )
    page.select_option("#sort", f"best|{variant}")
    best = totals()
    page.select_option("#sort", f"worst|{variant}")
    worst = totals()
    seen["sorted"] = best == sorted(best, reverse=True) and worst == sorted(worst) and len(best) > 1
    page.select_option("#filter", f"win|{variant}")
    seen["won"] = count()
    page.select_option("#filter", "all")
    page.select_option("#sort", "order")
    page.mouse.move(0, 0)

    # Nothing is wider than the window, in any light and on paper.
    seen["wider"] = {}
    for name, width, scheme, media in (
        ("desktop-light", 1280, "light", "screen"),
        ("desktop-dark", 1280, "dark", "screen"),
        ("narrow-light", 390, "light", "screen"),
        ("narrow-dark", 390, "dark", "screen"),
        ("print", 794, "light", "print"),
    ):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme, media=media)
        page.wait_for_timeout(100)
        seen["wider"][name] = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if shots:
            shots.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=shots / f"{name}.png", full_page=True)
    seen["backgrounds"] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, media="screen")
        seen["backgrounds"].append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.emulate_media(media="print", color_scheme="dark")
    seen["backgrounds"].append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.emulate_media(media="screen", color_scheme="light")
    pdf = page.pdf(format="A4")
    seen["pdf"] = len(pdf)
    if shots:
        (shots / "report.pdf").write_bytes(pdf)
    browser.close()
print(json.dumps(seen))
