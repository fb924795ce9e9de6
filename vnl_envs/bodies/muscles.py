"""Antagonist pairs of muscles in the place of servos.

Two of MuJoCo's muscles pull each joint, or the joints of a tendon, in opposite directions. They are
no anatomy: moment arms are constant, and no muscle crosses two joints unless a tendon does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np

from vnl_envs.physics import Array, Physics, namespace

TIME_CONSTANTS = (0.01, 0.04)
"""Of activation and deactivation, s (Millard et al. 2013; MuJoCo's defaults)."""

LENGTHS = (0.75, 1.05)
"""Lengths at the ends of the joint's range, in optimal lengths L0 (MuJoCo's defaults)."""

SHORTEST, LONGEST = 0.5, 1.6
"""Lengths between which a muscle has active force, L0 (MuJoCo's defaults)."""

FASTEST = 10.0
"""Speed of shortening without load, L0/s (Zajac 1989)."""

PASSIVE, MOST_ECCENTRIC = 1.3, 1.2
"""Twice the passive force halfway from L0 to `LONGEST`, and the active force in fast lengthening,
in F0 (MuJoCo's defaults of `fpmax` and `fvmax`)."""

POSITIVE, NEGATIVE = "_positive", "_negative"
"""Ends of the names of the muscles that pull a servo's length up and down."""


def replace_servos(spec: mujoco.MjSpec) -> None:
    """Put a pair of muscles in the place of each position servo of a spec, in the same order.

    A muscle's greatest isometric force F0 is the greatest force of the servo in its direction,
    within its force range and with targets within the joint's range. The range of its length is
    that of the joint, or the sum over the tendon's.

    Raises:
        ValueError: a joint has no limits, or a servo moves neither a joint nor a fixed tendon.
    """
    model = spec.compile()
    # All are made again, so that the order stays.
    for actuator in list(spec.actuators):
        row = model.actuator(actuator.name).id
        if model.actuator_biastype[row] != mujoco.mjtBias.mjBIAS_AFFINE:
            raise ValueError(f"actuator {actuator.name!r} is no position servo: no muscles for it")
        gear, stiffness = model.actuator_gear[row, 0], -model.actuator_biasprm[row, 1]
        span = _range(model, row)
        # The rat's servos declare a range that MuJoCo does not enforce; it is their strength too.
        declared = model.actuator_forcerange[row]
        down, up = declared if declared.any() else (-np.inf, np.inf)
        for sign, most, end in ((-1, up, POSITIVE), (1, -down, NEGATIVE)):
            force = min(most, stiffness * np.ptp(span))
            muscle = spec.add_actuator(
                name=actuator.name + end, trntype=actuator.trntype, target=actuator.target
            )
            muscle.set_to_muscle(
                TIME_CONSTANTS, 0, LENGTHS, force, -1, SHORTEST, LONGEST, FASTEST, PASSIVE,
                MOST_ECCENTRIC,
            )  # fmt: skip
            muscle.gear[:] = sign * gear, 0, 0, 0, 0, 0
            muscle.lengthrange[:] = np.sort(sign * span)
            muscle.ctrllimited, muscle.ctrlrange[:] = True, (0, 1)
            muscle.actlimited, muscle.actrange[:] = True, (0, 1)
            # The standing torque follows from the servo's.
            muscle.userdata = [stiffness]
        spec.delete(actuator)


def _range(model: mujoco.MjModel, row: int) -> np.ndarray:
    """Least and greatest length of an actuator, (2,), rad.

    Raises:
        ValueError: a joint has no limits, or there is neither a joint nor a fixed tendon.
    """
    joints, factors = _moments(model, row)
    if not model.jnt_limited[joints].all():
        name = model.actuator(row).name
        raise ValueError(f"actuator {name!r} moves a joint without limits: no muscles for it")
    return np.sort(model.jnt_range[joints] * factors[:, None], axis=1).sum(axis=0)


def _moments(model: mujoco.MjModel, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints that an actuator moves, and its moment arms about them, (k,) each.

    Raises:
        ValueError: there is neither a joint nor a fixed tendon.
    """
    gear, target = model.actuator_gear[row, 0], model.actuator_trnid[row, 0]
    kind = model.actuator_trntype[row]
    if kind == mujoco.mjtTrn.mjTRN_JOINT:
        return np.array([target]), np.array([gear])
    if kind == mujoco.mjtTrn.mjTRN_TENDON:
        first = model.tendon_adr[target]
        parts = slice(first, first + model.tendon_num[target])
        if (model.wrap_type[parts] == mujoco.mjtWrap.mjWRAP_JOINT).all():
            return model.wrap_objid[parts], gear * model.wrap_prm[parts]
    name = model.actuator(row).name
    raise ValueError(f"actuator {name!r} moves neither a joint nor a fixed tendon")


def lump_muscle_damping(model: mujoco.MjModel) -> None:
    """Move half of the damping of fully active muscles into the inertia of their joints.

    A muscle's force falls with its speed of shortening, at rest by 2 F0 / (FASTEST L0) times its
    activation. An explicit step h of a joint with inertia M and damping D is stable below
    h D = 2 M. With h D / 2 as additional inertia it is stable at every activation.
    """
    for row in np.flatnonzero(model.actuator_gaintype == mujoco.mjtGain.mjGAIN_MUSCLE):
        damping = model.actuator_gainprm[row, 2] / (FASTEST * _optimal_length(model, row))
        inertia = model.actuator_gear[row, 0] ** 2 * model.opt.timestep * damping
        target = model.actuator_trnid[row, 0]
        if model.actuator_trntype[row] == mujoco.mjtTrn.mjTRN_JOINT:
            model.dof_armature[model.jnt_dofadr[target]] += inertia
        else:
            model.tendon_armature[target] += inertia


class MuscleState(NamedTuple):
    """State of n muscles.

    Attributes:
        length: (..., n), L0.
        velocity: (..., n) of lengthening, L0/s.
        force: (..., n) pull, F0.
    """

    length: Array
    velocity: Array
    force: Array


class Muscles:
    """The pairs of one body in a compiled world.

    Args:
        model: compiled world.
        rows: the body's actuators.
        joint: address of the body's first scalar joint in `qpos`.
    """

    def __init__(self, model: mujoco.MjModel, rows: slice, joint: int) -> None:
        self._stiffness = model.actuator_user[rows, 0][::2].copy()
        self._force = model.actuator_gainprm[rows, 2].copy()
        moments = [_moments(model, row) for row in range(rows.start + 1, rows.stop, 2)]
        width = max(len(joints) for joints, _ in moments)
        pairs = len(moments)
        self._joints, self._factors = np.zeros((pairs, width), int), np.zeros((pairs, width))
        for pair, (joints, factors) in enumerate(moments):
            self._joints[pair, : len(joints)] = model.jnt_qposadr[joints] - joint
            self._factors[pair, : len(joints)] = factors
        self._low, self._high = model.actuator_lengthrange[rows][1::2].T.copy()
        self._optimal = _optimal_length(model, rows)[::2]

    def state(self, physics: Physics) -> MuscleState:
        """Lengths, velocities and forces."""
        angle, rate = self._pairs(physics.qpos[..., 7:]), self._pairs(physics.qvel[..., 6:])
        length = self._lengths(angle)
        velocity = _interleaved(-rate / self._optimal, rate / self._optimal)
        force = physics.act * active_force(length, velocity) + passive_force(length)
        return MuscleState(length, velocity, force)

    def standing(self, joints: np.ndarray, targets: np.ndarray, cocontraction: float) -> np.ndarray:
        """Activations (n,) that exert, at rest, the torques of the servos.

        Args:
            joints, targets: (nj,) angles of the pose, and those that the servos ask for, rad.
            cocontraction: activation that both muscles of a pair have in common.
        """
        angle = self._pairs(joints)
        length = self._lengths(angle)
        up, down = (self._force * active_force(length, 0 * length)).reshape(-1, 2).T
        up_passive, down_passive = (self._force * passive_force(length)).reshape(-1, 2).T
        torque = self._stiffness * (self._pairs(targets) - angle) - up_passive + down_passive
        surplus = torque - cocontraction * (up - down)
        pulled = cocontraction + surplus / (2 * up), cocontraction - surplus / (2 * down)
        # A muscle does not push: what one cannot give less of, the other gives alone.
        return np.clip(
            _interleaved(
                np.where(pulled[1] < 0, torque / up, pulled[0]),
                np.where(pulled[0] < 0, -torque / down, pulled[1]),
            ),
            0.0,
            1.0,
        )

    def _pairs(self, joints: Array) -> Array:
        """Weighted sums (..., n / 2) over the joints (..., nj) of each pair."""
        return (joints.take(self._joints, axis=-1) * self._factors).sum(axis=-1)

    def _lengths(self, angle: Array) -> Array:
        """Lengths (..., n), L0, of muscles at the lengths (..., n / 2) of the servos, rad."""
        shortest = LENGTHS[0]
        return _interleaved(
            shortest + (self._high - angle) / self._optimal,
            shortest + (angle - self._low) / self._optimal,
        )


def active_force(length: Array, velocity: Array) -> Array:
    """Force of fully active muscles, F0, by MuJoCo's curves; see `MuscleState`."""
    return _of_length(length) * _of_velocity(velocity / FASTEST)


def _of_length(length: Array) -> Array:
    """Parabolas that meet at half height, with the top at L0."""
    xp = namespace(length)
    end = xp.where(length < 1, SHORTEST, LONGEST)
    # From 0 at the end of the curve to 1 at its top.
    place = xp.clip((length - end) / (1 - end), 0.0, 1.0)
    return xp.where(place < 0.5, 2 * place**2, 1 - 2 * (1 - place) ** 2)


def _of_velocity(velocity: Array) -> Array:
    """From 0 at -1 over 1 at rest to `MOST_ECCENTRIC`."""
    xp = namespace(velocity)
    more = MOST_ECCENTRIC - 1
    shortening = xp.maximum(velocity + 1, 0.0) ** 2
    lengthening = MOST_ECCENTRIC - xp.maximum(more - velocity, 0.0) ** 2 / more
    return xp.where(velocity < 0, shortening, lengthening)


def passive_force(length: Array) -> Array:
    """Force of relaxed muscles, F0, by MuJoCo's curve; see `MuscleState`."""
    xp = namespace(length)
    half = (LONGEST - 1) / 2
    place = xp.maximum(length - 1, 0.0) / half
    return PASSIVE * xp.where(place < 1, place**2 / 2, place - 0.5)


def _interleaved(first: Array, second: Array) -> Array:
    """Arrays (..., k) as one, (..., 2 k), in turns."""
    both = namespace(first).stack([first, second], axis=-1)
    return both.reshape((*first.shape[:-1], 2 * first.shape[-1]))


def _optimal_length(model: mujoco.MjModel, rows: Any) -> Any:
    """L0 of muscles, rad."""
    return np.ptp(model.actuator_lengthrange[rows], axis=-1) / np.ptp(LENGTHS)
