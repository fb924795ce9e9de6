"""The page of a rat that is simulated in the browser, by MuJoCo's WebAssembly module.

`npm ci && npm run build` in `website/wasm` makes the module's script. Without it the site does not
have this page.
"""

from __future__ import annotations

import base64
import html
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

import mujoco
import numpy as np
import onnx
from onnx import numpy_helper

from vnl_envs.registry import make_task
from vnl_envs.replays import page
from vnl_envs.replays.folder import STYLE
from vnl_envs.replays.recording import STILL, Recording
from vnl_envs.scenes.world import world_spec
from vnl_envs.tasks.goal_reaching import GoalReaching
from vnl_envs.tasks.observations import Proprioception

FOLDER = Path(__file__).parent / "wasm"
MODULE = FOLDER / "dist" / "mujoco.js"
TASK = "vnl/RodentGoalReaching-v0"
POLICY = Path(__file__).parents[1] / "baselines/checkpoints/ppo/RodentGoalReaching-v0.onnx"
NAME = "live"
SCRIPTS = (page.THEME, "codec.js", "kinematics.js", "figure.js", "stage.js")
OPTIONS = (
    "timestep",
    "integrator",
    "cone",
    "jacobian",
    "solver",
    "iterations",
    "ls_iterations",
    "tolerance",
    "ls_tolerance",
    "impratio",
    "disableflags",
    "enableflags",
)
OPERATIONS = ("Cast", "Sub", "Div", "Mul", "Add", "Clip", "Gemm", "Tanh", "Relu", "Elu")
"""ONNX operations that `live.js` implements."""
_LOOKS = ("skin_", "mesh_", "tex_", "mat_", "light_", "cam_", "vis_", "hfield_", "oct_", "flex")


def write(folder: Path, back: tuple[str, str]) -> None:
    """Write NAME.html and the files that it loads.

    Args:
        folder: folder of replays, see `vnl_envs.replays.folder.write_shared`.
        back: address and text of the link back.

    Raises:
        FileNotFoundError: the module's script is missing.
        ValueError: the policy has an operation that the page lacks.
    """
    task = make_task(TASK)
    assert isinstance(task, GoalReaching)
    recording = Recording(task.world)
    data = mujoco.MjData(task.world.model)
    data.qpos[:] = task.body.standing_qpos
    mujoco.mj_forward(task.world.model, data)
    recording.add(data)
    replay = recording.replay()
    content = {
        "world": replay.world,
        "skins": replay.skins,
        "camera": replay.states["camera"],
        "physics": physics(task),
        "task": settings(task),
        "policy": policy(POLICY),
    }
    shutil.copy(MODULE, folder / MODULE.name)
    script = page.as_one([*map(page.file, SCRIPTS), (FOLDER / "live.js").read_text("utf-8")])
    (folder / f"{NAME}.js").write_text(script, "utf-8")
    (folder / f"{NAME}-data.js").write_text(f"globalThis.liveData = {json.dumps(content)};\n")
    (folder / f"{NAME}.jpg").write_bytes(page.jpeg(recording.still()))
    href, text = map(html.escape, back)
    width, height = STILL
    filled = Template((FOLDER / "live.html").read_text("utf-8")).substitute(
        style=STYLE, name=NAME, href=href, back=text, width=width, height=height, three=page.THREE
    )
    (folder / f"{NAME}.html").write_text(filled, "utf-8")


def physics(task: GoalReaching) -> dict[str, Any]:
    """The model as MJCF, and all of its numbers as compiled by this MuJoCo."""
    model = task.world.model
    spec = world_spec(task.world.scene, [body.body for body in task.world.bodies])
    for part in (*spec.skins, *spec.materials, *spec.textures):
        spec.delete(part)
    for geom in spec.geoms:
        geom.material = ""
    spec.compile()
    numbers = {
        name: value
        for name in dir(model)
        if not name.startswith(("_", *_LOOKS))
        and isinstance(value := getattr(model, name), np.ndarray)
        and value.dtype == np.float64
        and value.size
    }
    return {
        "mjcf": spec.to_xml(),
        "numbers": {name: _packed(value) for name, value in numbers.items()},
        "options": {name: getattr(model.opt, name) for name in OPTIONS},
        "substeps": task.world.substeps,
    }


def settings(task: GoalReaching) -> dict[str, Any]:
    """Constants of observations, actions and goals."""
    body = task.body
    senses = Proprioception(body)
    rows: Mapping[str, np.ndarray] = {
        "qpos": body.standing_qpos,
        "act": body.activation(body.standing_control),
        "control": body.standing_control,
        "span": body.span,
        "range": task.world.model.actuator_ctrlrange[body.ctrl],
        "ego": body.ego,
        "limbs": senses.limbs + body.bodies.start,
        "geoms": senses.geoms + body.geoms.start,
        "half": senses.half,
        "radius": senses.radius,
        "groups": senses.groups,
    }
    return {
        **{name: value.tolist() for name, value in rows.items()},
        "root": body.bodies.start,
        "fallen": body.body.fallen_height,
        "reach": task.radius,
        "distance": list(task.distance),
    }


def policy(path: Path) -> dict[str, Any]:
    """An ONNX graph as a list of operations, and its constants.

    Raises:
        ValueError: the graph has an operation that the page lacks.
    """
    graph = onnx.load(str(path)).graph
    steps = []
    for node in graph.node:
        turned = {a.name: a.i for a in node.attribute if a.name in ("transA", "transB")}
        if node.op_type not in OPERATIONS or turned not in ({}, {"transB": 1}):
            raise ValueError(f"{path.name}: the page has no {node.op_type}")
        steps.append([node.op_type, list(node.input), node.output[0]])
    constants = {c.name: _packed(numpy_helper.to_array(c)) for c in graph.initializer}
    return {"steps": steps, "constants": constants}


def _packed(array: np.ndarray) -> dict[str, str]:
    kind = "Float32Array" if array.dtype == np.float32 else "Float64Array"
    values = array.astype("<f4" if array.dtype == np.float32 else "<f8")
    return {"kind": kind, "data": base64.b64encode(values.tobytes()).decode()}
