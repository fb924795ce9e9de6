"""The gallery: a page and a replay of each registered task, made from the registry."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import vnl_envs
from vnl_envs.envs.core import Core
from vnl_envs.evaluation.play import Player, record_episodes
from vnl_envs.evaluation.policies import NAMES, PolicyLike
from vnl_envs.registry import get_row, make_task, task_about, task_class
from vnl_envs.replays.folder import write_into
from vnl_envs.replays.recording import Recording
from vnl_envs.scoring.board.views import slug, title
from vnl_envs.tasks.metrics import STANDARD
from vnl_envs.tasks.task import Task
from website import live
from website.reuse import Reused

if TYPE_CHECKING:
    from vnl_envs.envs.parallel import RaceCore

ROOT = Path(__file__).parents[1]
POLICIES = ("baselines/**/*.onnx",)
EPISODES, SECONDS = 4, 16.0
REPLAYS = "replays"


@dataclass(frozen=True)
class Entrant:
    """A policy for the gallery.

    Attributes:
        name: for readers.
        policy: see `vnl_envs.evaluate`.
        options: those that it was trained on.
        trained: whether on this task.
    """

    name: str
    policy: PolicyLike
    options: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False


def entrants(task_id: str) -> Iterator[Entrant]:
    """The committed policies of a task, those that reach goals, and those without training."""
    for path, about in committed(task_id):
        yield Entrant(_short(path), str(path), json.loads(about.get("options", "{}")), True)
    yield from reused(task_id, Core(make_task(task_id), 1, 1))
    for name in NAMES:
        yield Entrant(f"{name}, untrained", name)


def committed(task_id: str) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Files of policies that were trained on a task, and what they say of themselves."""
    for pattern in POLICIES:
        for path in sorted(ROOT.glob(pattern)):
            about = metadata(path)
            if about.get("task") == task_id:
                yield path, about


def reused(task_id: str, core: Core) -> Iterator[Entrant]:
    """The policies that the task's body reaches goals with, see `website.reuse`."""
    source = f"vnl/{get_row(task_id).body.capitalize()}GoalReaching-v0"
    if source == task_id:
        return
    distance = float(np.mean(get_row(source).settings["distance"]))
    for path, _ in committed(source):
        policy = Reused(path, core, distance)
        if policy.about is not None:
            yield Entrant(f"{_short(path)}, trained to reach goals; here {policy.about}", policy)


def _short(path: Path) -> str:
    return str(Path(*path.relative_to(ROOT / "baselines").parts[1:]))


@functools.cache
def metadata(path: Path) -> Mapping[str, str]:
    """The metadata of a policy file, read once: every task looks through all files."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return {prop.key: prop.value for prop in model.metadata_props}


def best(task_id: str) -> Entrant:
    """The entrant with the highest mean return over `EPISODES` episodes of seed 0.

    Policies that do not fit the task, such as those of another version, are left out.
    """
    scored: list[tuple[float, Entrant]] = []
    for entrant in entrants(task_id):
        # Policies that were not trained on the task count only if there is none that was.
        if not entrant.trained and any(e.trained for _, e in scored):
            break
        with contextlib.suppress(ValueError):
            done = vnl_envs.evaluate(
                task_id, entrant.policy, EPISODES, num_envs=EPISODES, **entrant.options
            )
            scored.append((float(done.values["return"].mean()), entrant))
    return max(scored, key=lambda pair: pair[0])[1]


def write_replay(task_id: str, folder: Path) -> str:
    """Write a task's replay into a folder; return the name of its policy."""
    back = f"../gallery/{slug(task_id)}.html", title(task_id)
    if get_row(task_id).num_agents > 1:
        recordings, policy = race(task_id)
    else:
        entrant = best(task_id)
        # Clips are shown from their first frame on.
        start = {"start": 0} if "start" in vnl_envs.task_options(task_id) else {}
        player = Player(task_id, entrant.policy, 0, {**entrant.options, **start})
        recordings, policy = record_episodes(player, SECONDS, task_id), entrant.name
    replays = [recording.replay(name) for name, recording in recordings]
    still = max((r for _, r in recordings), key=lambda r: (r.reward, len(r))).still()
    write_into(folder, slug(task_id), replays, still, title(task_id), f"policy {policy}", back)
    return policy


def race(task_id: str) -> tuple[list[tuple[str, Recording]], str]:
    """Some seconds of a race by the entrant that earns most in them, and its name."""
    from vnl_envs.envs.parallel import RaceCore

    core = RaceCore(make_task(task_id, get_row(task_id).num_agents), 1, 1)
    still = np.zeros((1, core.task.num_animals, core.task.body.nu), np.float32)
    standing = Entrant("zero, untrained", lambda observation: still)
    raced = [(*_raced(core, entrant), entrant) for entrant in (*reused(task_id, core), standing)]
    _, recording, who = max(raced, key=lambda found: found[0])
    return [("race", recording)], who.name


