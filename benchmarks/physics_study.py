"""Measure solver settings of a body: speed, standing, sinking, tracking, divergence.

    python benchmarks/physics_study.py rodent --quick
    python benchmarks/physics_study.py rodent --only chosen --random-only --random-steps 1000000

Writes `results/physics_<body><tag>.json` beside this file and prints a markdown table. Speeds are
ratios to the first candidate. Each candidate is timed on one thread, in turns with all others.
`docs/physics.md` interprets the numbers.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch

from vnl_envs.bodies import HUMANOID, RODENT, Body, PhysicsOptions, lumping
from vnl_envs.bodies.model import lowest_point
from vnl_envs.motion.clip import read_clips
from vnl_envs.motion.kinematics import Reference, derive_reference
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World, build_world
from vnl_envs.utils.resources import packaged

RESULTS = Path(__file__).parent / "results"
BODIES = {body.name: body for body in (RODENT, HUMANOID)}
VELOCITY_STAGE = mujoco.mjtStage.mjSTAGE_VEL.value
CONTROL_RATE = 50

Edit = Callable[[mujoco.MjModel], None]


# --- candidates -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """Settings to be compared.

    Attributes:
        name: unique; the row's title.
        options: solver settings.
        edit: further changes to the compiled model, made after `options` is applied.
    """

    name: str
    options: PhysicsOptions
    edit: Edit | None = None

    def model(self, world: World) -> mujoco.MjModel:
        """A copy of the world's model with these settings."""
        model = copy.deepcopy(world.model)
        self.options.apply(model.opt)
        if self.edit is not None:
            self.edit(model)
        return model


BASELINE = Candidate("implicitfast 2.5 ms x 8", PhysicsOptions(0.0025, 8))
TRACKING_REFERENCE = Candidate("implicitfast 1 ms x 20", PhysicsOptions(0.001, 20))
FINE_REFERENCE = Candidate("implicitfast 0.25 ms x 80", PhysicsOptions(0.00025, 80))


def chosen(body: str) -> Candidate:
    """The settings that `vnl_envs.bodies` uses."""
    options = BODIES[body].physics
    return Candidate("chosen", options, lump if options.lumped else None)


def candidates(body: str) -> list[Candidate]:
    """All settings of the study, the baseline first."""
    steps = [*_time_steps("IMPLICITFAST", (20, 10, 8, 6, 5, 4))]
    steps += _time_steps("DISCRETE", (20, 8, 5, 4, 2))
    steps += _time_steps("EULER", (8,))
    steps += _time_steps("IMPLICIT", (8,))
    steps += _time_steps("EULER", (20, 10, 8, 6, 5, 4, 3, 2), lump, "lumped ")
    steps += _time_steps("EULER", (4, 3, 2), _chain(lump_stiffness, lump), "lumped stiff ")
    steps = [c for c in steps if c.name != BASELINE.name]
    return [BASELINE, chosen(body), *steps, *_variations()]


def _time_steps(
    integrator: str, substeps: Sequence[int], edit: Edit | None = None, prefix: str = ""
) -> Iterator[Candidate]:
    for n in substeps:
        step = 1 / CONTROL_RATE / n
        name = f"{prefix}{integrator.lower()} {1e3 * step:.3g} ms x {n}"
        yield Candidate(name, PhysicsOptions(step, n, integrator), edit)


def _variations() -> Iterator[Candidate]:
    """One change at a time around lumped Euler steps of 5 ms."""
    centre = PhysicsOptions(0.005, 4, "EULER")
    options: dict[str, dict[str, Any]] = {
        "dense Jacobian": {"jacobian": "DENSE"},
        "CG": {"solver": "CG"},
        "elliptic": {"cone": "ELLIPTIC"},
        "tolerance 1e-6": {"tolerance": 1e-6},
        "tolerance 1e-5": {"tolerance": 1e-5},
        "tolerance 1e-4": {"tolerance": 1e-4},
        "10 iterations": {"iterations": 10, "ls_iterations": 10},
        "4 iterations": {"iterations": 4, "ls_iterations": 8},
        "2 iterations": {"iterations": 2, "ls_iterations": 8},
    }
    for name, change in options.items():
        yield Candidate(f"... {name}", replace(centre, **change), lump)
    edits: dict[str, Edit] = {
        "contacts as refsafe softens them": lumping.lump_damping,
        "no islands": _chain(lump, _disable(mujoco.mjtDisableBit.mjDSBL_ISLAND)),
        "no warm start": _chain(lump, _disable(mujoco.mjtDisableBit.mjDSBL_WARMSTART)),
        "impratio 10": _chain(lump, _impratio),
        "ground solimp 0.98": _chain(lump, _ground_solimp),
        "limit solref 0.03": _chain(lump, _limit_solref),
        "frictionless digits": _chain(lump, _frictionless_digits),
    }
    for name, edit in edits.items():
        yield Candidate(f"... {name}", centre, edit)


