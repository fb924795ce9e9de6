"""C MuJoCo: many simulations of one model on a thread pool."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from vnl_envs.bodies.body import BodyModel
from vnl_envs.bodies.constants import need_constants
from vnl_envs.physics import Physics

# Positions and velocities current after a step; see `Batch.step`.
_CURRENT = mujoco.mjtStage.mjSTAGE_VEL.value
# The warnings of divergence follow one another.
_DIVERGED = slice(
    mujoco.mjtWarning.mjWARN_BADQPOS.value, mujoco.mjtWarning.mjWARN_BADQACC.value + 1
)

# What the next step depends on, and nothing that a step overwrites: controls and forces are set
# before it, and MuJoCo's flags and user data never change.
_TRAVELS = (
    mujoco.mjtState.mjSTATE_FULLPHYSICS.value
    | mujoco.mjtState.mjSTATE_WARMSTART.value
    | mujoco.mjtState.mjSTATE_MOCAP_POS.value
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT.value
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
        transient: whether every step begins with `set_rows`. Simulations then keep no `MjData`,
            which saves memory, and a step that follows another saves no time.

    Attributes:
        model: the engine's own copy of the model.
        num, threads, transient: as given.
        ctrl: (num, nu) controls, written before a step.
    """

    def __init__(
        self, model: mujoco.MjModel, num: int, threads: int = 0, transient: bool = False
    ) -> None:
        self.num, self.threads, self.transient = num, threads, transient
        self._columns = _columns(model)
        self._build(model)

    def _build(self, model: mujoco.MjModel) -> None:
        # A simulation alone needs no thread but the caller's.
        threads = 1 if self.num == 1 else self.threads
        self._batch = Batch(model, self.num, nthread=threads, persistent=not self.transient)
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
        # Names of the model's fields that simulations have for themselves.
        self._edited: set[str] = set()

    def physics(self, body: BodyModel) -> Physics:
        """A live view of one body, refreshed by every call that advances or sets a state."""
        self._survive_fork()
        name = body.body.name
        if name not in self._views:
            bind = self._batch.bind
            self._views[name] = Physics(**{k: bind(k)[:, v] for k, v in body.spans.items()})
            # A field bound between calls is zero until the next one.
            self._batch.forward(stage=_CURRENT)
        return self._views[name]

    def step(self, substeps: int, ids: np.ndarray | None = None) -> np.ndarray:
        """Advance simulations (all if None); return which of all diverged in it, (num,) bool.

        Without substeps they stay as they are, and only become current.
        """
        self._survive_fork()
        failed = np.zeros(self.num, bool)
        try:
            if substeps:
                self._batch.step(ids, nstep=substeps, stage=_CURRENT)
            else:
                self._batch.forward(ids, stage=_CURRENT)
        except SimulationError as error:
            failed[error.ids] = True
        speed = np.abs(self._qvel)
        # A comparison with NaN is False.
        if not speed.max() < MAX_SPEED:
            failed |= ~(speed < MAX_SPEED).all(axis=1)
        new = self._warnings != self._warned
        if new.any():
            failed |= new.any(axis=1)
            self._warned = self._warnings.copy()
        return failed

    def set_inputs(
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

    def edit(self, ids: np.ndarray, fields: Mapping[str, np.ndarray]) -> None:
        """Give simulations `ids` values of their own of the model's fields.

        What MuJoCo derives from them follows. A simulation whose values stay costs a comparison.
        To be called before a state is set.

        Args:
            ids: (n,) simulations.
            fields: name as in `mujoco.batch.MODEL_FIELDS` -> (n, *field's shape).
        """
        if not fields:
            return
        self._survive_fork()
        stale = np.zeros(len(ids), bool)
        for name, value in fields.items():
            own = self._batch.expand(name)
            new = np.asarray(value, own.dtype)
            if need_constants([name]):
                stale |= (own[ids] != new).reshape(len(ids), -1).any(axis=1)
            own[ids] = new
        self._edited.update(fields)
        if stale.any():
            self._batch.set_const(ids[stale])

    def model_of(self, index: int, into: mujoco.MjModel | None = None) -> mujoco.MjModel:
        """One simulation's model, a copy; the common one where no field was ever edited."""
        self._survive_fork()
        return self._batch.get_model(index, into) if self._edited else self.model

    def get_state(self) -> np.ndarray:
        """The whole integration state of every simulation, (num, nstate) float64."""
        return self._batch.state.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Restore `get_state`'s; every view is current afterwards."""
        self._survive_fork()
        self._batch.state[:] = state
        self._batch.forward(stage=_CURRENT)
        self._warned = self._warnings.copy()

    def rows(self) -> np.ndarray:
        """What the next step depends on, (num, k) float64, to be carried about."""
        return self._batch.state[:, self._columns]

    def set_rows(self, rows: np.ndarray) -> None:
        """Put simulations into states that `rows` gave; views are current after the next step."""
        self._survive_fork()
        self._batch.state[:, self._columns] = rows

    def fill(self, data: mujoco.MjData, row: np.ndarray) -> None:
        """Write one row of `rows` into a simulation of the same model."""
        mujoco.mj_setState(self.model, data, row, _TRAVELS)

    def data(self, index: int, into: mujoco.MjData | None = None) -> mujoco.MjData:
        """One simulation's `MjData`, a copy."""
        return self._batch.get_data(index, into)

    def _survive_fork(self) -> None:
        """Threads do not survive a fork: in a child, build the batch anew from its rows."""
        if os.getpid() == self._pid:
            return
        state = self.get_state()
        fields = {name: self._batch.expand(name).copy() for name in self._edited}
        self._build(self.model)
        self.edit(np.arange(self.num), fields)
        self._batch.state[:] = state
        self._batch.forward(stage=_CURRENT)


def _columns(model: mujoco.MjModel) -> np.ndarray:
    """Where in a row of the integration state stands what `_TRAVELS`."""
    kept, start = [], 0
    for bit in range(mujoco.mjtState.mjNSTATE.value):
        part = mujoco.mjtState.mjSTATE_INTEGRATION.value & (1 << bit)
        size = mujoco.mj_stateSize(model, part) if part else 0
        if part & _TRAVELS:
            kept.append(np.arange(start, start + size))
        start += size
    return np.concatenate(kept)


_BATCHES: weakref.WeakSet[Batch] = weakref.WeakSet()


def _keep_for_ever() -> None:
    """In a forked child: a batch that is freed waits for threads that only the parent has."""
    for batch in _BATCHES:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(batch))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)
