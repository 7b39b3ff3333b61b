"""Hostile texts on the dashboard in a real browser: nothing runs, nothing leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from werkzeug.serving import make_server

from backend.app import create_app
from backend.jobs import Jobs
from backend.projects import ProjectStores
from backend.settings import Settings
from tests.e2e.browser.chromium import Browser
from tests.e2e.browser.test_dashboard import window
from tests.security.hostile import HARMLESS, TEXTS, Hostile

__all__ = ["window"]

LABEL_STUDIO = "http://label-studio.invalid"
SHORT = [text for text in TEXTS if len(text) < 100]
#: All of them, some at a time: what one of them opened, another could close.
PLANTED = [HARMLESS, *(" ".join(SHORT[start::3]) for start in range(3))]
# Dialogs and what the page's policy stopped: text that became markup would show as either.
_WATCH = """
window.__told = [];
for (const name of ['alert', 'confirm', 'prompt', 'print']) {
  window[name] = () => window.__told.push(name);
}
document.addEventListener('securitypolicyviolation', (event) => {
  window.__told.push(event.violatedDirective + ' ' + event.blockedURI);
});
"""
# Of plotly's drawings only what could do something: their sizes differ with the texts.
_SEEN = """
const drawn = '.js-plotly-plot';
const elements = [...document.querySelectorAll('*')].filter(
  (one) => !one.parentElement?.closest(drawn));
const speaking = new Set(['alt', 'aria-label', 'value', 'title']);
const fits = (one, name) => !one.closest(drawn) || ['src', 'href', 'action'].includes(name)
  || name.startsWith('on');
return {
  told: window.__told,
  skeleton: elements.map((one) => one.tagName + ' ' + [...one.attributes]
    .filter(({name}) => fits(one, name))
    .map(({name, value}) => speaking.has(name) ? name : `${name}=${value}`)
    .join(' ')),
  inside: [...document.querySelectorAll(`${drawn} a, ${drawn} script, ${drawn} foreignObject,`
    + `${drawn} iframe, ${drawn} image`)].map((one) => one.outerHTML),
  handlers: [...document.querySelectorAll('*')].flatMap((one) => [...one.attributes])
    .map(({name}) => name).filter((name) => name.startsWith('on')),
  asked: performance.getEntriesByType('resource').map((one) => one.name),
  busy: document.querySelectorAll('[aria-busy=true]').length,
  ready: document.querySelectorAll('.js-plotly-plot').length > 1
    && document.querySelectorAll('#queue .card').length === 8
    && document.querySelectorAll('#review .card').length > 0,
};
"""


@pytest.fixture(autouse=True)
def console() -> None:
    """In place of the folder's own, which needs Label Studio: the test asks for itself."""


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the dashboard is, with its login: a project for each text."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        label_studio_url=LABEL_STUDIO,
        basic_auth_user="label",
        basic_auth_pass="label",
    )
    stores = ProjectStores(settings.data_dir, LABEL_STUDIO)
    for number, text in enumerate(PLANTED, start=1):
        Hostile(settings, stores.create(number, 1_795_231_806, text), rare=text).fill()
    app = create_app(settings, Jobs(settings))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def seen(window: Browser, url: str, *, whole: bool) -> dict[str, Any]:
    """What a page came to, once its panels and figures are there."""
    window.open(url)
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(window.run(_SEEN))
        return not found["busy"] and (bool(found["ready"]) or not whole)

    window.until(look, f"{url} is whole")
    return found


def test_no_text_of_others_does_anything_in_a_browser(window: Browser, address: str) -> None:
    """No dialog, nothing that the policy had to stop, no complaint, no request elsewhere."""
    window.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
    paths = ("", "/queue", "/review", "/compare?a=v0001&b=v0002")
    expected: dict[str, list[str]] = {}
    ours = {address, f"label:label@{address}"}
    for number, text in enumerate(PLANTED, start=1):
        for path in paths:
            url = f"http://label:label@{address}/project/{number}{path}"
            found = seen(window, url, whole=path == "")
            # Sorted: rows of classes come in the order of their names.
            shape = sorted(
                one.replace(f"/project/{number}", "/project/N") for one in found["skeleton"]
            )
            assert shape == expected.setdefault(path, shape), (path, text)
            assert found["told"] == [], (path, text)
            assert found["inside"] == found["handlers"] == [], (path, text)
            elsewhere = [one for one in found["asked"] if urlsplit(one).netloc not in ours]
            assert elsewhere == [], (path, text)
    home = seen(window, f"http://label:label@{address}/", whole=False)
    assert home["told"] == home["handlers"] == []
    assert len(expected["/queue"]) > 50
    assert window.severe() == []
