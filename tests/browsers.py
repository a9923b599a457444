"""A real browser for tests: Debian's Chromium without a window, driven by selenium."""

from __future__ import annotations

import base64
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.programs import needed

ARTIFACTS: Final = Path(__file__).parent.parent / "artifacts" / "dashboard"
_SECONDS: Final = 20
_END_SECONDS: Final = 10
_OPTIONS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_DROP: Final = """
const bytes = Uint8Array.from(atob(arguments[0]), (each) => each.charCodeAt(0));
const dragged = new DataTransfer();
dragged.items.add(new File([bytes], arguments[1], {type: "application/zip"}));
for (const kind of ["dragenter", "dragover", "drop"]) {
  const event = new DragEvent(kind, {dataTransfer: dragged, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}
"""


class Browser:
    """One window of Chromium."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go to an address, also if only what is behind its # differs."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def log_in(self, url: str, token: str) -> None:
        """Come in as somebody else than before."""
        self.driver.get(f"{url}/login")
        self.driver.delete_all_cookies()
        field = self.find("#token")
        field.send_keys(token)
        field.submit()
        self.until(lambda: self.script("return location.pathname") == "/", "the dashboard")
        self.until_live()

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Give what is to be read somewhere, in one line; empty: there is no such element."""
        with contextlib.suppress(NoSuchElementException, StaleElementReferenceException):
            return " ".join(self.find(selector).text.split())
        return ""

    def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait for something."""
        try:
            WebDriverWait(self.driver, _SECONDS, poll_frequency=0.05).until(lambda _: condition())
        except TimeoutException as error:
            raise AssertionError(f"not so: {what}; the page says: {self.text('body')}") from error

    def until_text(self, selector: str, words: str) -> None:
        """Wait until words are to be read somewhere."""
        self.until(lambda: words in self.text(selector), f"{words!r} in {selector}")

    def until_live(self) -> None:
        """Wait until the page has taken up its stream, and its script so far has run."""
        self.until_text("#link", "live")

    def script(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def tab_to(self, label: str) -> None:
        """Go on by the tabulator until the element of this name has the focus."""
        for _ in range(80):
            self.press(Keys.TAB)
            if self.focused() == label:
                return
        raise AssertionError(f"the keyboard does not reach {label!r}")

    def focused(self) -> str:
        """Name the element that has the focus."""
        element = self.driver.switch_to.active_element
        return str(element.accessible_name)

    def drop(self, data: bytes, name: str) -> None:
        """Drop a file onto the page, as a drag from a desktop would."""
        self.script(_DROP, base64.b64encode(data).decode(), name)

    def resize(self, width: int, height: int = 900) -> None:
        """Make the page so wide, scroll bars included."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """Prefer light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def shoot(self, name: str) -> None:
        """Leave a picture of the whole page for whoever reviews it."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        options = {"format": "png", "captureBeyondViewport": True}
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        (ARTIFACTS / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

    def complaints(self) -> list[str]:
        """Give the errors that the console has shown since somebody last asked."""
        entries = self.driver.get_log("browser")
        return [each["message"] for each in entries if each["level"] == "SEVERE"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium while the block runs, and make sure that nothing of it stays."""
    binary, driver_path = needed("chromium"), needed("chromedriver")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for option in (*_OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            yield Browser(driver)
        finally:
            started = _processes_of(profile)
            driver.quit()
            _, leaked = psutil.wait_procs(started, timeout=_END_SECONDS)
            for process in leaked:
                process.kill()
        assert not leaked, f"left running: {leaked}"


def _processes_of(profile: str) -> list[psutil.Process]:
    """Find the browser with a profile, all below it, and what has detached itself from it."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(profile in word for word in process.cmdline()):
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    return list(found.values())