def _chain(*edits: Edit) -> Edit:
    def edit(model: mujoco.MjModel) -> None:
        for part in edits:
            part(model)

    return edit


def lump(model: mujoco.MjModel) -> None:
    """Change a model as `PhysicsOptions.lumped` changes a world."""
    lumping.lump(model, _ground_geoms(model))


def lump_stiffness(model: mujoco.MjModel) -> None:
    """Add the damping hK of springs and servos, so that `lump` is implicit in K as well.

    ``(M + hD + h^2 K) (v' - v) = h (f - K q - (D + hK) v)``. A servo at its force limit keeps hK.
    """
    h = model.opt.timestep
    hinges = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE)
    model.dof_damping[model.jnt_dofadr[hinges]] += h * model.jnt_stiffness[hinges]
    for actuator in range(model.nu):
        target = model.actuator_trnid[actuator, 0]
        stiffness = -model.actuator_biasprm[actuator, 1] * model.actuator_gear[actuator, 0] ** 2
        if model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_TENDON:
            model.tendon_damping[target] += h * stiffness
        else:
            model.dof_damping[model.jnt_dofadr[target]] += h * stiffness


def _disable(bit: mujoco.mjtDisableBit) -> Edit:
    def edit(model: mujoco.MjModel) -> None:
        model.opt.disableflags |= bit

    return edit


def _impratio(model: mujoco.MjModel) -> None:
    model.opt.impratio = 10


def _ground_solimp(model: mujoco.MjModel) -> None:
    model.geom_solimp[_ground_geoms(model), :2] = 0.98, 0.98


def _limit_solref(model: mujoco.MjModel) -> None:
    model.jnt_solref[:, 0] = 0.03


def _frictionless_digits(model: mujoco.MjModel) -> None:
    digits = [g for g in _ground_geoms(model) if any(w in model.geom(g).name for w in _DIGITS)]
    model.geom_condim[digits] = 1


_DIGITS = ("toe", "finger")


def _ground_geoms(model: mujoco.MjModel) -> np.ndarray:
    return np.flatnonzero((model.geom_conaffinity != 0) & (model.geom_bodyid != 0))


# --- start states and loads -----------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """A body at rest.

    Attributes:
        qpos: (nq,) positions.
        ctrl: (nu,) controls that hold it, also the activation states.
    """

    qpos: np.ndarray
    ctrl: np.ndarray


def standing_start(world: World) -> Start:
    """The body's standing pose, not settled."""
    return Start(world.body.standing_qpos.copy(), world.body.standing_control.copy())


def settled(world: World, start: Start, seconds: float) -> Start:
    """A start after holding still for a while at 1 ms."""
    batch = Rollout(world, TRACKING_REFERENCE, start, nsim=1)
    for _ in range(round(seconds * CONTROL_RATE)):
        batch.step(start.ctrl)
    return Start(batch.qpos[0].copy(), start.ctrl)


def sinusoids(start: Start, nsim: int, steps: int, amplitude: float, seed: int = 0) -> np.ndarray:
    """Smooth vigorous controls around standing at 1 to 3 Hz, (steps, nsim, nu)."""
    rng = np.random.default_rng(seed)
    nu = len(start.ctrl)
    frequency = rng.uniform(1, 3, (nsim, nu))
    phase = rng.uniform(0, 2 * np.pi, (nsim, nu))
    t = np.arange(steps)[:, None, None] / CONTROL_RATE
    wave = np.sin(2 * np.pi * frequency * t + phase) - np.sin(phase)
    return np.clip(start.ctrl + amplitude * wave, -1, 1)


