"""Headless Chromium for the tests: started, waited for, and what it showed when a test fails.

Chromium and its driver are the machine's own (`.ci/find-browser`); nothing is downloaded.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

ROOT = Path(__file__).resolve().parents[3]
WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 800
# A loaded machine is slow; a defect is slower.
TIMEOUT_S: Final = 45.0

Found = TypeVar("Found")
Picture = Callable[[str], None]

_ARGUMENTS = (
    "--headless=new",
    "--lang=en-US",
    "--hide-scrollbars",
    "--disable-gpu",
    # Containers have a small /dev/shm, and their root may not make a sandbox.
    "--disable-dev-shm-usage",
    "--no-sandbox",
    # Nothing leaves this machine.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)
# Notes what Label Studio served, with the name of the queue that it took it from: the page shows
# only the task's number.
_NOTE_SERVED = """
window.__served = [];
const send = window.fetch;
window.fetch = async (...given) => {
  const answer = await send(...given);
  if (String(given[0].url || given[0]).includes('id=next_task')) {
    const told = await answer.clone().json();
    window.__served.push({id: told.id, queue: told.queue});
  }
  return answer;
};
"""


def find_chromium() -> tuple[str, str]:
    """Paths of Chromium and its driver.

    Raises:
        RuntimeError: they are missing; the message says how to get them.
    """
    done = subprocess.run(
        [ROOT / ".ci" / "find-browser"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    browser, driver = done.stdout.splitlines()
    return browser, driver


class Browser:
    """One window of Chromium.

    Args:
        folder: log, and what is kept of failed tests.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Selenium would else look for a browser of its own on the net.
        os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true")
        browser, driver = find_chromium()
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in _ARGUMENTS:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(driver, log_output=str(folder / "chromedriver.log"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_page_load_timeout(TIMEOUT_S)
        self.driver.set_script_timeout(TIMEOUT_S)
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=WIDTH_PX, height=HEIGHT_PX, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self._command("Page.addScriptToEvaluateOnNewDocument", source=_NOTE_SERVED)

    def _command(self, name: str, **arguments: object) -> None:
        self.driver.execute_cdp_cmd(name, arguments)

    def show_as(self, *, width: int, height: int, dark: bool) -> None:
        """Another size of the window, another scheme of colours."""
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", features=[scheme])

    def scripts(self, *, allowed: bool) -> None:
        """Whether pages may run scripts; those of this driver run all the same."""
        self._command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def close(self) -> None:
        """End Chromium and its driver."""
        self.driver.quit()

    def open(self, url: str) -> None:
        """Load a page anew."""
        self.driver.get(url)

    def run(self, script: str, *arguments: object) -> Any:
        """What a script returns: a list read by one script holds one moment of the page."""
        return self.driver.execute_script(script, *arguments)

    def until(
        self, check: Callable[[], Found], what: str, *, timeout_s: float = TIMEOUT_S
    ) -> Found:
        """Wait until ``check`` returns something true, and return it.

        A page that is being drawn anew loses elements between finding and using them: whatever
        the driver complains about counts as not yet.
        """
        deadline = time.monotonic() + timeout_s
        problem = ""
        while True:
            try:
                found = check()
                if found:
                    return found
                problem = f"; last seen: {found!r}"
            except WebDriverException as error:
                problem = f"; {type(error).__name__}: {(error.msg or '').splitlines()[:1]}"
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}{problem}")
            time.sleep(0.05)

    def soon(self, check: Callable[[], object], *, within_s: float = 2.0) -> bool:
        """Whether ``check`` holds within a short time."""
        try:
            self.until(check, "it holds", timeout_s=within_s)
        except AssertionError:
            return False
        return True

    def all(self, css: str) -> list[WebElement]:
        """Elements that are shown right now."""
        found = self.driver.find_elements(By.CSS_SELECTOR, css)
        return [element for element in found if element.is_displayed()]

    def wait_for(self, css: str, *, text: str = "") -> WebElement:
        """The first shown element, with exactly this text where one is given."""

        def look() -> WebElement | None:
            shown = self.all(css)
            return next((one for one in shown if not text or one.text.strip() == text), None)

        found = self.until(look, f"{css} {text!r} is shown")
        assert found is not None
        return found

    def click(self, css: str, *, text: str = "") -> None:
        """Click the first shown element, as soon as it can be clicked."""

        def press() -> bool:
            self.wait_for(css, text=text).click()
            return True

        self.until(press, f"{css} {text!r} can be clicked")

    def fill(self, css: str, text: str) -> None:
        """Write into an input field."""
        field = self.wait_for(css)
        field.clear()
        field.send_keys(text)
        assert field.get_attribute("value") == text

    def press(self, *keys: str) -> None:
        """Press keys together, without any field having the focus."""
        chain = ActionChains(self.driver)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in reversed(keys[:-1]):
            chain.key_up(key)
        chain.perform()

    def shows(self, *texts: str) -> None:
        """Wait until the page shows all of these texts."""

        def look() -> bool:
            shown = self.driver.find_element(By.TAG_NAME, "body").text
            return all(text in shown for text in texts)

        self.until(look, f"the page shows {texts}")

    def served(self) -> list[dict[str, Any]]:
        """Tasks that Label Studio served since the page was loaded, with their queue's name."""
        served: list[dict[str, Any]] = self.run("return window.__served")
        return served

    def severe(self) -> list[str]:
        """Severe messages of the console since this was last asked."""
        listed: Sequence[dict[str, Any]] = self.driver.get_log("browser")
        return [str(line["message"]) for line in listed if line["level"] == "SEVERE"]

    def keep(self, name: str) -> Path:
        """Keep what is shown now. Returns: the folder that holds it."""
        folder = self.folder / "".join(c if c.isalnum() else "-" for c in name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "page.png").write_bytes(self.driver.get_screenshot_as_png())
        (folder / "page.html").write_text(self.driver.page_source)
        seen = {"url": self.driver.current_url, "served": self.served()}
        (folder / "seen.json").write_text(json.dumps(seen, indent=1))
        return folder

    def picture(self, path: Path) -> None:
        """Save what is shown as a PNG, as small as it goes without losing a colour."""
        shown = Image.open(io.BytesIO(self.driver.get_screenshot_as_png()))
        shown.convert("RGB").save(path, optimize=True)


CONTROL: Final = Keys.CONTROL
ENTER: Final = Keys.ENTER
