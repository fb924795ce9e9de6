"""Plots and tables of the pages are those of the committed results."""

import pytest

pytest.importorskip("matplotlib")

from baselines import tables


def test_the_table_is_that_of_the_committed_scores():
    page = tables.PAGE.read_text("utf-8")
    assert tables.with_table(page, tables.table()) == page, "run python -m baselines.tables"


@pytest.mark.parametrize("picture", tables.PLOTS)
def test_a_plot_is_of_the_committed_logs(picture):
    assert tables.drawn_from(picture) == tables.digest(picture), "run python -m baselines.tables"
