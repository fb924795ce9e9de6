"""Reports of a result: text tables and an HTML page for people, a record for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from vnl_envs.scoring.board import charts, views
from vnl_envs.scoring.board.printed import foreign
from vnl_envs.scoring.board.views import TaskFigures, by_task, plain
from vnl_envs.scoring.documents.schema.result import Estimate, Result
from vnl_envs.scoring.documents.schema.suite import Suite
from vnl_envs.scoring.documents.suites import NOMINAL
from vnl_envs.scoring.results.aggregates import AGGREGATES, Aggregate
from vnl_envs.scoring.results.files import NATIVE, is_exposed
from vnl_envs.scoring.run.plan import part_of
from vnl_envs.utils.html import environment
from vnl_envs.utils.texts import shown

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from vnl_envs.scoring.board.replays import TaskReplays

FORMAT, VERSION = "vnl_envs-score-report", 1
MOST_LISTED = 30
"""Greatest number of episodes that a page lists for each reason why episodes count 0."""

_LEGEND = (
    "In brackets: 95 % intervals over independent units. Normalised: 0 is the random policy, 1 the "
    "metric's ceiling. Count 0: nominal episodes that failed. Kept: share of the nominal primary "
    "metric."
)


class Drawing(NamedTuple):
    """A plot, and the series of its legend."""

    svg: Markup
    series: Sequence[charts.Series]


def summary(result: Result, suite: Suite) -> Group:
    """Tables for a terminal of 80 columns or more: scores, and aggregates under perturbations."""
    tasks = by_task(result, suite)
    heading = foreign(result.entrant.name, "bold")
    heading.append(f"  {result.suite.name}, {result.split}, {result.engine}", "not bold")
    parts: list[Any] = [heading, Text(""), _scores(result, tasks)]
    tiers = [tier for tier in suite.tiers if tier != NOMINAL]
    if tiers:
        for aggregate in AGGREGATES:
            if not aggregate.nominal:
                parts += [Text(""), _robustness(aggregate, tasks, tiers)]
    parts += [Text(""), Text(_LEGEND, "dim")]
    return Group(*parts, *(Text(line, "yellow") for line in _remarks(result, suite, tasks)))


def _scores(result: Result, tasks: Sequence[TaskFigures]) -> Table:
    table = _table("task", "primary", "normalised", "count 0", "what is primary")
    table.columns[-1].justify = "left"
    for task in tasks:
        nominal = task.tier(NOMINAL)
        failed = sum(nominal.failed.values()) if nominal else 0
        table.add_row(
            views.title(task.task.id),
            _with_interval(task.primary),
            _with_interval(task.normalised),
            str(failed) if failed else views.NONE,
            foreign(task.task.primary.name),
        )
    table.add_section()
    table.add_row(Text("overall", "bold"), "", _with_interval(result.overall, "bold"))
    return table


def _robustness(aggregate: Aggregate, tasks: Sequence[TaskFigures], tiers: Sequence[str]) -> Table:
    def means(of: Sequence[TaskFigures]) -> list[str]:
        values = (views.mean_aggregate(aggregate.name, of, tier) for tier in tiers)
        return [views.valued(aggregate, value) for value in values]

    table = _table(f"{aggregate.heading.lower()} under", *tiers)
    for task in tasks:
        table.add_row(views.title(task.task.id), *means([task]))
    table.add_section()
    table.add_row(Text("mean", "bold"), *(Text(mean, "bold") for mean in means(tasks)))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _with_interval(estimate: Estimate, style: str = "") -> Text:
    return Text.assemble(
        (views.number(estimate.value), style), (f" {views.interval(estimate)}", "dim")
    )


def _remarks(result: Result, suite: Suite, tasks: Sequence[TaskFigures]) -> list[str]:
    """Remarks that a reader needs to judge the numbers."""
    lines = [] if result.complete else ["incomplete: not ranked"]
    for name, pin in suite.pins.items():
        if (has := result.stamps.get(name, "unknown")) != pin:
            lines.append(shown(f"computed with {name} {has}, the suite is of {pin}"))
    if is_exposed(result):
        lines.append("the policies ran outside the sandbox")
    for task in tasks:
        reasons = Counter(episode.reason for episode in task.episodes if episode.reason)
        name = views.title(task.task.id)
        total = len(task.episodes)
        lines += [f"{name}: {n} of {total} episodes count 0: {why}" for why, n in reasons.items()]
    return lines


def record(result: Result, suite: Suite) -> dict[str, Any]:
    """The scores as plain values for JSON, without single episodes."""
    content = result.model_dump(mode="json", exclude={"episodes"})
    for task in by_task(result, suite):
        entry = content["tasks"].setdefault(task.task.id, {})
        entry["primary"] = task.task.primary.model_dump(mode="json")
        entry["failures"] = [
            {"tier": tier, "reason": reason, "episodes": ids}
            for tier, reason, _, ids in task.failures
        ]
        entry["cells"] = {
            cell.cell.id: {"mean": cell.mean, "counted": cell.cell.counted, "ends": cell.ends}
            for cell in task.cells
        }
    return {"format": FORMAT, "version": VERSION, **content}


def page(
    result: Result,
    suite: Suite,
    replays: Sequence[TaskReplays] = (),
    folder: str = "",
    key: str = "",
) -> str:
    """One self-contained HTML page without scripts.

    Args:
        result, suite: result and its suite.
        replays: those that it links to.
        folder: address of their pages.
        key: first part of the pages' names.
    """
    from markupsafe import Markup

    style = resources.files("vnl_envs.scoring.board").joinpath("templates/style.css")
    template = templates().get_template("report.html")
    # The style sheet is trusted, and must not be escaped.
    values = context(result, suite) | {"replays": replays, "folder": folder, "key": key}
    return template.render(style=Markup(style.read_text("utf-8")), **values)


def context(
    result: Result, suite: Suite, file: str = "result.json", bundle: str = "BUNDLE.zip"
) -> dict[str, Any]:
    """The variables of `entry_body.html`.

    Args:
        result, suite: result and its suite.
        file, bundle: names of the result and of the bundle in commands.
    """
    tasks = by_task(result, suite)
    return {
        "result": result,
        "suite": suite,
        "tasks": tasks,
        "domain": charts.domain([result.overall, *(task.normalised for task in tasks)]),
        "reproduce": reproduce(result, suite, file, bundle),
        "most": MOST_LISTED,
    }


def reproduce(result: Result, suite: Suite, file: str, bundle: str) -> str:
    """The commands that compute a result again, and that verify it with its policies.

    The first one is left out if no options of `run` give exactly the result's episodes.
    """
    kind, _, name = result.entrant.identity.rpartition(":")
    season = " --season-key KEY" if result.season else ""
    candidate, files = (f"--reference {name}", file) if kind else (bundle, f"{file} {bundle}")
    commands = [f"verify {files}{season}"]
    part = _part_options(result, suite)
    if part is not None:
        engine = "" if result.engine == NATIVE else f" --engine {result.engine}"
        split = f"--suite {result.suite.name} --split {result.split}{season}"
        commands.insert(0, f"run {candidate} {split}{engine}{part} --out run")
    return "\n".join(f"vnl-envs score {command}" for command in commands)


def _part_options(result: Result, suite: Suite) -> str | None:
    """The options of `run` for the episodes of a result; None if no options give them."""
    ids = [episode.id for episode in result.episodes]
    counts = Counter(spec.task for spec in suite.restricted(ids).specs)
    tasks = list(counts) if len(counts) < len(suite.tasks) else []
    for number in (None, max(counts.values(), default=None)):
        part = part_of(suite, result.engine, tasks, number)
        if [spec.id for spec in (part or suite).specs] == ids:
            options = [f" --task {task}" for task in tasks]
            return "".join(options) + (f" --episodes {number}" if number else "")
    return None


def ladder(tasks: Sequence[tuple[str, TaskFigures]]) -> Drawing | None:
    """A plot of scores over gap widths with a line for each name; None if there are no widths."""
    series = [charts.Series(name, task.widths) for name, task in tasks if task.widths]
    series = series[: charts.LINES]
    if not series:
        return None
    return Drawing(charts.plot(series, "width of the gaps, m", "share cleared"), series)


def natural(task: TaskFigures) -> charts.Domain:
    """The domain from 0 to the ceiling of a task's primary metric."""
    return charts.Domain(0.0, task.task.primary.ceiling)


