"""C MuJoCo: many simulations of one model on a thread pool."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from vnl_envs.bodies.body import BodyModel
from vnl_envs.physics import Physics

# Positions and velocities current after a step; see `Batch.step`.
_CURRENT = mujoco.mjtStage.mjSTAGE_VEL.value
# The warnings of divergence follow one another.
_DIVERGED = slice(
    mujoco.mjtWarning.mjWARN_BADQPOS.value, mujoco.mjtWarning.mjWARN_BADQACC.value + 1
)

MAX_SPEED = 1e6
"""A simulation has diverged when a velocity (m/s or rad/s) is not below this, or not a number."""


class NativeEngine:
    """`num` simulations of a model. Rows of every array are the simulations.

    The same states and controls give the same bits for any number of simulations and threads.

    Args:
        model: the compiled model.
        num: simulations.
        threads: 0 uses every CPU.

    Attributes:
        model: the engine's own copy of the model.
        num, threads: as given.
        ctrl: (num, nu) controls, written before a step.
    """

    def __init__(self, model: mujoco.MjModel, num: int, threads: int = 0) -> None:
        self.num, self.threads = num, threads
        self._build(model)

    def _build(self, model: mujoco.MjModel) -> None:
        # A simulation alone needs no thread but the caller's.
        threads = 1 if self.num == 1 else self.threads
        self._batch = Batch(model, self.num, nthread=threads, persistent=True)
        _BATCHES.add(self._batch)
        self._pid = os.getpid()
        self.model = self._batch.model
        self.ctrl = self._batch.bind("ctrl")
        self._qvel = self._batch.bind("qvel")
        self._mocap_pos = self._batch.bind("mocap_pos")
        # How often each simulation has diverged, live, and as of the last look. Of each warning,
        # MuJoCo keeps the last place and the number.
        self._warnings = self._batch.warning[:, _DIVERGED, 1]
        self._warned = self._warnings.copy()
        self._views: dict[str, Physics] = {}

    def physics(self, body: BodyModel) -> Physics:
        """A live view of one body, refreshed by every call that advances or sets a state."""
        self._survive_fork()
        name = body.body.name
        if name not in self._views:
            bind = self._batch.bind
            rows = {
                "qpos": body.qpos,
                "qvel": body.qvel,
                "act": body.act,
                **dict.fromkeys(("xpos", "xquat", "xmat", "xipos"), body.bodies),
                **dict.fromkeys(("geom_xpos", "geom_xmat"), body.geoms),
            }
            self._views[name] = Physics(**{k: bind(k)[:, v] for k, v in rows.items()})
            # A field bound between calls is zero until the next one.
            self._batch.forward(stage=_CURRENT)
        return self._views[name]

    def step(self, substeps: int, ids: np.ndarray | None = None) -> np.ndarray:
        """Advance simulations (all if None); return which of all diverged in it, (num,) bool."""
        self._survive_fork()
        failed = np.zeros(self.num, bool)
        try:
            self._batch.step(ids, nstep=substeps, stage=_CURRENT)
        except SimulationError as error:
            failed[error.ids] = True
        # A comparison with NaN is False.
        failed |= ~(np.abs(self._qvel) < MAX_SPEED).all(axis=1)
        new = self._warnings != self._warned
        if new.any():
            failed |= new.any(axis=1)
            self._warned = self._warnings.copy()
        return failed

    def place(
        self, body: BodyModel, mocap_pos: np.ndarray | None, force: np.ndarray | None
    ) -> None:
        """Move scenery, (num, nmocap, 3) m, and push a body's root, (num, 3) N."""
        if mocap_pos is not None:
            self._mocap_pos[:] = mocap_pos
        if force is not None:
            self._batch.bind("xfrc_applied")[:, body.bodies.start, :3] = force

    def start(
        self,
        ids: np.ndarray,
        body: BodyModel,
        qpos: np.ndarray,
        qvel: np.ndarray,
        act: np.ndarray,
        mocap_pos: np.ndarray | None,
    ) -> None:
        """Put simulations into a state, everything else as in a new simulation."""
        self.start_several(ids, [body], qpos[:, None], qvel[:, None], act[:, None], mocap_pos)

    def start_several(
        self,
        ids: np.ndarray,
        bodies: Sequence[BodyModel],
        qpos: np.ndarray,
        qvel: np.ndarray,
        act: np.ndarray,
        mocap_pos: np.ndarray | None,
    ) -> None:
        """Like `start`, with a state for each of several bodies, (len(ids), bodies, ...) each."""
        self._survive_fork()
        batch = self._batch
        batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        for i, body in enumerate(bodies):
            batch.bind("qpos")[ids, body.qpos] = qpos[:, i]
            batch.bind("qvel")[ids, body.qvel] = qvel[:, i]
            batch.bind("act")[ids, body.act] = act[:, i]
        if mocap_pos is not None:
            self._mocap_pos[ids] = mocap_pos
        batch.forward(ids, stage=_CURRENT)
        self._warned = self._warnings.copy()

    def get_state(self) -> np.ndarray:
        """The whole integration state of every simulation, (num, nstate) float64."""
        return self._batch.state.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Restore `get_state`'s; every view is current afterwards."""
        self._survive_fork()
        self._batch.state[:] = state
        self._batch.forward(stage=_CURRENT)
        self._warned = self._warnings.copy()

    def data(self, index: int, into: mujoco.MjData | None = None) -> mujoco.MjData:
        """One simulation's `MjData`, a copy."""
        return self._batch.get_data(index, into)

    def _survive_fork(self) -> None:
        """Threads do not survive a fork: in a child, build the batch anew from its rows."""
        if os.getpid() == self._pid:
            return
        state = self.get_state()
        self._build(self.model)
        self._batch.state[:] = state
        self._batch.forward(stage=_CURRENT)


_BATCHES: weakref.WeakSet[Batch] = weakref.WeakSet()


def _keep_for_ever() -> None:
    """In a forked child: a batch that is freed waits for threads that only the parent has."""
    for batch in _BATCHES:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(batch))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)
