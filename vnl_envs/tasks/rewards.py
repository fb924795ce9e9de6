"""Small pure reward functions."""

from __future__ import annotations

import math

from vnl_envs.physics import Array, namespace
from vnl_envs.tasks.observations import Frame


def gaussian(distance: Array, sigma: Array | float) -> Array:
    """exp(-(d/σ)²/2), (...,): 1 at distance 0, 0.61 at one σ."""
    xp = namespace(distance)
    return xp.exp(-0.5 * (distance / sigma) ** 2)


def progress(now: Array, best: Array, target_speed: float, dt: float) -> Array:
    """New progress beyond the best so far, as a fraction of a step at the target speed, in [0, 1].

    Rocking back and forth earns the same stretch only once.

    Args:
        now: (...,) quantity that should grow, m.
        best: (...,) greatest value before this step, m.
        target_speed: speed that earns 1, m/s.
        dt: duration of a control step, s.
    """
    xp = namespace(now)
    return xp.minimum(xp.maximum((now - best) / (target_speed * dt), 0.0), 1.0)


def uprightness(own: Frame, kind: str) -> Array:
    """Uprightness of a body in [0, 1], (...,).

    Args:
        own: frame of the body.
        kind: "tilt" is the cosine of the angle between the body's up axis and the world's. "roll"
            is the cosine of the angle between the body's left axis and the ground; it ignores
            pitch, and is 0 for a body on its back.
    """
    left_z, up_z = own.rotation[..., 2, 1], own.rotation[..., 2, 2]
    xp = namespace(up_z)
    if kind == "tilt":
        return xp.maximum(up_z, 0.0)
    # A rearing or grooming rat tilts to 120 degrees, where the cosine is -0.5.
    return xp.where(up_z > -0.5, xp.sqrt(xp.maximum(1.0 - left_z * left_z, 0.0)), 0.0)


def upright_within(own: Frame, angle: float) -> Array:
    """1 within an angle (rad) of upright, falling to 0 upside down with the cosine.

    `dm_control.locomotion.tasks.escape` has it for the root and, of the rat, the pelvis too.
    """
    up_z = own.rotation[..., 2, 2]
    xp = namespace(up_z)
    return xp.minimum(xp.maximum((1.0 + up_z) / (1.0 + math.cos(angle)), 0.0), 1.0)


def comic(
    termination_error: Array,
    threshold: float,
    squared: dict[str, Array],
) -> dict[str, Array]:
    """The terms of dm_control's comic reward, each (...,). Their sum is the reward.

    One half rewards a small termination error, the other compares poses (Hasenclever et al. 2020,
    "CoMic"; constants of `dm_control.locomotion.tasks.reference_pose.rewards`). The reward does
    not lie in [0, 1]: the pose terms add up to at most 0.95, all terms to 1.45.

    Args:
        termination_error: (...,) half the mean absolute body position error (m) plus half the
            mean absolute joint error (rad).
        threshold: termination error at which the episode ends.
        squared: summed squared differences by name, each (...,): center_of_mass, joints_velocity,
            appendages and body_quaternions.
    """
    xp = namespace(termination_error)
    weights = {
        "appendages": (0.15, 40.0),
        "body_quaternions": (0.65, 2.0),
        "center_of_mass": (0.1, 10.0),
        "joints_velocity": (1.0, 0.1),
    }
    terms = {
        name: 0.5 * weight * xp.exp(-scale * squared[name])
        for name, (weight, scale) in weights.items()
    }
    return {**terms, "termination": 0.5 * (1.0 - termination_error / threshold)}
