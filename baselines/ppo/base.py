"""An action to which a policy adds: `track`, from the observation alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from baselines.export import Layer, dense

_JOINTS, _AHEAD = "proprioception/joint_position", "task/reference_joints"


# Compared by identity, because networks that JAX compiles contain it.
@dataclass(frozen=True, eq=False)
class Track:
    """Commands the servos to the next reference frame, as the tracking policy does.

    Joint angles and their differences to the reference are both observed. A servo's length is
    linear in the angles, and the action is linear in the length. So the action is an affine
    function of the observation within limits.

    Attributes:
        weight, bias: (nu, D) and (nu,) affine map from an observation to an action.
        low, high: (nu,) limits of the servos, as actions.
    """

    weight: np.ndarray
    bias: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, task: Any, layout: Mapping[str, slice]) -> Track:
        """Make the base action of an imitation task.

        Args:
            task: task whose body has the servos.
            layout: slices of its observations by name.

        Raises:
            ValueError: there is no reference, its next frame is not observed, or the actuators are
                motors.
        """
        if _AHEAD not in layout or task.reference_frames[0] != 1 or not task.body.servos:
            raise ValueError(
                "only an imitation task with servos, which observes the next "
                "reference frame, can be tracked"
            )
        body, model = task.body, task.body.model
        rows = body.ctrl
        moment, offset = _lengths(body)
        gain, prm = model.actuator_gainprm[rows, 0], model.actuator_biasprm[rows]
        scale = -prm[:, 1] / gain
        per_joint = moment * (scale / body.span)[:, None]
        rest = -prm[:, 0] / gain + scale * offset - body.standing_control
        weight = np.zeros((body.nu, max(span.stop for span in layout.values())))
        joints, ahead = layout[_JOINTS], layout[_AHEAD]
        count = joints.stop - joints.start
        weight[:, joints] = weight[:, ahead.start : ahead.start + count] = per_joint
        low, high = model.actuator_ctrlrange[rows].T
        numbers = weight, rest / body.span, body.action(low), body.action(high)
        return cls(*(x.astype(np.float32) for x in numbers))

    def __call__(self, raw: jax.Array) -> jax.Array:
        """Actions (..., nu) at observations (..., D) as the environment gives them."""
        return jnp.clip(raw @ self.weight.T + self.bias, self.low, self.high)

    def tree(self) -> dict[str, np.ndarray]:
        """Its arrays, for a checkpoint."""
        return asdict(self)

    def layers(self) -> list[Layer]:
        """The same function as layers for `write_onnx`."""
        return [
            dense(self.weight, self.bias),
            Layer("Max", (self.low,)),
            Layer("Min", (self.high,)),
        ]


def _lengths(body: Any) -> tuple[np.ndarray, np.ndarray]:
    """Actuator lengths as moment (nu, nj) times joint angles plus offset (nu,)."""
    data = mujoco.MjData(body.model)
    data.qpos[body.qpos] = body.standing_qpos
    mujoco.mj_fwdPosition(body.model, data)
    moment = np.zeros((body.model.nu, body.model.nv))
    mujoco.mju_sparse2dense(
        moment, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind
    )
    own = moment[body.ctrl, body.qvel][:, 6:]
    return own, data.actuator_length[body.ctrl] - own @ body.standing_qpos[7:]
