"""Chromium without a window, to look at pages as readers do: what they ask for, how they look, what they print."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE = 60  # seconds that a busy machine may take to read a page
PHONE, DESKTOP = 375, 1280  # CSS pixels
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip

# Every text that can be seen, as [contrast with what is behind it, height of its letters in pixels, text].
TEXTS = """
const rgba = color => color.match(/[\\d.]+/g).map(Number);
const luminance = color => rgba(color).slice(0, 3).map(x => x / 255)
    .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
const behind = element => {
    for (let e = element; e; e = e.parentElement) {
        const color = getComputedStyle(e).backgroundColor;
        if (rgba(color)[3] !== 0) return color;
    }
    return 'rgb(255, 255, 255)';
};
const found = [];
for (const element of document.body.querySelectorAll('*')) {
    const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join(' ').trim();
    if (!text || ['title', 'desc'].includes(element.tagName) || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), matrix = element.getScreenCTM ? element.getScreenCTM().a : 1;
    const two = [luminance(element.getScreenCTM ? style.fill : style.color), luminance(behind(element))];
    const contrast = (Math.max(...two) + 0.05) / (Math.min(...two) + 0.05);
    found.push([contrast, parseFloat(style.fontSize) * matrix, text]);
}
return found;
"""
# The texts of a plot that are cut off, or lie on another.
HIDDEN_TEXTS = """const ground = document.querySelector('.ground').getBoundingClientRect();
    const boxes = [...document.querySelectorAll('text')].map(text => [text, text.getBoundingClientRect()]);
    const beside = (a, b) => a.right <= b.left || a.bottom <= b.top + 2;
    const apart = (a, b) => beside(a, b) || beside(b, a);
    return boxes.filter(([text, own], i) => own.left < ground.left || own.right > ground.right
        || boxes.slice(0, i).some(([_, other]) => !apart(own, other))).map(([text]) => text.textContent)"""
HOSTILE = (  # a text that is to be shown, and nothing else
    "<script>window.hacked = 1</script>\"'><img src=http://127.0.0.1:9/x onerror='window.hacked = 2'>\x00\ud800{{7*7}}"
)
OPEN_ALL = "document.querySelectorAll('details').forEach(details => details.open = true)"


class Browser:
    """A page in a window of some width, by day or in the dark, on a screen or on paper."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, width: int = DESKTOP, *, dark: bool = False, media: str = "screen") -> None:
        """Load a file. What was logged before is forgotten."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", media=media, features=[scheme])
        size = {"width": width, "height": 812, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self._devtools("Emulation.setDeviceMetricsOverride", **size)
        self.requests()
        self.complaints()
        self.driver.get(page.as_uri())
        WebDriverWait(self.driver, PATIENCE).until(lambda _: self.run("return document.readyState") == "complete")

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function's body in JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened, or this was called."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """The console's lines since the page was opened, or this was called."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def screenshot(self) -> bytes:
        """The window as a PNG file."""
        return base64.b64decode(self._devtools("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page as it is printed on A4 without backgrounds."""
        return base64.b64decode(self._devtools("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of the system's packages. If there is none the test is skipped; it fails if CI_BROWSER=required."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        missing = "Chromium and its chromedriver are not installed (Debian: apt install chromium chromium-driver)"
        if os.environ.get("CI_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    options = webdriver.ChromeOptions()  # the driver makes an empty profile, and deletes it
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for flag in QUIET:
        options.add_argument(flag)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "*")  # the driver is on this machine, whatever the world is reached by
        chrome = webdriver.Chrome(options, Service(driver))
    with chrome:
        yield Browser(chrome)


def check_it_stands_alone(browser: Browser, page: Path) -> None:
    """The page asks for nothing but itself and runs nothing; no id is there twice, and links lead within it."""
    browser.open(page)
    assert [url for url in browser.requests() if not url.startswith("data:")] == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.run("return document.scripts.length") == 0
    ids = browser.run("return [...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    assert browser.run("""return [...document.querySelectorAll('a')].every(
        link => document.getElementById(link.getAttribute('href').slice(1)))""")


def check_it_is_only_shown(browser: Browser, page: Path, element: str) -> str:
    """HOSTILE, behind the text of an `element` of the page, does nothing; returns what is shown there."""
    browser.open(page)
    assert browser.run("return [typeof window.hacked, document.scripts.length, document.images.length]") == [
        "undefined", 0, 0,
    ]  # fmt: skip
    assert browser.complaints() == []
    assert [url for url in browser.requests() if url.startswith("http")] == []
    shown = browser.run(f"return document.querySelector('{element}').textContent")
    assert shown.endswith("\\u0000\\ud800{{7*7}}")
    return str(shown)


def check_all_text_can_be_read(browser: Browser, page: Path, width: int, dark: bool, more_than: int) -> None:
    """Each of so many texts and more has a contrast of 4.5, as WCAG asks, and letters of 9.5 pixels."""
    browser.open(page, width, dark=dark)
    browser.run(OPEN_ALL)
    texts = browser.run(TEXTS)
    assert len(texts) > more_than
    assert [text for text in texts if text[0] < 4.5] == []
    assert [text for text in texts if text[1] < 9.5] == []
