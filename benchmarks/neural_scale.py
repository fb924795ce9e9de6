"""Memory and time of the neural track at full size.

python -m benchmarks.neural_scale WORK --policy P.onnx > benchmarks/results/neural_scale.json

Makes a session of three hours, imports it, records a policy along it, and compares it with eight
feature sets (keypoints, joint angles, joint velocities, latent and action of the policy and of its
untrained control, the shifted latent) on two cores. Peak memory is of the largest process. A step
whose file is there is not run again; its figures are those in WORK/steps.json, or null.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.measuring import machine

SETS = 8


def step(*arguments: str) -> dict[str, float]:
    """Wall seconds, processor seconds and peak memory (MB) of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(after.ru_utime - before.ru_utime, 1) or round(usage.ru_utime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def main(
    work: Path,
    policy: Annotated[Path, typer.Option()],
    frames: int = 540_000,
    units: int = 25,
    workers: int = 2,
) -> None:
    """Print what each step took as JSON."""
    work.mkdir(parents=True, exist_ok=True)
    raw, session, activity, out = (
        str(work / name) for name in ("raw.h5", "s.h5", "a.h5", "c.json")
    )
    vnl = ("vnl_envs", "neural")
    steps = {
        "generate": (raw, ("benchmarks.neural_session", raw, f"--frames={frames}",
                           f"--units={units}")),
        "import": (session, (*vnl, "import", raw, "--out", session)),
        "record": (activity, (*vnl, "record", session, f"--policy=p={policy}", "--units=latent",
                              f"--workers={workers}", "--out", activity)),
        "compare": (out, (*vnl, "compare", session, activity, f"--workers={workers}",
                          "--out", out)),
    }  # fmt: skip
    known = work / "steps.json"
    figures = json.loads(known.read_text()) if known.exists() else {}
    for name, (made, arguments) in steps.items():
        if not Path(made).exists():
            figures[name] = step(*arguments)
            known.write_text(json.dumps(figures))
    record = {
        "frames": frames,
        "units": units,
        "sets": SETS,
        "workers": workers,
        "load_before": os.getloadavg()[0],
        "steps": {name: figures.get(name) for name in steps},
    }
    print(json.dumps({**record, "machine": machine()}, indent=1))


if __name__ == "__main__":
    typer.run(main)
