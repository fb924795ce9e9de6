"""The command line: `vnl-envs` or `python -m vnl_envs`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

import vnl_envs
from vnl_envs.cli.data import app as data_app
from vnl_envs.cli.neural import app as neural_app
from vnl_envs.cli.score import app as score_app
from vnl_envs.cli.terminal import (
    AsJson,
    TaskOptions,
    check_asked,
    console,
    one_line_errors,
    parse_options,
)
from vnl_envs.registry import get_row
from vnl_envs.utils import checks
from vnl_envs.utils.texts import shown

if TYPE_CHECKING:
    from vnl_envs.envs.core import Core

app = typer.Typer(
    name="vnl-envs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.add_typer(neural_app, name="neural")
app.add_typer(score_app, name="score")

TaskId = Annotated[str, typer.Argument(metavar="ID", help="a task id, see `vnl-envs list`")]
PolicyName = Annotated[
    str,
    typer.Option(help="zero, random, track or feedforward (imitation only), or FILE.onnx"),
]
Seed = Annotated[int, typer.Option(help="seed of the episodes and of the random policy")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vnl-envs {vnl_envs.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="print the version and exit"
        ),
    ] = False,
) -> None:
    """Benchmark suite for embodied motor control."""


@app.command("list")
def list_tasks(as_json: AsJson = False) -> None:
    """List the tasks with id, body, spaces and horizon, and the races of several animals."""
    rows = [_summary(task_id, _core(task_id)) for task_id in vnl_envs.task_ids()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("id", "body", "observation", "action", "rate", "horizon")
    for row in rows:
        table.add_row(
            row["id"],
            row["body"],
            f"({row['observation_size']},)",
            f"({row['action_size']},)",
            f"{row['control_rate_hz']:g} Hz",
            str(row["horizon"]),
        )
    console.print(table)
    races = Table(
        "id", "body", title="Several animals: vnl_envs.parallel_env(id)", title_justify="left"
    )
    for race_id in vnl_envs.parallel_ids():
        races.add_row(race_id, get_row(race_id).body)
    console.print(races)


def _core(task_id: str, **options: Any) -> Core:
    from vnl_envs.envs.core import Core

    return Core(vnl_envs.make_task(task_id, **options), 1, 1)


def _summary(task_id: str, core: Core) -> dict[str, Any]:
    return {
        "id": task_id,
        "body": core.task.body.body.name,
        "observation_size": core.size,
        "action_size": core.task.body.nu,
        "control_rate_hz": round(1 / core.task.dt, 6),
        "horizon": core.task.horizon,
    }


@app.command()
def info(task_id: TaskId, option: TaskOptions = None, as_json: AsJson = False) -> None:
    """Describe a task: observations, reward terms, options, metrics and hash."""
    from vnl_envs.identity import env_hash
    from vnl_envs.tasks.metrics import STANDARD

    with one_line_errors():
        core = _core(task_id, **parse_options(task_id, option))
    task = core.task
    described = {
        **_summary(task_id, core),
        "env_hash": env_hash(task_id, task),
        "observation": {name: [s.start, s.stop] for name, s in core.layout.items()},
        "actions": list(task.body.actuator_names),
        "reward_terms": task.reward_terms,
        "metrics": [vars(metric) for metric in STANDARD + task.metrics],
        "options": vnl_envs.task_options(task_id),
    }
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    console.print(f"[bold]{task_id}[/bold]  hash {described['env_hash']}")
    console.print((type(task.unwrapped).__doc__ or "").split("\n\n    Args:")[0], markup=False)
    observation = Table("observation", "slice", "size", title="Observation", title_justify="left")
    for name, span in core.layout.items():
        size = span.stop - span.start
        observation.add_row(name, f"{span.start}:{span.stop}", str(size))
    console.print(observation)
    for title, pairs in (("Reward terms", task.reward_terms), ("Options", described["options"])):
        table = Table("name", "meaning", title=title, title_justify="left")
        for name, meaning in pairs.items():
            table.add_row(name, meaning)
        console.print(table)
    metrics = Table(
        "name", "unit", "over an episode", "better", title="Metrics", title_justify="left"
    )
    for metric in STANDARD + task.metrics:
        metrics.add_row(metric.name, metric.unit, metric.reduce, metric.direction)
    console.print(metrics)


@app.command()
def play(
    task_id: TaskId,
    video: Annotated[Path | None, typer.Option(help="the .mp4 or .gif to write")] = None,
    html: Annotated[
        Path | None, typer.Option(help="the .html replay to write, for a browser")
    ] = None,
    policy: PolicyName = "zero",
    seconds: Annotated[float, typer.Option(help="length, s")] = 10.0,
    seed: Seed = 0,
    width: Annotated[int, typer.Option(help="width of the video, pixels")] = 480,
    height: Annotated[int, typer.Option(help="height of the video, pixels")] = 368,
    option: TaskOptions = None,
) -> None:
    """Write a video or a replay of a policy, episode after episode."""
    from vnl_envs.evaluation.play import write_replay, write_video

    with one_line_errors():
        check_asked(video, html)
        options = parse_options(task_id, option)
        if video:
            write_video(task_id, policy, video, seconds, seed, (width, height), **options)
        if html:
            write_replay(task_id, policy, html, seconds, seed, **options)
    for written in filter(None, (video, html)):
        typer.echo(f"wrote {written}")


@app.command()
def rollout(
    task_id: TaskId,
    out: Annotated[Path, typer.Option(help="the .h5 file to write")],
    policy: PolicyName = "zero",
    episodes: Annotated[int, typer.Option(min=1, help="number of episodes")] = 10,
    seed: Seed = 0,
    option: TaskOptions = None,
) -> None:
    """Record episodes to HDF5: states, contacts, actions, observations, rewards, labels."""
    from vnl_envs.evaluation.record import record

    with one_line_errors():
        steps = record(
            task_id, policy, out, episodes, seed, progress=True, **parse_options(task_id, option)
        )
    typer.echo(f"wrote {out}: {episodes} episodes, {steps} steps")


@app.command()
def evaluate(
    task_id: TaskId,
    policy: PolicyName = "zero",
    episodes: Annotated[int, typer.Option(min=1, help="number of episodes")] = 20,
    seed: Seed = 0,
    num_envs: Annotated[int, typer.Option(min=1, help="number of simulations at a time")] = 16,
    processes: Annotated[int, typer.Option(min=1, help="number of processes that step them")] = 1,
    by_label: Annotated[bool, typer.Option(help="also print a table for each behaviour")] = False,
    option: TaskOptions = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a policy: means over episodes with 95 % intervals."""
    from vnl_envs.evaluation.evaluate import evaluate as run

    with one_line_errors():
        result = run(
            task_id,
            policy,
            episodes,
            seed,
            num_envs,
            progress=not as_json,
            processes=processes,
            **parse_options(task_id, option),
        )
    if as_json:
        typer.echo(json.dumps(result.record(), indent=2))
        return
    console.print(score_table(f"{task_id}, {policy}, {episodes} episodes", result.summaries()))
    if (cost := result.cost_of_transport) is not None:
        console.print(f"cost of transport (energy / weight / distance): {cost:.3g}")
    if by_label:
        for label in sorted(set(result.labels) - {""}):
            count = int((result.labels == label).sum())
            title = f"{shown(label)}, {count} episodes"
            console.print(score_table(title, result.summaries(label)))


