"""Label Studio's pages as a person uses them: what is read from them, what is pressed on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.e2e.browser.chromium import CONTROL, ENTER, Browser

_ROWS: Final = """
const columns = [...document.querySelectorAll('.lsf-table-head [data-id]')].map(e => e.dataset.id);
return [...document.querySelectorAll('[data-testid=table-row]')].map(row => {
  const cells = [...row.querySelectorAll('div.lsf-table__cell')];
  const text = name => (cells[columns.indexOf('tasks:' + name)] || {}).innerText || '';
  const image = row.querySelector('img');
  return {id: text('id'), score: text('predictions_score'),
          version: text('predictions_model_versions').replace(/\\s/g, ''),
          loaded: !!image && image.complete && image.naturalWidth > 0};
});
"""
_COLUMNS: Final = (
    "return [...document.querySelectorAll('.lsf-table-head [data-id]')].map(e => e.dataset.id)"
)
_CHOICES: Final = """
return [...document.querySelectorAll('.lsf-choice input')].map(e => [e.name, e.checked]);
"""
# The number of the task that is shown, as soon as its image is there too.
_TASK: Final = """
const shown = document.querySelector('.lsf-current-task__task-id');
const image = document.querySelector('img[src^="blob:"]');
if (!shown || !image || !image.complete || !image.naturalWidth) return 0;
return parseInt(shown.firstChild.textContent.replace('#', ''));
"""
_VERSIONS: Final = """
return [...document.querySelectorAll('.lsf-annotation-button')]
  .filter(tab => tab.querySelector('.lsf-annotation-button__userpic_prediction'))
  .map(tab => [tab.dataset.annotationId, tab.innerText]);
"""


def log_in(browser: Browser, url: str, *, email: str, password: str) -> None:
    """Log in with the form."""
    browser.open(url + "/user/login/")
    browser.fill("[name=email]", email)
    browser.fill("[name=password]", password)
    browser.click("button[type=submit]", text="Log in")
    browser.until(lambda: "/user/login" not in browser.driver.current_url, "logged in")


@dataclass(frozen=True)
class Settings:
    """The pages of a project's settings."""

    browser: Browser
    url: str
    project: int

    def open(self, page: str = "") -> None:
        """Open one of them, such as ``ml``."""
        self.browser.open(f"{self.url}/projects/{self.project}/settings/{page}")

    def connect(self, url: str, user: str, password: str, *, extra_params: str = "") -> None:
        """Fill the dialog "Connect Model" and press its button."""
        browser = self.browser
        self.open("ml")
        browser.click("button", text="Connect Model")
        browser.fill("input[name=title]", "rarefirst")
        browser.fill("input[name=url]", url)
        browser.click("button", text="No Authentication")
        browser.click("[role=option]", text="Basic Authentication")
        browser.fill("input[name=basic_auth_user]", user)
        browser.fill("input[name=basic_auth_pass]", password)
        browser.fill("textarea[name=extra_params]", extra_params)
        browser.click("button", text="Validate and Save")

    def _choose_from_menu(self, item: str) -> None:
        """Open the connection's menu and choose from it."""
        self.open("ml")
        self.browser.click("[aria-label='Machine learning model options']")
        self.browser.click("li", text=item)

    def change_extra_params(self, text: str) -> None:
        """Edit the connection: other extra params, everything else as it is."""
        browser = self.browser
        self._choose_from_menu("Edit")
        browser.fill("textarea[name=extra_params]", text)
        browser.click("button", text="Validate and Save")
        browser.until(lambda: not browser.all("textarea[name=extra_params]"), "it is saved")

    def start_training(self) -> None:
        """Press Start Training in the menu of the connection, and again in the dialog."""
        self._choose_from_menu("Start Training")
        self.browser.click("button", text="Start Training")
        self.browser.shows("Request Sent!")


