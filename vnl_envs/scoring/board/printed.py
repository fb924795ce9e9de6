"""Terminal output for comparisons, bundles and verifications. `report.py` has that for results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from vnl_envs.scoring.results.aggregates import AGGREGATES, Aggregate, Difference
from vnl_envs.utils.texts import shown

if TYPE_CHECKING:
    from vnl_envs.scoring.results.compare import Comparison
    from vnl_envs.scoring.submission.bundles import Bundle
    from vnl_envs.statistics.intervals import Paired

LEGEND = (
    "Positive: A is better. Not separated: chance alone gives such a difference in 5 % of cases or "
    "more."
)


def foreign(text: str, style: str = "") -> Text:
    """Untrusted text in printable form, without control of terminals or Rich."""
    return Text(shown(text, None), style)


def differences(found: Comparison, a: float | None, b: float | None) -> Table:
    """A table of both scores and of their paired differences."""
    table = Table(
        "task",
        "A",
        "B",
        "A - B",
        "95 % interval",
        "p",
        "verdict",
        title=Text("\n").join([foreign(f"A: {found.a}"), foreign(f"B: {found.b}")]),
        title_justify="left",
    )
    for task, row in found.tasks.items():
        table.add_row(task, f"{row.a:.3f}", f"{row.b:.3f}", *_difference(row.primary))
    table.add_section()
    scores = ("" if score is None else f"{score:.3f}" for score in (a, b))
    table.add_row("overall, normalised", *scores, *_difference(found.overall))
    return table


def _difference(paired: Paired) -> tuple[str, str, str, str]:
    verdict = "not separated"
    if paired.separates:
        verdict = "A better" if paired.difference > 0 else "B better"
    interval = _interval(paired, 3) or "-"
    return f"{paired.difference:+.3f}", interval, f"{paired.p:.4f}", verdict


def _interval(found: Paired | Difference, digits: int) -> str:
    """An interval such as "+0.120 to +0.310"; "" if there is none."""
    if math.isnan(found.low) or found.low == found.high:
        return ""
    return f"{found.low:+.{digits}f} to {found.high:+.{digits}f}"


def _kept(found: Difference | None) -> str:
    if found is None:
        return "-"
    interval = _interval(found, 2)
    return f"{found.difference:+.2f}" + (f" ({interval})" if interval else "")


def aggregates(found: Comparison) -> list[Table]:
    """A table for each compared aggregate, with differences by tier."""
    return [_aggregate(aggregate, found) for aggregate in AGGREGATES if aggregate.difference]


def _aggregate(aggregate: Aggregate, found: Comparison) -> Table:
    rows = {task: row.aggregates[aggregate.name] for task, row in found.tasks.items()}
    tiers = list(dict.fromkeys(tier for row in rows.values() for tier in row))
    table = Table("task", *tiers, title=f"{aggregate.heading}, A - B", title_justify="left")
    for task, row in rows.items():
        table.add_row(task, *(_kept(row.get(tier)) for tier in tiers))
    return table


def bundle(checked: Bundle) -> Table:
    """A table of the policies of a bundle."""
    submission = checked.submission
    table = Table(
        "task",
        "parameters",
        "observation",
        "state",
        "action",
        "algorithm",
        "steps",
        title=foreign(f"{submission.name}, for {submission.suite}"),
        title_justify="left",
    )
    for task, policy in checked.policies.items():
        training = submission.tasks[task].training
        numbers = (policy.parameters, policy.observation, policy.state, policy.action)
        table.add_row(
            task, *map(str, numbers), foreign(training.algorithm), str(training.env_steps)
        )
    return table


def bundle_record(checked: Bundle) -> dict[str, Any]:
    """The policies of a bundle as plain values for JSON."""
    return {
        "identity": checked.identity,
        "name": checked.submission.name,
        "suite": checked.submission.suite,
        "policies": {
            task: {
                "path": policy.path,
                "sha256": policy.sha256,
                "parameters": policy.parameters,
                "observation": policy.observation,
                "state": policy.state,
                "action": policy.action,
            }
            for task, policy in checked.policies.items()
        },
    }


def verified(record: Mapping[str, Any]) -> list[str]:
    """Lines that describe a successful verification; `record` is the output of `verify --json`."""
    lines = [f"sound: all sums follow from its {record['episodes']} episodes"]
    if "not_run_again" in record:
        return [*lines, f"no episode was run again: {record['not_run_again']}"]
    sample = "all" if record["seed"] is None else f"drawn with --seed {record['seed']}"
    counts = f"{record['run_again']} of {record['playable']}, {sample}"
    same = f"{record['same_to_the_bit']} of them the same to the bit"
    lines.append(f"episodes run again: {counts}; {same}")
    if record["differing_stamps"]:
        names = ", ".join(map(shown, record["differing_stamps"]))
        lines.append(f"computed elsewhere ({names} differ): compared within the tolerance")
    if "record" in record:
        lines.append(f"wrote {record['record']}")
    return lines