def score_table(title: str, summaries: list[Any]) -> Table:
    """A table of metrics with intervals and numbers of independent units."""
    table = Table(
        "metric", "mean", "95 % interval", "of", "unit", title=Text(title), title_justify="left"
    )
    for s in summaries:
        interval = f"[{s.low:.4g}, {s.high:.4g}]" if np.isfinite(s.low) else "-"
        mean = f"{s.mean:.4g}" if np.isfinite(s.mean) else "-"
        units = f"{s.units} {s.unit_name}" + ("" if s.units == 1 else "s")
        table.add_row(s.metric.name, mean, Text(interval), units, s.metric.unit)
    return table


@app.command()
def bench(
    task_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="a task id, see `vnl-envs list`")
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="measure every task on every engine, as batched JAX environments"
        ),
    ] = False,
    impl: Annotated[list[str] | None, typer.Option(help="with --all: only these engines")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="with --all: only these batches")] = None,
    num_envs: Annotated[int, typer.Option(min=2, help="number of environments of the vector")] = 64,
    threads: Annotated[int, typer.Option(help="threads of each process; 0: one for every CPU")] = 0,
    processes: Annotated[
        int, typer.Option(min=1, help="number of processes that step the vector")
    ] = 1,
    steps: Annotated[int, typer.Option(min=1, help="control steps per round")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="measured rounds")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure steps per second: relative to the bare physics, or (--all) of all engines in JAX."""
    if every:
        with one_line_errors():
            _bench_all([task_id] if task_id else list(vnl_envs.task_ids()), impl, batch, as_json)
        return
    with one_line_errors():
        if task_id is None:
            raise ValueError("give a task id, or --all for every task; see `vnl-envs list`")
        _bench_one(task_id, num_envs, threads, processes, steps, rounds, as_json)


def _bench_one(
    task_id: str,
    num_envs: int,
    threads: int,
    processes: int,
    steps: int,
    rounds: int,
    as_json: bool,
) -> None:
    from vnl_envs.benchmarking import throughput

    measured = {
        f"vector of {num_envs}": throughput.beside_bare(
            task_id, num_envs, threads, steps, rounds, processes
        ),
        "single": throughput.beside_bare(task_id, 1, 1, steps * 10, rounds),
    }
    rows = [
        {"environment": name, "steps_per_s": speed, "bare_steps_per_s": bare, "ratio": ratio}
        for name, (speed, bare, ratio) in measured.items()
    ]
    if as_json:
        typer.echo(
            json.dumps({"task": task_id, "machine": throughput.machine(), "rows": rows}, indent=2)
        )
        return
    table = Table(
        "environment", "steps/s", "bare physics", "ratio", title=task_id, title_justify="left"
    )
    for row in rows:
        cells = [f"{row[key]:.0f}" for key in ("steps_per_s", "bare_steps_per_s")]
        table.add_row(str(row["environment"]), *cells, f"{row['ratio']:.2f}")
    console.print(table)
    console.print(", ".join(f"{k} {v}" for k, v in throughput.machine().items()))


def _bench_all(
    task_ids: list[str], impls: list[str] | None, batches: list[int] | None, as_json: bool
) -> None:
    from vnl_envs.benchmarking import functional as bench

    for task_id in task_ids:
        vnl_envs.task_options(task_id)
    for name in impls or ():
        checks.choice("impl", name, bench.IMPLS)
    result = bench.measure_all(
        task_ids,
        impls or bench.IMPLS,
        batches or bench.BATCHES,
        progress=lambda text: typer.echo(text, err=True),
    )
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    table = Table("task", "engine", "batch", "trace s", "compile s", "steps/s", "of vector", "note")
    for row in result["rows"]:
        cells = [row[key] for key in ("trace_s", "compile_s", "steps_per_s", "of_vector")]
        texts = ["" if cell is None else f"{cell:.3g}" for cell in cells]
        table.add_row(row["task"], row["impl"], str(row["batch"]), *texts, row["note"])
    console.print(table)
    console.print(", ".join(f"{k} {v}" for k, v in result["machine"].items()))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for pages and videos")] = Path("out"),
) -> None:
    """Write replays and videos of a trained rat and a trained humanoid, and print their scores."""
    from vnl_envs.cli.demo import run, written

    with one_line_errors():
        console.print(run(out))
    for line in written(out):
        typer.echo(line)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except BrokenPipeError:
        # The reader of the output has closed it, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
