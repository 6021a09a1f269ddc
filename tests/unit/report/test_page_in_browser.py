"""The page of `harness report` in a real browser: chromium through selenium, from disk. Skips where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import written_runs
from written_runs import LOSSES, campaign, write_run

from harness.record import run_folder
from harness.report.page import boards, document, scale_ladder

WICKED = '<script>alert(1)</script> "it\'s"'
ENTER, ESCAPE, RIGHT = "\ue007", "\ue00c", "\ue014"  # keys, as WebDriver numbers them
NAMES = ["muon", WICKED, "adamw", "never"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A chromium without a window, and the driver that Debian ships beside it."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    pytest.importorskip("vl_convert", reason="needs vl-convert-python")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--force-device-scale-factor=1",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    except Exception as error:  # noqa: BLE001 - whatever keeps a browser from starting here is not of the page
        pytest.skip(f"chromium does not start here: {error}")
    yield made
    made.quit()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three submissions on two workloads, six seeds each, and one that misses every target."""
    root = campaign(tmp_path_factory.mktemp("report") / "runs", {"adamw": 3.0, "muon": 1.0, WICKED: 2.0})
    for workload in ("lm", "mae"):
        for study in range(6):
            write_run(root, 50.0, missed=True, submission="never", workload=workload, study=study, studies=6, trials=1)
    for trial, rate in enumerate((0.001, 0.01, 0.1, 1.0)):
        write_run(root.parent / "tried", 10.0 * (1 + trial), missed=trial == 3, trial=trial, trials=4,
                  hyperparameters={"lr": rate, "b1": 0.9 + trial / 100})  # fmt: skip
    return root


def board_of(root: Path) -> boards.Board:
    return boards.of_trials(
        [run_folder.read_trial(p) for p in run_folder.find_trials(root)], root.name, (), below=root.parent
    )


@pytest.fixture(scope="module")
def file(root: Path, browser: Any) -> Path:
    out = root.parent / "report.html"
    ladder = scale_ladder.of_ladder(written_runs.ladder((WICKED, "adamw", "muon")))
    document.write([board_of(root), board_of(root.parent / "tried"), ladder], "A benchmark", out)
    return out


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """The page, freshly opened; whatever a test does, nothing may be told on the console."""
    browser.get_log("browser")
    size(browser, 1200)
    browser.get("about:blank")
    browser.get(file.as_uri())
    yield browser
    assert [line["message"] for line in browser.get_log("browser")] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []


