"""What the commands print of comparisons, bundles and verified results; `report.py` has results."""

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
    """A text of others as it may be printed: neither terminals nor Rich obey it."""
    return Text(shown(text, None), style)


def differences(found: Comparison, a: float | None, b: float | None) -> Table:
    """Scores of both, and by how much A is ahead in the same episodes."""
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
    """Such as "+0.120 to +0.310"; "" where there is none."""
    if math.isnan(found.low) or found.low == found.high:
        return ""
    return f"{found.low:+.{digits}f} to {found.high:+.{digits}f}"


def _kept(found: Difference | None) -> str:
    if found is None:
        return "-"
    interval = _interval(found, 2)
    return f"{found.difference:+.2f}" + (f" ({interval})" if interval else "")


def aggregates(found: Comparison) -> list[Table]:
    """Differences of the aggregates that are compared, by tier."""
    return [_aggregate(aggregate, found) for aggregate in AGGREGATES if aggregate.difference]


def _aggregate(aggregate: Aggregate, found: Comparison) -> Table:
    rows = {task: row.aggregates[aggregate.name] for task, row in found.tasks.items()}
    tiers = list(dict.fromkeys(tier for row in rows.values() for tier in row))
    table = Table("task", *tiers, title=f"{aggregate.heading}, A - B", title_justify="left")
    for task, row in rows.items():
        table.add_row(task, *(_kept(row.get(tier)) for tier in tiers))
    return table


def bundle(checked: Bundle) -> Table:
    """The policies of a bundle."""
    said = checked.submission
    table = Table(
        "task",
        "parameters",
        "observation",
        "state",
        "action",
        "algorithm",
        "steps",
        title=foreign(f"{said.name}, for {said.suite}"),
        title_justify="left",
    )
    for task, policy in checked.policies.items():
        training = said.tasks[task].training
        numbers = (policy.parameters, policy.observation, policy.state, policy.action)
        table.add_row(
            task, *map(str, numbers), foreign(training.algorithm), str(training.env_steps)
        )
    return table


def bundle_record(checked: Bundle) -> dict[str, Any]:
    """The same as plain values for JSON."""
    said = checked.submission
    return {
        "identity": checked.identity,
        "name": said.name,
        "suite": said.suite,
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


def verified(told: Mapping[str, Any]) -> list[str]:
    """Lines on how a result was found to be sound; `told` is what `verify --json` says."""
    lines = [f"sound: all sums follow from its {told['episodes']} episodes"]
    if "not_run_again" in told:
        return [*lines, f"no episode was run again: {told['not_run_again']}"]
    chosen = "all" if told["seed"] is None else f"drawn with --seed {told['seed']}"
    counts = f"{told['run_again']} of {told['playable']}, {chosen}"
    same = f"{told['same_to_the_bit']} of them the same to the bit"
    lines.append(f"episodes run again: {counts}; {same}")
    if told["differing_stamps"]:
        names = ", ".join(map(shown, told["differing_stamps"]))
        lines.append(f"computed elsewhere ({names} differ): compared within the tolerance")
    if "record" in told:
        lines.append(f"wrote {told['record']}")
    return lines
