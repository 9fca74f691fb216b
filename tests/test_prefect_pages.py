"""What a person sees in Prefect's own pages, in a real browser on a real server."""

from __future__ import annotations

import pytest
from browser import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("path", ["flows", "deployments", "runs"])
def test_the_pages_of_the_server_open_without_the_network(browser: Browser, path: str) -> None:
    browser.open(path, "Deployments", "Work Pools")
