"""A real browser for tests: headless Chromium, and pages that are waited for.

Needs the programs ``chromium`` and ``chromedriver`` (Debian: ``apt-get install chromium-driver``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.wait import WebDriverWait

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--window-size=1400,1000",
)  # fmt: skip

PATIENCE_S = 60.0
"""For a page on a busy machine; a page that is there is not waited for."""


@dataclass(frozen=True)
class Browser:
    driver: Chrome
    server: str
    """Where the pages are: an address without a path."""

    def open(self, path: str, *texts: str) -> None:
        """Load a page and wait until it shows all these texts."""
        self.driver.get(f"{self.server}/{path.lstrip('/')}")
        self.wait_for(*texts)

    def wait_for(self, *texts: str) -> None:
        """Wait until the page shows all these texts."""
        missing = list(texts)

        def all_shown(_: Chrome) -> bool:
            missing[:] = [text for text in texts if text not in self.text]
            return not missing

        try:
            self._waiting().until(all_shown)
        except TimeoutException as error:
            raise AssertionError(
                f"{self.driver.current_url} never showed {missing}, but:\n{self.text}"
            ) from error

    @property
    def text(self) -> str:
        """All that a person can read now."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def click(self, text: str) -> None:
        """Click on the first thing that says exactly this, once that is possible."""
        says = f"normalize-space()='{text}'"
        where = (By.XPATH, f"//*[{says} and not(*[{says}])]")  # the innermost
        self._waiting().until(element_to_be_clickable(where)).click()

    def all(self, css: str) -> list[WebElement]:
        """Elements of the page, at least one; waits for it."""
        return self._waiting().until(lambda driver: driver.find_elements(By.CSS_SELECTOR, css))

    def screenshot(self, path: Path) -> None:
        assert self.driver.save_screenshot(str(path))

    def _waiting(self) -> WebDriverWait[Chrome]:
        ignored = (StaleElementReferenceException,)  # the page was drawn anew meanwhile
        return WebDriverWait(self.driver, PATIENCE_S, 0.1, ignored_exceptions=ignored)


@contextmanager
def chromium(server: str, profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; a test without one is skipped, in CI it fails."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in programs.values():
        lacking = f"no {' and no '.join(n for n, path in programs.items() if path is None)} here"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"pages must be tested in CI: {lacking}")
        pytest.skip(lacking)
    options = ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = Chrome(options=options, service=Service(str(programs["chromedriver"])))
    try:
        yield Browser(driver, server)
    finally:
        driver.quit()