def size(browser: Any, width: int, scheme: str = "light") -> None:
    sizes = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait(browser: Any, condition: str, *arguments: Any) -> Any:
    """Wait until an expression of JavaScript holds; return it."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60).until(lambda b: b.execute_script(f"return {condition}", *arguments))


def drawn(browser: Any, kind: str, workload: str | None = None) -> Any:
    """Bring a plot of the first board into view; return its box once it is drawn."""
    where = f'#b0 figure[data-kind="{kind}"]' + (f'[data-workload="{workload}"]' if workload else "")
    browser.execute_script("document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})", where)
    marks = ", ".join(f"{where} svg .mark-{mark} path" for mark in ("line", "rect"))
    wait(browser, "document.querySelector(arguments[0])", marks)
    return browser.find_element("css selector", f"{where} .view")


def rows(browser: Any) -> list[str]:
    """The names in the leaderboard that is seen, in order."""
    script = """return [...document.querySelectorAll('#b0 > section table[data-baseline]')]
        .filter((table) => table.offsetParent).flatMap((table) => [...table.tBodies[0].rows])
        .filter((row) => !row.hidden).map((row) => row.dataset.s)"""
    return browser.execute_script(script)


def click(browser: Any, where: str) -> None:
    browser.execute_script("arguments[0].click()", browser.find_element("css selector", where))


def test_tables_sort_and_what_was_missed_stays_last(page: Any) -> None:
    assert rows(page) == ["muon", WICKED, "adamw", "never"]
    head = page.find_elements("css selector", "#b0 table[data-baseline] thead th")
    column = next(th for th in head if th.text.startswith("lm"))
    button = column.find_element("css selector", "button")
    button.send_keys(ENTER)
    assert column.get_attribute("aria-sort") == "ascending"
    assert rows(page) == ["muon", WICKED, "adamw", "never"]
    button.click()
    assert column.get_attribute("aria-sort") == "descending"
    assert rows(page) == ["adamw", WICKED, "muon", "never"]
    name = next(th for th in head if th.text.startswith("submission"))
    name.find_element("css selector", "button").click()
    assert sorted(rows(page)) == sorted(NAMES)
    assert rows(page)[1:] == ["adamw", "muon", "never"]
    assert column.get_attribute("aria-sort") is None


def test_rows_filter_and_clock_and_baseline_change(page: Any) -> None:
    page.find_element("css selector", "#b0 .filter").send_keys("MU")
    assert rows(page) == ["muon"]
    click(page, '#b0 input[name="b0-clock"][value="wall"]')
    cell = page.find_element("css selector", '#b0 [data-clock="wall"] tr[data-s="muon"] td a')
    assert cell.text == "21.00"
    assert rows(page) == ["muon"]  # of one table, that of the clock
    page.execute_script(
        """const select = document.querySelector('#b0 .baseline');
           select.value = 'muon'; select.dispatchEvent(new Event('change'))"""
    )
    told = page.execute_script(
        """return Object.fromEntries([...document.querySelectorAll('#b0 [data-clock="wall"] [data-speed-up]')]
           .map((cell) => [cell.parentElement.dataset.s, cell.firstChild.textContent]))"""
    )
    assert told == {"muon": "1.000×", WICKED: "0.500×", "adamw": "0.333×", "never": "–"}


def test_a_submission_is_toggled_in_all_plots_at_once(page: Any) -> None:
    plots = [drawn(page, "profiles"), drawn(page, "curves", "lm"), drawn(page, "curves", "mae")]
    count = """return arguments[0].map((plot) => [...plot.querySelectorAll('svg .mark-line path')]
               .filter((path) => path.getAttribute('stroke') === 'var(--c0)' && path.getAttribute('d')).length)"""
    assert page.execute_script(count, plots) == [1, 7, 7]  # six seeds and their median
    click(page, '#b0 .toggles input[value="muon"]')
    assert wait(page, f"((x) => x.every((n) => n === 0) && x.length)((function () {{{count}}})(arguments[0]))", plots)
    click(page, '#b0 button[data-show="all"]')
    assert wait(page, f"((x) => x.every((n) => n > 0) && x.length)((function () {{{count}}})(arguments[0]))", plots)


def test_hovering_shows_what_the_record_says(page: Any, root: Path) -> None:
    box = drawn(page, "curves", "lm")
    held = json.loads(page.execute_script("return document.getElementById('report-data').textContent"))["boards"]["b0"]
    curve = next(one for one in held["curves"]["lm"] if one["s"] == WICKED and one["n"] == "3/0")
    page.execute_script(  # at the fourth of the markers of a colour: the studies take longer and longer
        """const hits = [...arguments[0].querySelectorAll('svg .mark-symbol path')]
             .filter((path) => path.getAttribute('fill') === 'var(--c1)')
             .map((path) => path.getBoundingClientRect())
             .sort((a, b) => a.x - b.x);
           const [clientX, clientY] = [hits[3].x + hits[3].width / 2, hits[3].y + hits[3].height / 2];
           arguments[0].dispatchEvent(new PointerEvent('pointermove', {clientX, clientY}))""",
        box,
    )
    tip = page.find_element("css selector", "#tip")
    assert tip.is_displayed()
    trial = run_folder.read_trial(Path(board_of(root)["records"][curve["r"]]["where"]))
    assert (trial.spec.submission, trial.spec.study) == (WICKED, 3)
    hit = trial.hit
    assert hit is not None
    lines = tip.text.splitlines()
    assert lines[0] == WICKED
    assert lines[1] == "study/trial 3/0: met the target here"
    assert f"loss: {hit.metrics['loss']:.4f}" in lines
    assert f"calibrated seconds: {hit.scored.calibrated:.2f}" in lines
    assert f"seconds: {hit.scored.wall:.2f}" in lines
    assert "training steps: 500" in lines
    assert "training examples: 16,000" in lines


def test_the_keyboard_walks_along_a_curve(page: Any) -> None:
    box = drawn(page, "curves", "lm")
    page.execute_script("arguments[0].focus()", box)
    for _ in range(2):
        box.send_keys(RIGHT)
    said = page.find_element("css selector", "#said")
    assert f"loss: {LOSSES[1]:.4f}" in (said.get_attribute("textContent") or "")
    box.send_keys("+")
    box.send_keys("0")
    box.send_keys(ESCAPE)
    assert not page.find_element("css selector", "#tip").is_displayed()


def test_another_axis_and_zoom(page: Any) -> None:
    box = drawn(page, "curves", "lm")
    click(page, '#b0 input[name="b0-axis"][value="steps"]')
    wait(page, "arguments[0].textContent.includes('training steps') && arguments[0].textContent.includes('500')", box)
    labels = (
        "[...arguments[0].querySelectorAll('svg .role-axis-label text')].map((one) => one.textContent).sort().join()"
    )
    before = page.execute_script(f"return {labels}", box)
    click(page, '#b0 figure[data-workload="lm"] [data-do="in"]')
    wait(page, f"{labels} !== arguments[1]", box, before)
    click(page, '#b0 figure[data-workload="lm"] [data-do="reset"]')
    wait(page, f"{labels} === arguments[1]", box, before)


def test_a_cell_leads_to_its_records(page: Any) -> None:
    link = page.find_element("css selector", '#b0 [data-clock="calibrated"] tr[data-s="adamw"] td a')
    link.send_keys(ENTER)
    place = page.execute_script("return location.hash.slice(1)")
    row = page.find_element("css selector", f'[id="{place}"]')
    assert row.is_displayed()
    assert row.text.startswith("adamw")


def test_points_and_the_second_board(page: Any) -> None:
    click(page, 'nav.boards a[data-board="b1"]')
    wait(page, "!document.getElementById('b1').hidden && document.getElementById('b0').hidden")
    page.execute_script("document.querySelector('#b1 [data-kind=parallel]').scrollIntoView({behavior: 'instant'})")
    wait(page, "document.querySelectorAll('#b1 .small-plots svg').length === 2")
    assert "missed" in wait(page, "document.querySelector('#b1 [data-kind=parallel] svg')?.textContent")


def test_a_ladder_is_plotted_a_panel_a_width(page: Any) -> None:
    click(page, 'nav.boards a[data-board="b2"]')
    box = "document.querySelector('#b2 figure[data-workload=\"lm_w64\"] .view')"
    page.execute_script(f"{box}.scrollIntoView({{behavior: 'instant'}})")
    lines = f"[...{box}.querySelectorAll('svg .mark-line path')].filter((path) => path.getAttribute('d')).length"
    assert wait(page, f"{lines} === 2") and wait(page, f"{box}.textContent.includes('speed-up')")
    hollow = f"[...{box}.querySelectorAll('svg .mark-symbol path')].map((path) => path.getAttribute('fill-opacity'))"
    assert wait(page, f"{hollow}.filter((one) => one === '0').length") == 1, "before the baseline's amounts"
    pointing = f"""(() => {{
        const at = {box}.querySelector('svg .mark-symbol path').getBoundingClientRect();
        const [clientX, clientY] = [at.x + at.width / 2, at.y + at.height / 2];
        {box}.dispatchEvent(new PointerEvent('pointermove', {{clientX, clientY}}));
        return document.getElementById('tip').innerText;
    }})()"""
    tip = ["adamw", "speed-up: 1.400", "95% interval: 1.40 to 1.40", "training steps: 150"]
    wait(page, f"{pointing}.split(/\\n+/).join() === arguments[0]", ",".join(tip))  # panels below may still move it
    click(page, '#b2 .toggles input[value="muon"]')
    assert wait(page, f"{lines} === 1")


@pytest.mark.parametrize("width", [360, 820, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_scrolls_sideways(page: Any, file: Path, width: int, scheme: str) -> None:
    size(page, width, scheme)
    page.get(file.as_uri())
    drawn(page, "profiles")
    drawn(page, "curves", "lm")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_no_name_ran(page: Any) -> None:
    assert page.execute_script("return document.scripts.length") <= 3, "the page's own"
    assert WICKED in page.find_element("css selector", "#b0 .toggles").text