def _raced(core: RaceCore, entrant: Entrant) -> tuple[float, Recording]:
    """What an entrant earns as all animals of a race, and its recording."""
    core.reset(np.array([0]), core.draw([np.random.default_rng(0)]))
    recording = Recording(core.task.world)
    recording.add(core.engine.data(0), core.overlays(0))
    earned, racing = 0.0, np.ones((1, core.task.num_animals), bool)
    assert callable(entrant.policy)
    for _ in range(round(SECONDS / core.task.dt)):
        # The fallen hold the standing pose, as in `parallel_env`.
        step = core.step(np.where(racing[..., None], entrant.policy(core.observation), 0.0))
        earned += float(step.reward[racing].sum())
        racing &= ~step.terminated
        recording.add(core.engine.data(0), core.overlays(0))
        if not racing.any():
            break
    return earned, recording


def page(task_id: str, policy: str) -> str:
    """The page of a task, as Markdown."""
    agents = get_row(task_id).num_agents
    options = vnl_envs.task_options(task_id)
    if agents > 1:
        task: Any = make_task(task_id, agents)
        made, size = f"vnl_envs.parallel_env({task_id!r})", None
    else:
        task = make_task(task_id)
        made, size = f"gym.make({task_id!r})", Core(task, 1, 1).size
    return "\n".join([*_head(task_id, policy), *_facts(task, made, size), *_tables(task, options)])


def _head(task_id: str, policy: str) -> list[str]:
    name = slug(task_id)
    about = (task_class(get_row(task_id)).__doc__ or "").split("\n\n    Args:")[0]
    text = "\n".join(line.strip() for line in about.splitlines())
    has_live = task_id == live.TASK and live.MODULE.exists()
    href = f"../{REPLAYS}/{live.NAME}.html"
    line = f'<p><a href="{href}">The same policy, live</a>: move the goal, push the rat.</p>'
    return [
        f"# {title(task_id)}",
        "",
        text,
        "",
        f'<a class="replay" href="../{REPLAYS}/{name}.html"><img src="../{REPLAYS}/{name}.jpg" '
        f'alt="{title(task_id)}: open the replay" width="960" height="540"></a>',
        "",
        f"The picture opens an interactive replay. Policy: {policy}.",
        "",
        *([line, ""] if has_live else []),
    ]


def _facts(task: Task, made: str, size: int | None) -> list[str]:
    rows = {
        "make": f"`{made}`",
        "body": f"{task.body.body.name}",
        "actions": f"{task.body.nu} in [-1, 1], 0 is the standing pose",
        "control": f"{1 / task.dt:g} Hz, {task.horizon} steps at most",
    }
    if size is not None:
        rows["observation"] = f"{size} numbers, egocentric"
    return ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items()), ""]


def _tables(task: Task, options: Mapping[str, str]) -> list[str]:
    metrics = {m.name: f"{m.unit}, {m.reduce}, {m.direction}" for m in STANDARD + task.metrics}
    parts = (
        ("Reward", "term", task.reward_terms),
        ("Options", "option", options),
        ("Metrics", "metric", metrics),
    )
    lines = []
    for heading, column, pairs in parts:
        lines += [f"## {heading}", "", f"| {column} | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {_cell(text)} |" for name, text in pairs.items()]
        lines.append("")
    return lines


def index(ids: list[str]) -> str:
    """The page of all tasks, as Markdown."""
    cards = [
        f'<li><a href="{slug(id)}.html"><img src="../{REPLAYS}/{slug(id)}.jpg" alt="" width="960" '
        f'height="540"><strong>{title(id)}</strong></a><code>{id}</code><span>{_about(id)}'
        "</span></li>"
        for id in ids
    ]
    names = "\n".join(slug(id) for id in ids)
    head = (
        "# Gallery\n\nEvery registered task. A picture leads to spaces, rewards, options and a 3-D "
        "replay of the best policy in the repository.\n\n"
    )
    toc = f"```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    listed = "\n".join(cards)
    return f'{head}<ul class="gallery">\n{listed}\n</ul>\n\n{toc}'


def _about(task_id: str) -> str:
    agents = get_row(task_id).num_agents
    return task_about(task_id) or (f"{agents} animals or more" if agents > 1 else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;").replace("\n", " ")


def ids() -> list[str]:
    """Ids of all tasks, those for a single animal first."""
    return [*vnl_envs.task_ids(), *vnl_envs.parallel_ids()]


def write_pages(folder: Path, policies: Mapping[str, str]) -> None:
    """Write the sources of all pages; `policies` names the policy of each task's replay."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text(index(ids()), "utf-8")
    for task_id in ids():
        (folder / f"{slug(task_id)}.md").write_text(page(task_id, policies[task_id]), "utf-8")
