"""All numbers of a table as plain values, and as CSV."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from vnl_envs.scoring.board import views
from vnl_envs.scoring.board.tables import Row, Table
from vnl_envs.scoring.documents.schema.result import Estimate
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.scoring.results.aggregates import AGGREGATES

# A spreadsheet evaluates texts that start with these.
_FORMULAS = ("=", "+", "-", "@", "\t")


def records(table: Table) -> list[dict[str, Any]]:
    """All numbers of each row as plain values, with the same keys in every row."""
    return [_record(table, row) for row in table.rows]


def _record(table: Table, row: Row) -> dict[str, Any]:
    entrant, stamp = row.result.entrant, row.result.suite
    values: dict[str, Any] = {
        "rank": row.rank,
        "name": row.name,
        "authors": row.authors,
        "status": row.status,
        "episodes_run_again": row.beside.verified.run_again if row.beside.verified else 0,
        "identity": entrant.identity,
        "licence": entrant.licence,
        "date": str(entrant.date),
        "suite": stamp.name,
        "suite_sha256": stamp.sha256,
        "split": table.split,
        "season": table.season,
        "engine": row.result.engine,
        "complete": row.result.complete,
        **_spread("overall", row.result.overall),
        **{a.name: row.aggregate(a.name) for a in AGGREGATES if not a.nominal},
        "engine_gap": row.gap,
        "algorithms": row.algorithms,
        "env_steps": row.steps,
        "parameters": row.parameters,
        "result": row.download,
    }
    for task in row.tasks:
        values |= _spread(f"{task.task.id} primary", task.primary)
        values |= _spread(f"{task.task.id} normalised", task.normalised)
        for aggregate, tier in itertools.product(AGGREGATES, task.task.tiers):
            if aggregate.nominal == (tier == NOMINAL):
                figure = task.aggregate(aggregate.name, tier)
                name = f"{task.task.id} {aggregate.name} {tier}"
                values[name] = figure.value if figure else None
    return values


def _spread(name: str, estimate: Estimate) -> dict[str, float | None]:
    low, high = views.ends(estimate) or (None, None)
    return {name: estimate.value, f"{name} low": low, f"{name} high": high}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV (RFC 4180). Texts that a spreadsheet would evaluate are quoted."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [])
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"
    return value