class Rollout:
    """Many copies of a body under one candidate, advanced by control steps.

    Args:
        world: where the body stands.
        candidate: the settings.
        start: the state of all copies.
        nsim: number of copies.
        nthread: number of threads; results do not depend on it.
    """

    def __init__(
        self, world: World, candidate: Candidate, start: Start, nsim: int, nthread: int = 2
    ) -> None:
        self.world = world
        self.candidate = candidate
        self.batch = Batch(candidate.model(world), nsim, nthread, persistent=True)
        self.qpos = self.batch.bind("qpos")
        self.qvel = self.batch.bind("qvel")
        self._act = self.batch.bind("act")
        self._ctrl = self.batch.bind("ctrl")
        self._geoms = [self.batch.bind(name) for name in ("geom_xpos", "geom_xmat")]
        self.restart(start)

    def restart(self, start: Start, qvel: np.ndarray | float = 0.0) -> None:
        """Put every copy at a start."""
        self.batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.qpos[:], self.qvel[:], self._act[:] = start.qpos, qvel, start.ctrl
        self._ctrl[:] = start.ctrl
        self.batch.forward(stage=VELOCITY_STAGE)

    def step(self, ctrl: np.ndarray) -> None:
        """Advance by one control step under controls (nu,) or (nsim, nu)."""
        self._ctrl[:] = ctrl
        self.batch.step(nstep=self.candidate.options.substeps, stage=VELOCITY_STAGE)

    @property
    def depth(self) -> np.ndarray:
        """Depth of the lowest geom in the ground, (nsim,), m; 0 in the air."""
        xpos, xmat = (field[:, self.world.body.geoms] for field in self._geoms)
        return np.maximum(-lowest_point(self.world.body, xpos, xmat), 0)

    @property
    def diverged(self) -> np.ndarray:
        """Whether each copy has diverged, (nsim,)."""
        state = np.concatenate([self.qpos, self.qvel / 100], axis=1)
        return ~(np.abs(state) < 100).all(axis=1)


# --- criteria -------------------------------------------------------------------------------------


def speeds(
    world: World, start: Start, entries: Sequence[Candidate], rounds: int, steps: int = 25
) -> dict[str, float]:
    """Control steps per CPU second of each candidate on one thread, under exploration noise.

    Candidates take turns within each round; the median over the rounds counts. CPU time, because
    other processes may share the machine.
    """
    nsim = 16
    noise = np.random.default_rng(0).standard_normal((steps, nsim, len(start.ctrl)))
    controls = np.clip(start.ctrl + 0.18 * noise, -1, 1)
    rollouts = {c.name: Rollout(world, c, start, nsim, nthread=1) for c in entries}
    seconds: dict[str, list[float]] = {name: [] for name in rollouts}
    for _ in range(rounds):
        for name, rollout in rollouts.items():
            rollout.restart(start)
            begin = time.process_time()
            for control in controls:
                rollout.step(control)
            seconds[name].append(time.process_time() - begin)
    return {name: nsim * steps / float(np.median(times)) for name, times in seconds.items()}


def standing(world: World, candidate: Candidate, start: Start, seconds: float) -> dict[str, float]:
    """Root drift and depth in mm, largest joint speed in rad/s, holding the settled pose."""
    rollout = Rollout(world, candidate, start, nsim=1)
    depth, speed, path = [], [], []
    for _ in range(round(seconds * CONTROL_RATE)):
        rollout.step(start.ctrl)
        depth.append(float(rollout.depth[0]))
        speed.append(float(np.abs(rollout.qvel[0, 6:]).max()))
        path.append(np.linalg.norm(rollout.qpos[0, :3] - start.qpos[:3]))
    return {
        "stand_drift_mm": 1e3 * float(np.max(path)),
        "stand_depth_mm": 1e3 * max(depth),
        "stand_joint_speed": float(np.median(speed)),
    }


def landing(world: World, candidate: Candidate, start: Start) -> dict[str, float]:
    """Depth (mm) at any physics step of the landing after a fall from a quarter of the reach."""
    high = start.qpos.copy()
    high[2] += world.body.body.reach / 4
    rollout = Rollout(world, candidate, Start(high, start.ctrl), nsim=1)
    depth = 0.0
    for _ in range(round(0.6 / candidate.options.timestep)):
        depth = max(depth, float(rollout.depth[0]))
        rollout.batch.step(nstep=1, stage=VELOCITY_STAGE)
    return {"landing_depth_mm": 1e3 * depth}


def vigorous(rollout: Rollout, controls: np.ndarray, start: Start) -> dict[str, np.ndarray]:
    """Depths (steps, nsim) in m and positions (steps, nsim, nq) under open-loop controls."""
    rollout.restart(start)
    depth, qpos = [], []
    for control in controls:
        rollout.step(control)
        depth.append(rollout.depth)
        qpos.append(rollout.qpos.copy())
    return {"depth": np.array(depth), "qpos": np.array(qpos)}


