"""C MuJoCo: many simulations of one model on threads."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError

from vnl_envs.bodies.constants import need_constants
from vnl_envs.bodies.model import BodyModel
from vnl_envs.physics import Physics

# Stage at which a step ends: positions and velocities are current; see `Batch.step`.
_CURRENT = mujoco.mjtStage.mjSTAGE_VEL.value
# MuJoCo's warnings of divergence, which are contiguous.
_DIVERGED = slice(
    mujoco.mjtWarning.mjWARN_BADQPOS.value, mujoco.mjtWarning.mjWARN_BADQACC.value + 1
)

# State on which the next step depends. Controls and forces are set before it, and MuJoCo's flags
# and user data never change.
_CARRIED = (
    mujoco.mjtState.mjSTATE_FULLPHYSICS.value
    | mujoco.mjtState.mjSTATE_WARMSTART.value
    | mujoco.mjtState.mjSTATE_MOCAP_POS.value
    | mujoco.mjtState.mjSTATE_MOCAP_QUAT.value
)

MAX_SPEED = 1e6
"""Speed from which on a simulation has diverged, m/s or rad/s; NaN counts as divergence too."""


class NativeEngine:
    """`num` simulations of a model. Simulations are the leading axis of every array.

    The same states and controls give the same bits for any number of simulations and threads.

    Args:
        model: compiled model.
        num: number of simulations.
        threads: number of threads; 0 uses every CPU.
        transient: whether every step follows a `set_rows`. Simulations then keep no `MjData`. This
            saves memory, but a step cannot reuse results of the one before.

    Attributes:
        model: the engine's own copy of the model.
        num, threads, transient: as given.
        ctrl: (num, nu) controls, to be written before a step.
    """

    def __init__(
        self, model: mujoco.MjModel, num: int, threads: int = 0, transient: bool = False
    ) -> None:
        self.num, self.threads, self.transient = num, threads, transient
        self._columns = _columns(model)
        self._build(model)

    def _build(self, model: mujoco.MjModel) -> None:
        # A single simulation needs only the caller's thread.
        threads = 1 if self.num == 1 else self.threads
        self._batch = Batch(model, self.num, nthread=threads, persistent=not self.transient)
        _BATCHES.add(self._batch)
        self._pid = os.getpid()
        self.model = self._batch.model
        self.ctrl = self._batch.bind("ctrl")
        self._qvel = self._batch.bind("qvel")
        self._mocap_pos = self._batch.bind("mocap_pos")
        # Number of times that each simulation has diverged: a live view, and a copy from the last
        # check. MuJoCo keeps the last index and the count of each warning.
        self._warnings = self._batch.warning[:, _DIVERGED, 1]
        self._warned = self._warnings.copy()
        self._views: dict[str, Physics] = {}
        # Names of the model's fields of which each simulation has its own.
        self._edited: set[str] = set()

    def physics(self, body: BodyModel) -> Physics:
        """A live view of one body, (num, ...). Calls that advance or set a state refresh it."""
        self._survive_fork()
        name = body.body.name
        if name not in self._views:
            bind = self._batch.bind
            self._views[name] = Physics(**{k: bind(k)[:, v] for k, v in body.spans.items()})
            # A newly bound field is zero until the next call.
            self._batch.forward(stage=_CURRENT)
        return self._views[name]

    def step(self, substeps: int, ids: np.ndarray | None = None) -> np.ndarray:
        """Advance simulations.

        Args:
            substeps: number of physics steps; 0 only makes derived values current.
            ids: (n,) simulations; None is all.

        Returns:
            (num,) bool, whether a simulation diverged in this step.
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
        """Set positions of scenery and forces on a body's root; None changes nothing.

        Args:
            body: body that is pushed.
            mocap_pos: (num, nmocap, 3) positions, m.
            force: (num, 3) forces at the root's centre of mass, N, world frame.
        """
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
        """Reset simulations, and set the state of a body.

        Args:
            ids: (n,) simulations.
            body: body with this state; other bodies are at the model's defaults.
            qpos, qvel, act: (n, nq), (n, nv) and (n, na), see `Physics`.
            mocap_pos: (n, nmocap, 3) positions of scenery, m; None is the model's default.
        """
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
        """Like `start`, with a state for each of several bodies, (n, bodies, ...) each."""
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
        """Set fields of the model for single simulations, and the constants derived from them.

        A simulation with unchanged values costs only a comparison. Call this before a state is
        set.

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
        """A copy of one simulation's model; the engine's model if no field was ever edited."""
        self._survive_fork()
        return self._batch.get_model(index, into) if self._edited else self.model

    def get_state(self) -> np.ndarray:
        """The full integration state of every simulation, (num, nstate) float64."""
        return self._batch.state.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Restore a state from `get_state`, (num, nstate). All views are current afterwards."""
        self._survive_fork()
        self._batch.state[:] = state
        self._batch.forward(stage=_CURRENT)
        self._warned = self._warnings.copy()

    def rows(self) -> np.ndarray:
        """The part of the state on which the next step depends, (num, k) float64."""
        return self._batch.state[:, self._columns]

    def set_rows(self, rows: np.ndarray) -> None:
        """Restore states from `rows`, (num, k). Views are current after the next step."""
        self._survive_fork()
        self._batch.state[:, self._columns] = rows

    def fill(self, data: mujoco.MjData, row: np.ndarray) -> None:
        """Write one row (k,) of `rows` into an `MjData` of the same model."""
        mujoco.mj_setState(self.model, data, row, _CARRIED)

    def data(self, index: int, into: mujoco.MjData | None = None) -> mujoco.MjData:
        """A copy of one simulation's `MjData`."""
        return self._batch.get_data(index, into)

    def _survive_fork(self) -> None:
        """Rebuild the batch in a forked child, where the parent's threads do not exist."""
        if os.getpid() == self._pid:
            return
        state = self.get_state()
        fields = {name: self._batch.expand(name).copy() for name in self._edited}
        self._build(self.model)
        self.edit(np.arange(self.num), fields)
        self._batch.state[:] = state
        self._batch.forward(stage=_CURRENT)


def _columns(model: mujoco.MjModel) -> np.ndarray:
    """Columns of `_CARRIED` in a row of the integration state, (k,)."""
    kept, start = [], 0
    for bit in range(mujoco.mjtState.mjNSTATE.value):
        part = mujoco.mjtState.mjSTATE_INTEGRATION.value & (1 << bit)
        size = mujoco.mj_stateSize(model, part) if part else 0
        if part & _CARRIED:
            kept.append(np.arange(start, start + size))
        start += size
    return np.concatenate(kept)


_BATCHES: weakref.WeakSet[Batch] = weakref.WeakSet()


def _keep_for_ever() -> None:
    """Keep all batches in a forked child: freeing one would wait for threads of the parent."""
    for batch in _BATCHES:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(batch))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)