def ordered_strata(task: TaskFigures) -> list[tuple[str, Estimate]]:
    """The strata of a task; widths are sorted."""
    ladder = views.widths(task.strata)
    names = list(task.strata) if ladder is None else [text for _, text in ladder]
    return [(name, task.strata[name]) for name in names]


def templates() -> jinja2.Environment:
    """The templates of the pages of scores, with their filters and functions."""
    env = environment("vnl_envs.scoring.board")
    env.filters.update(
        number=views.number,
        significant=views.significant,
        interval=views.interval,
        significants=views.significants,
        percent=views.percent,
        percents=views.percents,
        count=views.count,
        raw=views.raw,
        valued=lambda value, aggregate: views.valued(aggregate, value),
        ranged=lambda estimate, aggregate: views.ranged(aggregate, estimate),
        is_exposed=is_exposed,
        title_of=views.title,
        plain=plain,
        slug=views.slug,
        metric=views.metric,
        stratum=views.stratum,
    )
    env.globals.update(
        bar=charts.bar,
        heat=charts.heat,
        ladder=ladder,
        natural=natural,
        strata=ordered_strata,
        aggregates=AGGREGATES,
        mean_aggregate=views.mean_aggregate,
        plain_pairs=lambda pairs: [(plain(k), plain(v)) for k, v in sorted(pairs.items())],
    )
    return env
