"""Scores of trained policies and of references, which need no training.

python -m baselines.score baselines/checkpoints/ppo/*.onnx --out baselines/results/ppo/scores.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import vnl_envs
from baselines.export import OnnxPolicy
from vnl_envs.bodies.model import BodyModel
from vnl_envs.evaluation.policies import FOLLOWING
from vnl_envs.motion.datasets import load_clips
from vnl_envs.tasks.cells import EachClip
from vnl_envs.utils.files import check_writable, written_whole

# Divisor of the physics time step, to test whether a score depends on it.
HALVED = 2
STARTS: dict[str, dict[str, Any]] = {
    "random frames": {},
    "first frame": {"start": 0, "noise": 0.02},
}
"""Starts of clip episodes: name -> options, with noise of the joint angles, rad."""


def score(path: Path, episodes: int, seed: int = 0, progress: bool = False) -> dict[str, Any]:
    """Metrics of a policy, at its own time step and at half of it, and those of the references.

    Args:
        path: ONNX policy that names its task.
        episodes, seed, progress: see `vnl_envs.evaluate`.

    Returns:
        Facts about the policy. "scores": mean and interval of each metric, by split of the clips
        ("" without clips) and policy. "kept": fraction of the return that is left at half the step,
        None without a return. For clips, "followed": share of all steps, and share of the episodes
        that reach the end, by split, policy and start.

    Raises:
        ValueError: the policy names no task, or a task that has changed since.
    """
    policy = OnnxPolicy.load(path)
    about = policy.metadata
    if "task" not in about:
        raise ValueError(f"{str(path)!r} does not say which task it is for")
    task_id = about["task"]
    options: dict[str, Any] = json.loads(about.get("options", "{}"))
    task = vnl_envs.make_task(task_id, **options)
    env_hash = vnl_envs.env_hash(task_id, task)
    if about.get("env_hash") != env_hash:
        raise ValueError(
            f"{str(path)!r} was trained on another {task_id}: its hash is "
            f"{about.get('env_hash')}, the task's {env_hash}"
        )
    follows = isinstance(task.unwrapped.cells, EachClip)
    entrants: dict[str, Any] = {"zero": "zero", "random": "random"}
    entrants |= {name: name for name in FOLLOWING} if follows else {}
    entrants |= {"trained": policy, "half step": policy}
    scores: dict[str, dict[str, Any]] = {}
    followed: dict[str, Any] = {}
    for split in _splits(task.body, options.get("clips")) if follows else ("",):
        scores[split] = {}
        for name, entrant in entrants.items():
            varied: dict[str, Any] = {"split": split} if split else {}
            varied |= {"timestep_divisor": HALVED} if name == "half step" else {}
            result = vnl_envs.evaluate(
                task_id, entrant, episodes, seed, progress=progress, **{**options, **varied}
            )
            scores[split][name] = result.record()["summary"]
        if follows:
            of_split = {**options, "split": split}
            followed[split] = {
                name: _followed(task_id, entrants[name], episodes, seed, of_split)
                for name in (*FOLLOWING, "trained")
            }
    first = next(iter(scores.values()))
    half, whole = (first[name]["return"]["mean"] for name in ("half step", "trained"))
    kept = half / whole if whole else None
    return {
        "task": task_id,
        "options": options,
        "env_hash": env_hash,
        "algorithm": about.get("algorithm"),
        "steps": int(about["steps"]),
        "training_seed": int(about["seed"]),
        "episodes": episodes,
        "seed": seed,
        "scores": scores,
        "kept": kept,
        "followed": followed,
    }


def _followed(
    task_id: str, policy: Any, episodes: int, seed: int, options: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Shares of steps and of episodes that are followed, by start."""
    results = {
        name: vnl_envs.evaluate(task_id, policy, episodes, seed, **{**options, **start})
        for name, start in STARTS.items()
    }
    return {
        name: {"steps": r.followed, "to the end": float((r.ends == "truncated").mean())}
        for name, r in results.items()
    }


def _splits(body: BodyModel, clips: Any) -> list[str]:
    """The splits in which clips are scored, the training split first."""
    there = {clip.split for clip in load_clips(body, clips)}
    return [split for split in ("train", "test") if split in there]


def tables(record: dict[str, Any]) -> list[Table]:
    """A score as a table for each split: metrics by policies."""
    count = record["episodes"]
    about = f"{record['task']}, {record['algorithm']}, {count} episode{'s' * (count != 1)}"
    shown = []
    for split, entrants in record["scores"].items():
        title = f"{about}, {split} clips" if split else about
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
        for heading in ("metric", *entrants, "unit"):
            table.add_column(heading, no_wrap=True)
        for metric, one in next(iter(entrants.values())).items():
            means = (summary[metric]["mean"] for summary in entrants.values())
            cells = ("-" if mean is None else f"{mean:.3g}" for mean in means)
            table.add_row(metric, *cells, one["unit"])
        shown.append(table)
    return shown


def lines(record: dict[str, Any]) -> list[str]:
    """Lines on what is left at half the time step, and on how far clips are followed."""
    kept = "-" if record["kept"] is None else f"{record['kept']:.2f}"
    return [
        f"return kept at half the time step: {kept}",
        *_followed_lines(record),
    ]


def _followed_lines(record: dict[str, Any]) -> list[str]:
    return [
        f"{name} {split} from {start}: {share['steps']:.3f} of the steps, "
        f"{share['to the end']:.2f} of the episodes to the end"
        for split, policies in record["followed"].items()
        for name, starts in policies.items()
        for start, share in starts.items()
    ]


def main(
    policies: Annotated[list[Path], typer.Argument(help="ONNX files")],
    episodes: Annotated[int, typer.Option(min=1, help="episodes of each policy")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="seed of the episodes")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
) -> None:
    """Score trained policies beside the untrained ones, and at half the physics time step."""
    try:
        if out is not None:
            check_writable(out)
        records = [score(path, episodes, seed, progress=True) for path in policies]
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for record in records:
        Console().print(*tables(record), sep="\n")
        Console().print(*lines(record), sep="\n", highlight=False)
    if out is not None:
        with written_whole(out) as partial:
            partial.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
