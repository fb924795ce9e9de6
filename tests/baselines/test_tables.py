"""Plots and tables of the pages are those of the committed results."""

import re

import pytest

pytest.importorskip("matplotlib")

from baselines import tables

STALE = "run python -m baselines.tables"


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_is_that_of_the_committed_results(name):
    table = tables.TABLES[name]
    page = (tables.DOCS / table.page).read_text("utf-8")
    assert tables.with_table(page, name, table.text()) == page, STALE


def test_every_table_that_a_page_says_is_made_is():
    named = [
        (name, page.name)
        for page in tables.DOCS.rglob("*.md")
        for name in re.findall(
            r"<!-- (\w+): python -m baselines.tables -->", page.read_text("utf-8")
        )
    ]
    assert sorted(named) == sorted((name, table.page) for name, table in tables.TABLES.items())


@pytest.mark.parametrize("picture", tables.PLOTS)
def test_a_plot_is_of_the_committed_logs(picture):
    assert tables.drawn_from(picture) == tables.digest(picture), STALE
