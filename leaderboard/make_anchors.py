"""Measure the random policy on the suites: `python -m leaderboard.make_anchors [SUITE ...]`.

SUITE is a name or the path of a file: FOLDER/suites/mine.json gets FOLDER/anchors/mine.json. The
episodes are those of the split "dev" and run in this process. Each suite has its own anchors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from tqdm.auto import tqdm

from vnl_envs.envs.core import Core
from vnl_envs.evaluation.evaluate import run_episodes
from vnl_envs.evaluation.policies import make_policy
from vnl_envs.scoring.documents.schema.board import Anchor, Anchors
from vnl_envs.scoring.documents.schema.result import EpisodeResult
from vnl_envs.scoring.documents.schema.suite import Suite, SuiteStamp
from vnl_envs.scoring.documents.schema.text import to_text
from vnl_envs.scoring.documents.suites import (
    NOMINAL,
    anchors_path,
    dev_key,
    load_suite,
    make_cell,
    suite_names,
)
from vnl_envs.scoring.results.episodes import episode_result
from vnl_envs.scoring.results.scores import primaries
from vnl_envs.utils.files import written_whole
from vnl_envs.utils.resources import packaged

FOLDER = packaged("anchors")
POLICY = "random"


def run(suite: Suite, policy: str) -> Iterator[EpisodeResult]:
    """Run every episode of a suite, cell by cell, with a policy that needs no training."""
    key = dev_key(suite)
    for (task_id, _, _), group in groupby(
        suite.specs, key=lambda spec: (spec.task, spec.tier, spec.cell.id)
    ):
        specs = list(group)
        core = Core(make_cell(task_id, specs[0].cell), len(specs))
        seeds = [spec.seed(key) for spec in specs]
        for finished in run_episodes(core, make_policy(policy, core), seeds):
            yield episode_result(specs[finished.number], finished)


def make_anchors(suite: Suite) -> Anchors:
    """Anchors of a suite: the random policy's primary metrics."""
    count = len(suite.specs)
    results = list(tqdm(run(suite, POLICY), suite.name, count, unit="episode", disable=None))
    return Anchors(
        schema_version=1,
        suite=SuiteStamp(name=suite.name, sha256=suite.sha256),
        policy="random",
        tasks={
            task: Anchor(primary=tiers[NOMINAL], tiers=tiers)
            for task, tiers in primaries(suite, results).items()
        },
    )


def main(given: Sequence[str]) -> None:
    """Write the anchors of these suites, by default of all published suites."""
    for source in given or suite_names():
        suite = load_suite(source)
        of_file = anchors_path(suite, Path(source)) if source.endswith(".json") else None
        out = of_file or FOLDER / f"{suite.name}.json"
        out.parent.mkdir(exist_ok=True)
        with written_whole(out) as path:
            path.write_text(to_text(make_anchors(suite)))


if __name__ == "__main__":
    main(sys.argv[1:])
