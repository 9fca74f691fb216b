"""What a person sees in Prefect's own pages, in a real browser on a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from browser import Browser
from command_line import Edco, ask_prefect, wait

pytestmark = pytest.mark.browser


def found(prefect_url: str, kind: str, name: str, says: str = "") -> dict[str, Any]:
    """The only one of its kind and name on the server whose state says that."""
    named = {kind: {"name": {"any_": [name]}}}
    every = ask_prefect(f"{prefect_url}/{kind}/filter", named)
    [one] = [each for each in every if says in str(each.get("state"))]
    return dict(one)


@pytest.fixture(scope="module")
def form(
    browser: Browser, prefect_url: str, new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> Browser:
    """The form that starts a run of a deployment."""
    edco = new_edco()
    config = {**tiny_config, "run": {"name": "shown", "seed": 3},
              "curriculum": {"type": "random", "intervals": 2, "top_n": 12}}  # fmt: skip
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    edco("deploy", "edco.yaml")
    deployment = found(prefect_url, "deployments", "shown")
    browser.open(f"deployments/deployment/{deployment['id']}/run", "Parameters", "Curriculum")
    return browser


def test_the_form_has_names_and_descriptions_and_the_choices_of_every_union(form: Browser) -> None:
    form.wait_for(
        "Name Or Path", "A local folder, a hub id, or run:RUN_ID",
        "Prefix Tokens", "L, generated tokens per sample.",
        "Top N", "Count, or fraction of the pool.",
        "Keep Checkpoints", "The start, the best and the newest always stay.",
        "prefix_entropy", "full_entropy", "edco", "random",
    )  # fmt: skip


def test_the_form_is_filled_in_with_what_was_deployed(form: Browser) -> None:
    values = {each.get_attribute("value") for each in form.all("input, textarea")}
    assert {"shown", "3", "2", "12", "16"} <= values, values


def test_a_setting_of_another_strategy_is_not_asked_for(form: Browser) -> None:
    assert "Skip Top" not in form.text  # of edco, and this is random


@pytest.fixture(scope="module")
def run_page(browser: Browser, prefect_url: str, finished: Edco) -> Browser:
    """The page of a finished run, once the server knows all of it: it learns of tasks later."""
    # Other tests have runs of this name on the same server; none has this folder.
    run = found(prefect_url, "flow_runs", "whole", says=f"{finished.folder}/runs/whole/final")
    last = {"flow_runs": {"id": {"any_": [run["id"]]}}, "task_runs": {"name": {"any_": ["finish"]}}}
    tasks = f"{prefect_url}/task_runs/filter"
    wait(lambda: ask_prefect(tasks, last))
    browser.open(f"runs/flow-run/{run['id']}", "whole", "Completed")
    return browser


def test_the_page_of_a_run_names_its_tasks_and_what_it_is(run_page: Browser) -> None:
    run_page.wait_for("edco", "sft", "run:whole")
    run_page.click("Task Runs")
    run_page.wait_for("score · interval 0", "train · interval 2")


def test_the_page_of_a_run_shows_its_intervals_as_a_table_and_a_chart(run_page: Browser) -> None:
    run_page.click("Artifacts")
    run_page.wait_for("whole-intervals", "whole-chart", "whole-files")