def motion_errors(
    motion: dict[str, np.ndarray], reference: dict[str, np.ndarray]
) -> dict[str, float]:
    """Depths while touching, in mm, and distance from the fine reference at two times."""
    touching = motion["depth"][motion["depth"] > 0] * 1e3
    out = {f"depth_p{p}_mm": float(np.percentile(touching, p)) for p in (50, 99)}
    out["depth_max_mm"] = float(touching.max())
    for name, step in (("02s", 9), ("1s", 49)):
        gap = motion["qpos"][step] - reference["qpos"][step]
        root = np.linalg.norm(gap[:, :3], axis=1)
        out[f"root_error_{name}_mm"] = 1e3 * float(np.median(root))
        out[f"joint_error_{name}_rad"] = float(np.median(np.sqrt((gap[:, 7:] ** 2).mean(axis=1))))
    return out


def random_actions(
    world: World, candidate: Candidate, start: Start, total: int, nthread: int = 2
) -> dict[str, float]:
    """Divergences, depths (mm) and joint speeds (rad/s) under uniform random controls.

    Copies go back to standing every 200 control steps.
    """
    nsim, episode = 64, 200
    rng = np.random.default_rng(1)
    rollout = Rollout(world, candidate, start, nsim, nthread)
    failed, depth, speed = 0, [], []
    bad = np.zeros(nsim, bool)
    for step in range(-(-total // nsim)):
        if step % episode == 0:
            failed += int(bad.sum())
            bad[:] = False
            rollout.restart(start)
        rollout.step(rng.uniform(-1, 1, (nsim, len(start.ctrl))))
        bad |= rollout.diverged
        depth.append(rollout.depth[~bad])
        speed.append(np.abs(rollout.qvel[~bad, 6:]).max(axis=1))
    depth_mm = 1e3 * np.concatenate(depth)
    return {
        "random_steps": total,
        "random_diverged": failed + int(bad.sum()),
        "random_depth_p99_mm": float(np.percentile(depth_mm[depth_mm > 0], 99)),
        "random_depth_max_mm": float(depth_mm.max()),
        "random_joint_speed_p99": float(np.percentile(np.concatenate(speed), 99)),
    }


def load_reference(world: World) -> Reference | None:
    """Walking clips of the body, or None while there are none."""
    try:
        path = packaged("clips", f"{world.body.body.name}.h5")
    except FileNotFoundError:
        return None
    clips = read_clips(path, world.body)
    walking = [c for c in clips if "walk" in f"{c.name} {c.label}".lower()]
    return derive_reference(walking[:16], world.body) if walking else None


def track(world: World, candidate: Candidate, reference: Reference) -> list[np.ndarray]:
    """RMS joint error (rad) and depth (m) of each control step until the fall or the clip's end.

    One (steps, 2) array per clip.

    The servos ask for the clip's next frame; nothing balances the body.
    """
    rows = []
    for first, length in zip(reference.first, reference.length, strict=True):
        frames = slice(first, first + min(int(length), 250))
        qpos, servo = reference.qpos[frames].copy(), reference.servo[frames]
        qpos[:, 2] -= min(float(reference.clearance[first]), 0)
        rollout = Rollout(world, candidate, Start(qpos[0], servo[0]), nsim=1, nthread=1)
        rollout.restart(Start(qpos[0], servo[0]), reference.qvel[first])
        errors = []
        for target, control in zip(qpos[1:], servo[1:], strict=True):
            rollout.step(control)
            if rollout.qpos[0, 2] < world.body.body.fallen_height:
                break
            error = np.sqrt(((rollout.qpos[0, 7:] - target[7:]) ** 2).mean())
            errors.append((error, rollout.depth[0]))
        rows.append(np.array(errors).reshape(-1, 2))
    return rows


def tracking_ratio(rows: list[np.ndarray], reference: list[np.ndarray]) -> dict[str, float]:
    """Mean error over the steps that both survive, as a ratio; the steps survived; depths."""
    shared = [min(len(a), len(b)) for a, b in zip(rows, reference, strict=True)]
    own = np.concatenate([row[:n] for row, n in zip(rows, shared, strict=True)])
    other = np.concatenate([row[:n] for row, n in zip(reference, shared, strict=True)])
    touching = own[own[:, 1] > 0, 1]
    return {
        "tracking_ratio": float(own[:, 0].mean() / other[:, 0].mean()),
        "tracking_error_rad": float(own[:, 0].mean()),
        "tracking_steps": float(np.median([len(row) for row in rows])),
        "tracking_depth_p50_mm": 1e3 * float(np.percentile(touching, 50)),
        "tracking_depth_p99_mm": 1e3 * float(np.percentile(touching, 99)),
    }


def profile(world: World, candidate: Candidate, start: Start, steps: int = 300) -> dict[str, Any]:
    """Profile of a physics step: microseconds by stage, constraint rows, iterations."""
    model = candidate.model(world)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    rows: Counter[str] = Counter()
    limits: Counter[str] = Counter()
    iterations = []
    mujoco.set_mjcb_time(time.perf_counter)
    try:
        for step in range(steps):
            if step % 100 == 0:
                data.qpos[:], data.qvel[:], data.act[:] = start.qpos, 0, start.ctrl
            data.ctrl[:] = np.clip(start.ctrl + 0.18 * rng.standard_normal(model.nu), -1, 1)
            for _ in range(candidate.options.substeps):
                mujoco.mj_step(model, data)
                iterations.append(int(data.solver_niter[: max(data.nisland, 1)].max()))
                _count_rows(model, data, rows, limits)
    finally:
        mujoco.set_mjcb_time(None)
    n = steps * candidate.options.substeps
    return {
        "iterations_mean": float(np.mean(iterations)),
        "iterations_p99": float(np.percentile(iterations, 99)),
        "rows": {kind: round(count / n, 2) for kind, count in rows.items()},
        "limits": {joint: round(count / n, 2) for joint, count in limits.most_common(8)},
        "stage_us": _stage_times(data, n),
    }


def _count_rows(
    model: mujoco.MjModel, data: mujoco.MjData, rows: Counter[str], limits: Counter[str]
) -> None:
    kinds = data.efc_type[: data.nefc]
    for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True):
        rows[mujoco.mjtConstraint(int(kind)).name.removeprefix("mjCNSTR_").lower()] += int(count)
    rows["contacts"] += data.ncon
    for row in np.flatnonzero(kinds == mujoco.mjtConstraint.mjCNSTR_LIMIT_JOINT.value):
        limits[model.joint(int(data.efc_id[row])).name] += 1


def _stage_times(data: mujoco.MjData, steps: int) -> dict[str, float]:
    names = [mujoco.mjtTimer(i).name for i in range(int(mujoco.mjtTimer.mjNTIMER))]
    times = {
        name.removeprefix("mjTIMER_").lower(): 1e6 * data.timer[i].duration / steps
        for i, name in enumerate(names)
    }
    return {name: round(value, 1) for name, value in times.items() if value > 0}


# --- study ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effort:
    """Amount of measurement.

    Attributes:
        rounds: timing rounds.
        random_steps: control steps under random actions, over all copies.
        vigorous_sims: copies in open-loop motion, 1.5 s each.
    """

    rounds: int
    random_steps: int
    vigorous_sims: int


QUICK = Effort(rounds=5, random_steps=6_400, vigorous_sims=16)
FULL = Effort(rounds=7, random_steps=100_000, vigorous_sims=64)


def study(body: Body, entries: Sequence[Candidate], effort: Effort) -> dict[str, Any]:
    """Every criterion for every candidate: {"settings": ..., "rows": {name: {...}}}."""
    world = plain_world(body)
    raw = standing_start(world)
    stands = body.name == RODENT.name
    start = settled(world, raw, 4.0) if stands else raw
    rate = speeds(world, start, entries, effort.rounds)
    controls = sinusoids(start, effort.vigorous_sims, 75, amplitude=0.25)
    fine = vigorous(_rollout(world, FINE_REFERENCE, start, effort), controls, start)
    reference = load_reference(world)
    tracked = reference and track(world, TRACKING_REFERENCE, reference)
    rows: dict[str, dict[str, Any]] = {}
    for candidate in entries:
        row: dict[str, Any] = {"speed": rate[candidate.name]}
        row["speed_ratio"] = rate[candidate.name] / rate[entries[0].name]
        # The humanoid falls; its first second is a fall begun under gravity.
        row |= standing(world, candidate, start, 10.0 if stands else 1.0)
        rows[candidate.name] = row
        if not np.isfinite(row["stand_drift_mm"]):
            print(f"{candidate.name}: diverges in standing", flush=True)
            continue
        row |= landing(world, candidate, start)
        motion = vigorous(_rollout(world, candidate, start, effort), controls, start)
        row |= motion_errors(motion, fine)
        row |= random_actions(world, candidate, start, effort.random_steps)
        if reference is not None and tracked is not None:
            row |= tracking_ratio(track(world, candidate, reference), tracked)
        row |= profile(world, candidate, start)
        print(f"{candidate.name}: {summary(row)}", flush=True)
    return {"stamp": stamp(), "body": body.name, "rows": rows}


def study_random(body: Body, entries: Sequence[Candidate], steps: int) -> dict[str, Any]:
    """Only the random actions, for long runs."""
    world = plain_world(body)
    start = standing_start(world)
    rows = {c.name: random_actions(world, c, start, steps) for c in entries}
    return {"stamp": stamp(), "body": body.name, "rows": rows}


def plain_world(body: Body) -> World:
    """The body on a floor, with a model that no candidate's edit has touched yet."""
    return build_world(Floor(), [replace(body, physics=BASELINE.options)])


def _rollout(world: World, candidate: Candidate, start: Start, effort: Effort) -> Rollout:
    return Rollout(world, candidate, start, effort.vigorous_sims)


def stamp() -> dict[str, Any]:
    """Versions and hardware."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = models[0].split(":")[1].strip() if models else cpu
    return {
        "mujoco": mujoco.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }


COLUMNS = {
    "speed_ratio": ("speed", ".2f"),
    "stand_drift_mm": ("drift mm", ".2f"),
    "stand_depth_mm": ("stand depth mm", ".2f"),
    "stand_joint_speed": ("stand rad/s", ".2f"),
    "depth_p50_mm": ("depth p50 mm", ".2f"),
    "depth_p99_mm": ("p99 mm", ".2f"),
    "landing_depth_mm": ("landing mm", ".1f"),
    "root_error_02s_mm": ("root error 0.2 s mm", ".2f"),
    "root_error_1s_mm": ("1 s mm", ".1f"),
    "joint_error_02s_rad": ("joint error 0.2 s rad", ".4f"),
    "tracking_ratio": ("tracking", ".3f"),
    "tracking_steps": ("survives", ".0f"),
    "tracking_depth_p99_mm": ("walk p99 mm", ".2f"),
    "random_diverged": ("diverged", "d"),
    "random_depth_p99_mm": ("random p99 mm", ".2f"),
    "iterations_mean": ("iterations", ".1f"),
}


def summary(row: dict[str, Any]) -> str:
    """One line with the main numbers of a row."""
    return ", ".join(
        f"{title} {row[key]:{form}}" for key, (title, form) in COLUMNS.items() if key in row
    )


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The table of the main numbers."""
    lines = ["| settings | " + " | ".join(title for title, _ in COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 1) + "|")
    for name, row in rows.items():
        cells = [f"{row[key]:{form}}" if key in row else "" for key, (_, form) in COLUMNS.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a file atomically."""
    path.parent.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        json.dump(value, file, indent=1)
    os.chmod(name, 0o644)
    os.replace(name, path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("body", choices=sorted(BODIES))
    parser.add_argument("--quick", action="store_true", help="fewer rounds and random steps")
    parser.add_argument("--only", nargs="+", help="names of candidates")
    parser.add_argument("--random-only", action="store_true", help="measure nothing else")
    parser.add_argument("--random-steps", type=int, help="control steps under random actions")
    parser.add_argument("--tag", default="", help="suffix of the result file")
    args = parser.parse_args()
    # Divergence is counted; MuJoCo would also report each one.
    logging.disable(logging.WARNING)
    entries = candidates(args.body)
    if args.only:
        unknown = set(args.only) - {c.name for c in entries}
        if unknown:
            parser.error(f"no candidates {sorted(unknown)}; there are {[c.name for c in entries]}")
        entries = [c for c in entries if c.name in args.only]
    effort = QUICK if args.quick else FULL
    if args.random_steps:
        effort = replace(effort, random_steps=args.random_steps)
    body = BODIES[args.body]
    if args.random_only:
        result = study_random(body, entries, effort.random_steps)
    else:
        result = study(body, entries, effort)
    write_json(RESULTS / f"physics_{args.body}{args.tag}.json", result)
    print(markdown(result["rows"]))


if __name__ == "__main__":
    main()
