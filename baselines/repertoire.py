"""Write the clips on which the rat's imitation is trained: python -m baselines.repertoire.

They are the embedded training clips and `COUNT` generated ones. The embedded test clips and
recordings of real rats are not among them. It takes about half an hour of one core.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from tqdm.auto import tqdm

from vnl_envs import make_task
from vnl_envs.motion.clip import write_clips
from vnl_envs.motion.datasets import load_clips
from vnl_envs.motion.generate.draw import repertoire

FILE = Path(__file__).parent / "clips" / "rodent.h5"
COUNT, SEED = 120, 0


def main() -> None:
    """Write the file."""
    body = make_task("vnl/RodentImitation-v0").body
    generated = tqdm(repertoire(body, COUNT, SEED), total=COUNT, unit=" clips", disable=None)
    FILE.parent.mkdir(exist_ok=True)
    write_clips(FILE, itertools.chain(load_clips(body, split="train"), generated), body)


if __name__ == "__main__":
    main()