@dataclass(frozen=True)
class Row:
    """One row of the Data Manager, as it is shown.

    Attributes:
        task: the task's id.
        score: as text, with three decimals.
        version: the names of all versions that have a prediction on the task.
        image_loaded: whether the thumbnail is there.
    """

    task: int
    score: str
    version: str
    image_loaded: bool


@dataclass(frozen=True)
class DataManager:
    """The list of a project's tasks."""

    browser: Browser
    url: str
    project: int

    def open(self) -> None:
        """Open it, with the tab that Label Studio chooses, and wait for rows."""
        self.browser.open(f"{self.url}/projects/{self.project}/data")
        self.browser.wait_for("[data-testid=table-row]")

    def tabs(self) -> list[str]:
        """Titles of the tabs."""
        return [tab.text for tab in self.browser.all(".lsf-tabs-dm__list [role=tab]")]

    def columns(self) -> list[str]:
        """Names of the columns that are shown."""
        listed: list[str] = self.browser.run(_COLUMNS)
        return listed

    def rows(self) -> list[Row]:
        """The rows near the visible part of the list, from the top."""
        return [
            Row(int(row["id"]), row["score"], row["version"], row["loaded"])
            for row in self.browser.run(_ROWS)
        ]

    def label_all(self) -> None:
        """Press "Label All Tasks"."""
        self.browser.click("button", text="Label All Tasks")

    def label_as_displayed(self) -> None:
        """Choose "Label Tasks As Displayed" behind the arrow beside it."""
        self.browser.click("button[aria-label='Toggle open']")
        self.browser.click(".lsf-menu-dm__item", text="Label Tasks As Displayed")


@dataclass(frozen=True)
class Labeling:
    """The page on which one task is labeled."""

    browser: Browser
    url: str
    project: int

    def open(self, task: int) -> None:
        """Open one task beside the list, as a click on its row does."""
        self.browser.open(f"{self.url}/projects/{self.project}/data?task={task}")
        self.wait_for_task(task)

    def wait_for_task(self, task: int) -> int:
        """Wait until this task is shown, with its image and its choices. Returns: its id."""

        def look() -> bool:
            return bool(self.browser.run(_TASK) == task and self._choices())

        self.browser.until(look, f"task {task} is shown")
        return task

    def wait_for_served(self, count: int) -> int:
        """Wait until the ``count``-th task since the page was loaded is shown. Returns: its id."""

        def look() -> bool:
            return len(self.browser.served()) >= count

        self.browser.until(look, f"Label Studio serves task {count}")
        served = int(self.browser.served()[count - 1]["id"])
        return self.wait_for_task(served)

    def _choices(self) -> dict[str, bool]:
        return dict(self.browser.run(_CHOICES))

    def chosen(self) -> list[str]:
        """The choices that are ticked."""
        return [name for name, ticked in self._choices().items() if ticked]

    def choose(self, choice: str, *, by_key: bool) -> None:
        """Tick a choice, with its hotkey or the mouse."""

        def tick() -> bool:
            if self.chosen() == [choice]:
                return True
            if by_key:
                self.browser.press(choice)
            else:
                self.browser.click(f".lsf-choice:has(input[name='{choice}']) label")
            # Only then once more: a second press takes the tick away.
            return self.browser.soon(lambda: self.chosen() == [choice])

        self.browser.until(tick, f"{choice} alone is ticked")

    def submit(self, *, by_key: bool = False) -> None:
        """Submit, with the hotkey or the mouse."""
        if by_key:
            self.browser.press(CONTROL, ENTER)
        else:
            self.browser.click("[data-testid=bottombar-submit-button]")

    def predictions(self) -> dict[int, str]:
        """The tabs of predictions above the image: ids and what stands on them."""
        return {int(number): text for number, text in self.browser.run(_VERSIONS)}

    def look_at_prediction(self, number: int) -> None:
        """Open the tab of one prediction."""
        self.browser.click(f"[data-annotation-id='{number}']")
        self.browser.wait_for(f".lsf-annotation-button_selected[data-annotation-id='{number}']")
