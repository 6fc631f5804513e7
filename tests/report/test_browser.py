"""The page in headless Chromium: no error, no request, every chart drawn, nothing wider than a phone."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sae_assay.report.names import CHART_NAMES

pytestmark = pytest.mark.browser
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A driven browser with a profile of its own; in CI its absence is a failure."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        message = "needs chromium and chromedriver (apt-get install -y chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.get("about:blank")
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def opened(chromium: Any, site: Path) -> Callable[..., Any]:
    """Opens the page at a width, in light or dark, with or without scripts, and waits until its charts are drawn."""

    def show(width: int, dark: bool = False, scripts: bool = True) -> Any:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        for log in ("browser", "performance"):
            chromium.get_log(log)
        chromium.get((site / "report.html").as_uri())
        give_up = time.monotonic() + 60
        while scripts and chromium.execute_script("return document.documentElement.dataset.charts") != "drawn":
            assert time.monotonic() < give_up, "the charts were not drawn within a minute"
            time.sleep(0.1)
        return chromium

    return show


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, False), (1280, True)])
def test_every_chart_is_drawn_without_error_request_or_overflow(
    opened: Callable[..., Any], width: int, dark: bool
) -> None:
    page = opened(width, dark)
    assert page.get_log("browser") == []
    marks = page.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('figure[data-chart]')].map(f => [f.dataset.chart,"
        " [...f.querySelectorAll('.live svg path, .live svg text, .live svg line')]"
        ".filter(e => e.getBoundingClientRect().height > 0).length]))"
    )
    assert set(marks) == set(CHART_NAMES)
    assert min(marks.values()) > 10
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert _requests(page) == []


def _requests(page: Any) -> list[str]:
    """URLs asked for beyond the page's own file and the data inside it."""
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # The browser's own start page may still be loading.
    sent = [r["request"]["url"] for r in requests if not r["documentURL"].startswith("chrome:")]
    return [url for url in sent if not url.startswith("data:") and not url.endswith("/report.html")]


def test_charts_fit_a_phone(opened: Callable[..., Any]) -> None:
    page = opened(360)
    widths = page.execute_script(
        "return [...document.querySelectorAll('.live svg')].map(s => s.getBoundingClientRect().width)"
    )
    assert max(widths) <= 360


def _said(page: Any) -> str:
    return page.execute_script("const w = document.getElementById('where'); return w.hidden ? '' : w.innerText")


@pytest.mark.parametrize("width", [1280, 360])
def test_a_click_on_a_number_shows_its_chain(opened: Callable[..., Any], width: int) -> None:
    page = opened(width)
    page.execute_script("document.querySelector('#reseed td data[data-cell^=reseed_noise]').click()")
    said = _said(page)
    for word in ("of table reseed_noise", "statistics/sql/reseed_noise.sql", "results/scores/test", "= 0x1."):
        assert word in said
    name = page.execute_script("return document.querySelector('#reseed td data[data-cell^=reseed_noise]').dataset.cell")
    assert f"uv run sae-assay trace '{name}' --study test" in said
    box = page.execute_script(
        "const b = document.getElementById('where').getBoundingClientRect(); return [b.left, b.right]"
    )
    assert box[0] >= 0
    assert box[1] <= width
    page.execute_script("document.querySelector('#where .close').click()")
    assert _said(page) == ""
    assert page.get_log("browser") == []


@pytest.mark.parametrize("key", ["\ue007", " "])  # Enter, Space
def test_a_key_on_a_number_shows_its_chain_and_escape_returns(opened: Callable[..., Any], key: str) -> None:
    page = opened(1280)
    number = page.find_element("css selector", "#method data[data-cell]")
    assert number.get_attribute("role") == "button"
    number.send_keys(key)
    assert "of table study" in _said(page)
    page.find_element("id", "where").send_keys("\ue00c")
    assert _said(page) == ""
    assert page.execute_script("return document.activeElement.matches('#method data[data-cell]')")


def test_a_click_on_a_point_shows_its_chart(opened: Callable[..., Any]) -> None:
    page = opened(1280)
    x, y = page.execute_script(
        "const p = document.querySelector('figure[data-chart=truth_scatter] .live .mark-symbol.role-mark path');"
        "p.scrollIntoView({behavior: 'instant', block: 'center'}); const b = p.getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]"
    )
    for kind in ("mousePressed", "mouseReleased"):
        event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
        page.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    said = _said(page)
    for word in ("sae id = ", "truth_scatter.json", "panel_points.sql", "trace 'chart:truth_scatter'"):
        assert word in said
    assert page.get_log("browser") == []


def test_without_scripts_the_pictures_are_shown(opened: Callable[..., Any]) -> None:
    page = opened(1280, scripts=False)
    give_up, images = time.monotonic() + 60, []
    while (
        len(images) < len(CHART_NAMES) and time.monotonic() < give_up
    ):  # without scripts nothing says that it is laid out
        tree = page.execute_cdp_cmd("DOMSnapshot.captureSnapshot", {"computedStyles": ["display"]})
        strings, layout = tree["strings"], tree["documents"][0]["layout"]
        names = tree["documents"][0]["nodes"]["nodeName"]
        images = [i for i, node in enumerate(layout["nodeIndex"]) if strings[names[node]] == "IMG"]
    assert len(images) == len(CHART_NAMES)
    assert all(layout["bounds"][i][2] > 200 for i in images)


def test_print_shows_the_pictures_and_the_folded_tables(opened: Callable[..., Any]) -> None:
    page = opened(1280)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = page.execute_script(
        "return [...document.querySelectorAll('figure[data-chart]')].map(f =>"
        " [f.querySelector('.still').naturalWidth > 0 && f.querySelector('.still').getBoundingClientRect().height > 50,"
        " f.querySelector('.live').getBoundingClientRect().height])"
    )
    assert shown == [[True, 0]] * len(CHART_NAMES)
    pdf = page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert len(pdf) > 100_000
