"""Make the humanoid's embedded clips and its standing pose.

    python assets/make_humanoid_clips.py            writes clips/humanoid.h5 beside itself
    python assets/make_humanoid_clips.py walk run   makes these only, to see their figures
    python assets/make_humanoid_clips.py standing   writes standing/humanoid.json

From a checkout with the extra `motion` and the dependency group `clips`.

A clip comes about in four steps:

1. Read a DeepMimic motion (Peng et al. 2018) from the `pybullet` wheel: `humanoid/source.py`.
2. Play it as a gait or as a take, at 50 Hz: `humanoid/timing.py`.
3. Correct the feet's paths and the flight by least squares, then solve inverse kinematics frame by
   frame (`mink`) for feet, pelvis, trunk, head and arms: `humanoid/retarget.py`.
4. Check it.

Clips of standing are made from one frame: `humanoid/standing.py`.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
from humanoid.retarget import Fit, retarget
from humanoid.source import SOURCE_LEG, load_motion
from humanoid.standing import StandRecipe, make_stand, standing_json
from humanoid.timing import Gait, Take

from vnl_envs.motion.checking.check import ClipReport, check_clips
from vnl_envs.motion.clip import Clip, write_clips
from vnl_envs.motion.fitting.humanoid_ik import Humanoid
from vnl_envs.utils.resources import packaged

STANDING, CLIPS = packaged("standing"), packaged("clips")
DEFAULT = Fit()


@dataclass(frozen=True)
class Recipe:
    """How a clip is made from a motion.

    Attributes:
        file: below `pybullet_data/data/motions`.
        label: behaviour.
        split: one of `SPLITS`.
        play: when the source's frames are played.
        fit: how its poses are put on the humanoid.
    """

    file: str
    label: str
    split: str
    play: Gait | Take
    fit: Fit = DEFAULT


# Test clips come from other files than their label's training clips, but for every label the body
# model and the retargeting are the same: they test other motions of a known behaviour.
STANDS = {
    "stand": StandRecipe("humanoid3d_getup_facedown.txt", -1, "train"),
    "stand_wide": StandRecipe("humanoid3d_getup_faceup.txt", -1, "test", widen=-0.07),
}
AIR = Fit(flight=True, rise=(0.015, 0.03))
FLOOR = Fit(lying=True, rise=(0.0, 0.0), keep=60.0)
RECIPES = {
    "walk": Recipe("walker/0walk_forward.txt", "walk", "train", Gait(4, gap=2, straight=True)),
    "walk_even": Recipe("humanoid3d_walk.txt", "walk", "test", Gait(4, gap=0, straight=True)),
    "run": Recipe(
        "humanoid3d_run.txt", "run", "train", Gait(6, gap=0, straight=True, harmonics=4),
        Fit(drop=0.08, widen=0.0, height=0.035, speed=1.3, flight=True, keep=30.0),
    ),
    "turn_left": Recipe(
        "walker/turn_left0.txt", "turn", "train", Gait(4, gap=3, trim=2), Fit(widen=0.06)
    ),
    "turn_right": Recipe(
        "walker/turn_right1.txt", "turn", "train", Gait(4, gap=4, trim=2), Fit(widen=0.07)
    ),
    "turn_right_tight": Recipe(
        "walker/turn_right0.txt", "turn", "train", Gait(4, gap=4, trim=2), Fit(widen=0.07)
    ),
    "turn_left_tight": Recipe(
        "walker/turn_left1.txt", "turn", "test", Gait(4, gap=4, trim=2), Fit(widen=0.08)
    ),
    "jump": Recipe("humanoid3d_jump.txt", "jump", "train", Take(2), replace(AIR, speed=1.2)),
    "spin": Recipe(
        "humanoid3d_spin.txt", "spin", "train", Take(stop=104, after=0.6, pace=1.3),
        replace(AIR, height=0.06, speed=1.5, keep=30.0),
    ),
    "kick": Recipe(
        "humanoid3d_kick.txt", "kick", "train", Take(before=0.9, after=0.9),
        replace(AIR, flight=False),
    ),
    "spinkick": Recipe(
        "humanoid3d_spinkick.txt", "kick", "test", Take(stop=69, before=0.9, after=0.9),
        replace(AIR, height=0.06, speed=1.2),
    ),
    "punch": Recipe(
        "humanoid3d_punch.txt", "punch", "train", Take(before=0.6, after=0.6),
        replace(AIR, height=0.05, keep=30.0),
    ),
    "backflip": Recipe(
        "humanoid3d_backflip.txt", "flip", "train", Take(2), replace(AIR, height=0.06, speed=1.5)
    ),
    "cartwheel": Recipe("humanoid3d_cartwheel.txt", "cartwheel", "extra", Take(2), FLOOR),
    "getup_faceup": Recipe(
        "humanoid3d_getup_faceup.txt", "get_up", "extra", Take(before=0.3, after=0.5), FLOOR
    ),
}  # fmt: skip

# Of the pybullet wheel, which holds the motions; see clips/README.md.
LICENCE = "Zlib"


def make_clip(name: str) -> Clip:
    """A clip of either table."""
    human = Humanoid()
    if name in STANDS:
        recipe, label = STANDS[name], "stand"
        qpos = make_stand(human, recipe)
    else:
        recipe, label = RECIPES[name], RECIPES[name].label
        qpos = make_motion(human, recipe)
    file = recipe.file
    # The files in walker/ have DeepMimic's format but are not among DeepMimic's own.
    origin = "Bullet" if file.startswith("walker/") else "DeepMimic"
    source = f"{origin} {file} (pybullet {version('pybullet')})"
    return Clip(name, qpos.astype(np.float32), label, recipe.split, source, LICENCE, session=file)


def make_motion(human: Humanoid, recipe: Recipe) -> np.ndarray:
    """Poses (T, nq) at 50 Hz."""
    stretch = float(np.sqrt(human.leg / SOURCE_LEG))
    motion = recipe.play.play(*load_motion(recipe.file), stretch)
    qpos = retarget(human, motion, stretch, recipe.fit)
    qpos = qpos[recipe.play.padding : len(qpos) - recipe.play.padding]
    qpos[:, :2] -= qpos[0, :2]
    return qpos


def line(report: ClipReport) -> str:
    """A clip's figures on one line."""
    f = report.figures
    return (
        f"{report.name:16s} {report.label:9s} {report.split:5s} {report.verdict:10s} "
        f"{f['duration']:4.1f} s {f['travelled']:5.2f} m, depth {f['depth']:.1f} mm, slide "
        f"{f['slide']:.0f} mm {100 * f['slide_ratio']:.1f} %, "
        f"floating {100 * f['floating']:.0f} %, "
        f"residual {f['residual']:.2f} {f['residual_95']:.2f}, joint speed "
        f"{report.series.joint_speed.max():.0f} rad/s; {'; '.join(report.reasons)}"
    )


def main() -> None:
    """Do what the arguments say, see above."""
    if sys.argv[1:] == ["standing"]:
        (STANDING / "humanoid.json").write_text(standing_json(Humanoid()))
        return
    # Clips do not depend on each other.
    with ProcessPoolExecutor() as pool:
        clips = list(pool.map(make_clip, sys.argv[1:] or [*STANDS, *RECIPES]))
    body = Humanoid().body
    for report in check_clips(clips, body):
        print(line(report))
    if not sys.argv[1:]:
        write_clips(CLIPS / "humanoid.h5", clips, body)


if __name__ == "__main__":
    main()
