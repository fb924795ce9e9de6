"""Make the rat clips that ship with the project: `vnl_envs/data/clips/rodent.h5`.

    python assets/make_rodent_clips.py

No recording of a rat may be shipped freely, so the gaits are generated. Timing follows published
measurements (`vnl_envs/motion/generate/motion.py` names them); a planner places the paws on the
ground; running gaits bounce as the paws' forces make them; inverse kinematics finds the joints; the
clips are checked against limits and ground as they are written. Nothing is random.

Bonnan et al. 2016, PLoS ONE 11:e0149377 (rats walk with crouched forelimbs, elbows adducted and
pointing back, hands pointing forward) was used to judge the pictures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vnl_envs.bodies import RODENT
from vnl_envs.bodies.body import Standing
from vnl_envs.motion.clip import write_clips
from vnl_envs.motion.generate.draw import make_clip
from vnl_envs.motion.generate.motion import Motion
from vnl_envs.motion.generate.quality import measure
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import build_world
from vnl_envs.utils.resources import packaged

STANDING, CLIPS = packaged("standing"), packaged("clips")

_STEP: dict[str, Any] = {
    "lift": -0.005,
    "spine": 0.12,
    "sway": 0.002,
    "bob": 0.001,
    "roll": 0.03,
    "pitch": 0.015,
}
_TROT: dict[str, Any] = {
    "lag": 0.5,
    "runs": True,
    "lift": -0.005,
    "spine": 0.12,
    "sway": 0.001,
    "roll": 0.02,
}
_BOUND: dict[str, Any] = {
    "lag": 0.47,
    "apart": 0.0,
    "runs": True,
    "drive": 0.1,
    "lift": 0.002,
    "arch": 0.35,
    "clearance": 0.015,
    "keys": (0.35, 0.65),
}
_QUIET: dict[str, Any] = {"breath": 0.0003, "sway": 0.0006}
_LOW: dict[str, Any] = {**_STEP, "lift": -0.009, "spine": 0.08}

MOTIONS = (
    Motion("stand", "stand", "train", head_yaw=0.03, head_pitch=0.03, head_rate=0.3, **_QUIET),
    Motion("stand_alert", "stand", "test", carriage=0.1, gaze=0.3, stagger=0.008, head_yaw=0.15,
           head_pitch=0.05, head_rate=0.2, breath=0.0004, sway=0.001),
    Motion("walk_slow", "walk", "test", speed=0.13, start=0.3, **_STEP),
    Motion("walk", "walk", "train", speed=0.25, **_STEP),
    Motion("walk_fast", "walk", "train", speed=0.34, lag=0.42, start=0.2, **_STEP),
    Motion("walk_nose_down", "walk", "train", speed=0.16, start=0.7, carriage=-0.12, gaze=-0.45,
           head_yaw=0.25, head_pitch=0.06, head_rate=0.5, **_STEP),
    Motion("walk_nose_up", "walk", "test", speed=0.2, start=0.5, carriage=0.1, gaze=0.35, **_STEP),
    Motion("turn_left", "turn", "train", speed=0.22, turn=0.7, **_STEP),
    Motion("turn_right", "turn", "test", speed=0.17, turn=-0.55, start=0.6, **_STEP),
    Motion("turn_left_tight", "turn", "test", speed=0.13, turn=1.1, start=0.4, **_STEP),
    Motion("turn_right_tight", "turn", "train", speed=0.15, turn=-1.2, start=0.1, **_STEP),
    Motion("turn_right_wide", "turn", "train", speed=0.32, turn=-0.5, start=0.8, lag=0.42, **_STEP),
    Motion("head_scan", "head_scan", "train", head_yaw=0.6, head_pitch=0.3, **_QUIET),
    Motion("head_scan_up", "head_scan", "test", carriage=0.12, gaze=0.35, stagger=-0.006,
           head_yaw=0.8, head_pitch=0.15, head_rate=0.6, **_QUIET),
    Motion("trot", "trot", "train", speed=0.45, **_TROT),
    Motion("trot_slow", "trot", "train", speed=0.38, start=0.15, **_TROT),
    Motion("trot_fast", "trot", "test", speed=0.52, start=0.7, clearance=0.015, keys=(0.5, 0.85),
           **_TROT),
    Motion("bound", "bound", "train", speed=0.8, start=0.7, **_BOUND),
    Motion("bound_fast", "bound", "test", speed=0.95, start=0.72, **_BOUND),
    Motion("rear", "rear", "train", rear=0.9, head_yaw=0.2, head_rate=0.3, **_QUIET),
    Motion("rear_low", "rear", "test", rear=0.5, bouts=2, head_yaw=0.5, head_rate=0.5, **_QUIET),
    Motion("rear_high", "rear", "train", rear=1.2, head_yaw=0.5, head_rate=0.35, **_QUIET),
    Motion("crouch", "crouch", "train", dip=0.018, head_yaw=0.2, head_rate=0.25, **_QUIET),
    Motion("crouch_walk", "crouch", "train", speed=0.16, start=0.2, **_LOW),
    Motion("crouch_turn", "crouch", "test", speed=0.2, turn=0.6, start=0.9, **_LOW),
)  # fmt: skip


def main() -> None:
    """Write all clips of the table and print their quality."""
    standing = Standing.load(STANDING / f"{RODENT.name}.json")
    body = build_world(Floor(), [replace(RODENT, standing=standing)]).body
    clips = []
    for motion in MOTIONS:
        clip = make_clip(motion, body)
        clips.append(clip)
        q = measure(motion, clip, body)
        print(
            f"{motion.name:11} {motion.label:10} {motion.split:6} {len(clip)} frames: "
            f"penetration {1e3 * q.penetration:.2f} mm, "
            f"stance {1e3 * q.stance[0]:+.2f} to {1e3 * q.stance[1]:+.2f} mm, "
            f"slide {1e3 * q.slide:.2f} mm ({100 * q.slide_fraction:.1f} %), "
            f"limit margin {q.margin:.4f} rad, fastest joint {q.speed:.1f} rad/s"
        )
    write_clips(CLIPS / "rodent.h5", clips, body)


if __name__ == "__main__":
    main()
