"""Options that the training commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Task = Annotated[str, typer.Option(help="a task id, see `vnl-envs list`")]
Out = Annotated[Path, typer.Option(help="folder of the run")]
Steps = Annotated[int, typer.Option(min=1, help="control steps of all environments together")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the run")]
Resume = Annotated[bool, typer.Option("--resume", help="continue the run in --out")]
HyperparameterFile = Annotated[
    Path | None,
    typer.Option(
        help="YAML file of what differs from the algorithm's own in baselines/hyperparams, in "
        "sections: `default`, or ids of tasks"
    ),
]
