"""Inverse kinematics of the humanoid, for motion of other skeletons.

Needs the extra `motion` (`mink`, `daqp`).
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from vnl_envs.bodies import HUMANOID, BodyModel
from vnl_envs.motion.fitting.feet import FootPath
from vnl_envs.scenes.floor import Floor
from vnl_envs.scenes.world import World, build_world

try:
    import mink
except ImportError as error:
    raise RuntimeError(
        "fitting motion to the humanoid needs mink: pip install 'vnl_envs[motion]'"
    ) from error

# Relative weights: feet first, so that the planned contacts are kept; then the trunk; then the
# limbs.
FOOT_COST = (100.0, 30.0)
# A swinging foot's orientation counts less, by this factor per frame away from contact, down to
# the least.
SWING_DECAY, SWING_COST = 0.6, 1.0
PELVIS_COST = (5.0, 3.0)
CHEST_COST, HEAD_COST, KNEE_COST, ARM_COST = 2.0, 0.5, 1.0, 2.0
COM_COST, UPRIGHT_COST, POSTURE_COST, DAMPING = 20.0, 50.0, 0.05, 1e-3
LIMIT_MARGIN = 0.01
ITERATIONS, FIRST_ITERATIONS = 12, 100
# Limit of any joint in one Gauss-Newton step, m or rad, because straight legs are singular.
LARGEST_STEP = 0.1

# Angles of joints that the source does not have, or that would be redundant, rad. Palms face the
# thighs when the arms hang.
# The model's right shoulder has the left one's limits unmirrored, so the right arm cannot hang
# completely. Its angles are the nearest possible ones.
NEUTRAL = {
    "lwristry": 1.2,
    "lfingersrx": 0.4,
    "lhumerusrz": 1.5,
    "lhumerusry": -0.1,
    "lhumerusrx": -0.4,
    "lradiusrx": 0.3,
    "rwristry": -1.2,
    "rfingersrx": 0.4,
    "rclaviclery": 0.15,
    "rhumerusrz": -1.05,
    "rhumerusry": -0.75,
    "rhumerusrx": -0.65,
    "rradiusrx": 0.25,
}
# Factors of the posture's cost for joints whose names contain these parts: joints that the source
# does not have, and twists that are noisy in the source.
STIFFNESS = {
    "wrist": 20,
    "hand": 20,
    "fingers": 20,
    "thumb": 20,
    "toes": 20,
    "clavicle": 10,
    "humerus": 3,
    "footrz": 5,
    "femurry": 5,
    "back": 4,
    "thorax": 4,
}


class Humanoid:
    """The CMU humanoid on a floor, with the lengths and frames that retargeting needs.

    Attributes:
        hips: midpoint of the hips in the root's frame, m.
        leg, upper_arm, forearm: lengths of hip to ankle, shoulder to elbow, elbow to hand, m.
        ankle_height: side -> height of the ankle of a flat foot, m. The feet differ by 0.5 mm.
        sole: side -> (4 + 3, 3) centres of the spheres that touch the ground, in the sole's frame
            with the ankle as its origin, x forward, y left, z up: heel, ball, toes.
        radius: radius of these spheres, m.
        flat: side -> rotation of the foot body whose sole's frame is the world's.
    """

    # Root frame: forward is z, up is y, left is x.
    facing = Rotation.from_matrix([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    radius = 0.03

    def __init__(self) -> None:
        self.world: World = build_world(Floor(), [HUMANOID])
        self.body: BodyModel = self.world.body
        self.model = self.world.model
        self.data = mujoco.MjData(self.model)
        self.qpos0 = np.zeros(self.model.nq)
        self.qpos0[3] = 1
        self.pose(self.qpos0)
        hip, knee, ankle = (self.position(n) for n in ("lfemur", "ltibia", "lfoot"))
        self.hips = (hip + self.position("rfemur")) / 2
        self.leg = float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))
        arm = [self.position(n) for n in ("lhumerus", "lradius", "lhand")]
        self.upper_arm, self.forearm = np.linalg.norm(np.diff(arm, axis=0), axis=1)
        self.flat, self.sole = {}, {}
        for side in "rl":
            self.flat[side], self.sole[side] = self._foot(side)
        self.ankle_height = {s: float(self.radius - self.sole[s][:, 2].min()) for s in "rl"}
        self.lower = self.model.jnt_range[1:, 0]
        self.upper = self.model.jnt_range[1:, 1]

    def pose(self, qpos: np.ndarray) -> None:
        """Put the body into a pose."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    def position(self, name: str) -> np.ndarray:
        """Position of a body in the present pose, m."""
        return self.data.body(HUMANOID.prefix + name).xpos.copy()

    def joint(self, name: str) -> int:
        """Row of a joint in qpos."""
        return int(self.model.joint(HUMANOID.prefix + name).qposadr[0])

    def _foot(self, side: str) -> tuple[Rotation, np.ndarray]:
        body = self.data.body(f"{HUMANOID.prefix}{side}foot")
        to_foot = body.xmat.reshape(3, 3).T
        centres = []
        for end in (-1, 1):
            for name in ("foot", "foot_ch"):
                geom = self.data.geom(f"{HUMANOID.prefix}{side}{name}")
                axis = geom.xmat.reshape(3, 3)[:, 2]
                # The root faces +z in this pose.
                axis = axis * np.sign(axis[2]) * end
                half = self.model.geom(geom.id).size[1]
                centres.append(to_foot @ (geom.xpos + half * axis - body.xpos))
        for i in range(3):
            geom = self.data.geom(f"{HUMANOID.prefix}{side}toes{i}")
            centres.append(to_foot @ (geom.xpos - body.xpos))
        points = np.array(centres)
        forward = points[2:4].mean(0) - points[:2].mean(0)
        across = points[[0, 2]].mean(0) - points[[1, 3]].mean(0)
        # The root's left is +x in this pose.
        across *= np.sign((to_foot.T @ across)[0])
        up = np.cross(forward, across)
        left = np.cross(up, forward)
        axes = np.stack([v / np.linalg.norm(v) for v in (forward, left, up)])
        return Rotation.from_matrix(axes), points @ axes.T


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of inverse kinematics, T frames; positions in m, in the world.

    Attributes:
        root: (T, 3) positions of the root body.
        root_turn: T rotations of the root body.
        chest_turn, head_turn: T rotations of the thorax and the head.
        feet: side -> path of the foot.
        knees: side -> (T, 3) positions.
        arms: side -> (T, 2, 3) unit vectors from shoulder to elbow and from elbow to hand; the arm
            of a missing side keeps the posture.
        com: (T, 2) positions of the centre of mass, or None for no target.
        posture: (T, nq) poses that joints keep without other targets, or None for the neutral pose.
    """

    root: np.ndarray
    root_turn: Rotation
    chest_turn: Rotation
    head_turn: Rotation
    feet: dict[str, FootPath]
    knees: dict[str, np.ndarray]
    arms: dict[str, np.ndarray]
    com: np.ndarray | None = None
    posture: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.root)

    def taken(self, frames: np.ndarray) -> Targets:
        """The targets of the given frames (n,), in this order."""
        feet = {
            side: FootPath(path.ankle[frames], path.sole[frames], path.contact[frames])
            for side, path in self.feet.items()
        }
        return Targets(
            root=self.root[frames],
            root_turn=self.root_turn[frames],
            chest_turn=self.chest_turn[frames],
            head_turn=self.head_turn[frames],
            feet=feet,
            knees={side: knee[frames] for side, knee in self.knees.items()},
            arms={side: arm[frames] for side, arm in self.arms.items()},
            com=None if self.com is None else self.com[frames],
            posture=None if self.posture is None else self.posture[frames],
        )


class Solver:
    """Inverse kinematics of the humanoid, one pose after the other.

    Args:
        human: the target body.
        pelvis_cost: costs of the root's position and orientation. The feet's are `FOOT_COST`.
        posture_cost: cost of any joint's deviation from the posture, before `STIFFNESS`.
        above_ground: whether all parts must stay above the ground, including back, head and hands;
            otherwise only the feet's paths account for the ground.
    """

    def __init__(
        self,
        human: Humanoid,
        pelvis_cost: tuple[float, float] = PELVIS_COST,
        posture_cost: float = POSTURE_COST,
        above_ground: bool = False,
    ) -> None:
        self.human = human
        self.configuration = mink.Configuration(human.model)
        self.root = _frame("root", *pelvis_cost)
        self.chest = _frame("thorax", 0.0, CHEST_COST)
        self.head = _frame("head", 0.0, HEAD_COST)
        self.feet = {s: _frame(s + "foot", *FOOT_COST) for s in "rl"}
        self.knees = {s: _frame(s + "tibia", KNEE_COST, 0.0) for s in "rl"}
        self.elbows = {s: _in_clavicle(s, "radius") for s in "rl"}
        self.hands = {s: _in_clavicle(s, "hand") for s in "rl"}
        # Only for standing; its cost is 0 without such a target.
        self.com = mink.ComTask(0.0)
        self.com.set_target(np.zeros(3))
        self.posture = mink.PostureTask(human.model, _posture_cost(human, posture_cost))
        self.posture.set_target(neutral_pose(human))
        self.whole = [self.root, self.chest, self.head, self.com, self.posture]
        for group in (self.feet, self.knees):
            self.whole += group.values()
        self.limits = [
            mink.ConfigurationLimit(human.model, 0.95, min_distance_from_limits=LIMIT_MARGIN),
            mink.VelocityLimit(human.model, dict.fromkeys(_hinges(human), LARGEST_STEP)),
        ]
        if above_ground:
            self.limits.append(AboveGround(human))

    def solve(self, targets: Targets, start: np.ndarray | None = None) -> np.ndarray:
        """Poses (T, nq) that follow targets.

        Args:
            targets: T frames.
            start: (nq,) pose near that of the first frame; by default its posture.
        """
        arms = [group[side] for group in (self.elbows, self.hands) for side in targets.arms]
        self.tasks = [*self.whole, *arms]
        self.configuration.update(self._first_posture(targets) if start is None else start)
        poses = []
        for frame in range(len(targets)):
            self._aim(targets, frame)
            for _ in range(FIRST_ITERATIONS if frame == 0 else ITERATIONS):
                self._aim_arms(targets, frame)
                self.step()
            poses.append(self.configuration.q.copy())
        return np.array(poses)

    def _first_posture(self, targets: Targets) -> np.ndarray:
        neutral = neutral_pose(self.human)
        start = (
            neutral if targets.posture is None else within_limits(self.human, targets.posture[0])
        )
        start[:3] = targets.root[0]
        # Of a quaternion and its opposite, the one that does not depend on rounding.
        start[3:7] = targets.root_turn[0].as_quat(canonical=True, scalar_first=True)
        return start

    def step(self) -> None:
        """Take one Gauss-Newton step."""
        velocity = mink.solve_ik(
            self.configuration, self.tasks, 1.0, "daqp", damping=DAMPING, limits=self.limits
        )
        self.configuration.integrate_inplace(velocity, 1.0)

    def _aim(self, targets: Targets, frame: int) -> None:
        self._aim_centre(targets, frame)
        if targets.posture is not None:
            self.posture.set_target(within_limits(self.human, targets.posture[frame]))
        self.root.set_target(_pose(targets.root_turn[frame], targets.root[frame]))
        self.chest.set_target(_pose(targets.chest_turn[frame]))
        self.head.set_target(_pose(targets.head_turn[frame]))
        for side in "rl":
            path = targets.feet[side]
            turn = path.sole[frame] * self.human.flat[side]
            self.feet[side].set_target(_pose(turn, path.ankle[frame]))
            cost = FOOT_COST[1] * SWING_DECAY ** path.away[frame]
            self.feet[side].set_orientation_cost(max(cost, SWING_COST))
            self.knees[side].set_target(_pose(Rotation.identity(), targets.knees[side][frame]))

    def _aim_centre(self, targets: Targets, frame: int) -> None:
        if targets.com is None:
            return
        # The centre of mass replaces the root, except for its height, and the knees.
        self.com.set_cost([COM_COST, COM_COST, 0])
        self.com.set_target(np.array([*targets.com[frame], 0]))
        self.root.set_position_cost([0, PELVIS_COST[0], 0])
        self.root.set_orientation_cost(UPRIGHT_COST)
        for knee in self.knees.values():
            knee.set_position_cost(0.0)

    def _aim_arms(self, targets: Targets, frame: int) -> None:
        # From the present shoulders, so that arm targets are always in reach; relative to the
        # clavicle, so that the arms do not move the trunk.
        for side in targets.arms:
            clavicle = self.configuration.data.body(f"{HUMANOID.prefix}{side}clavicle")
            shoulder = self.configuration.data.body(f"{HUMANOID.prefix}{side}humerus").xpos
            upper, fore = targets.arms[side][frame]
            elbow = shoulder + self.human.upper_arm * upper
            hand = elbow + self.human.forearm * fore
            inward = clavicle.xmat.reshape(3, 3).T
            for task, point in ((self.elbows, elbow), (self.hands, hand)):
                local = inward @ (point - clavicle.xpos)
                task[side].set_target(_pose(Rotation.identity(), local))


# Points closer to the ground than this are watched, and what has sunk rises by this much per
# Gauss-Newton step at most, m.
WATCHED, LARGEST_RISE = 0.15, 0.02


class AboveGround(mink.Limit):
    """Nothing of the humanoid sinks into the ground.

    Its geoms are capsules and spheres; the palms are ellipsoids, and taken for spheres as thick as
    they are thin.

    Args:
        human: the body.
    """

    def __init__(self, human: Humanoid) -> None:
        model = self.model = human.model
        geoms = np.arange(human.body.geoms.start, human.body.geoms.stop)
        kind, size = model.geom_type[geoms], model.geom_size[geoms]
        palm = kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID
        radius = np.where(palm, size.min(axis=1), size[:, 0])
        capsule = kind == mujoco.mjtGeom.mjGEOM_CAPSULE
        half = size[capsule, 1]
        self.geom = np.concatenate([geoms, geoms[capsule]])
        self.along = np.zeros(len(self.geom))
        self.along[: len(geoms)][capsule], self.along[len(geoms) :] = half, -half
        self.radius = np.concatenate([radius, radius[capsule]])
        self.body = model.geom_bodyid[self.geom]

    def points(self, data: mujoco.MjData) -> np.ndarray:
        """(P, 3) centres of the spheres that must stay above the ground, m."""
        axis = data.geom_xmat[self.geom].reshape(-1, 3, 3)[:, :, 2]
        return data.geom_xpos[self.geom] + self.along[:, None] * axis

    def lowest(self, qpos: np.ndarray) -> np.ndarray:
        """(T,) height of the lowest point in poses (T, nq), m."""
        data, out = mujoco.MjData(self.model), np.empty(len(qpos))
        for i, pose in enumerate(qpos):
            data.qpos[:] = pose
            mujoco.mj_kinematics(self.model, data)
            out[i] = (self.points(data)[:, 2] - self.radius).min()
        return out

    def compute_qp_inequalities(
        self, configuration: mink.Configuration, dt: float
    ) -> mink.Constraint:
        """Heights above 0 of all points close to the ground, after the step."""
        data = configuration.data
        points = self.points(data)
        height = points[:, 2] - self.radius
        near = np.flatnonzero(height < WATCHED)
        if not len(near):
            return mink.Constraint()
        rows = np.zeros((len(near), self.model.nv))
        jacobian = np.zeros((3, self.model.nv))
        for row, i in zip(rows, near, strict=True):
            mujoco.mj_jac(self.model, data, jacobian, None, points[i], self.body[i])
            row[:] = -jacobian[2]
        return mink.Constraint(rows, np.maximum(height[near], -LARGEST_RISE))


def _hinges(human: Humanoid) -> list[str]:
    return [HUMANOID.prefix + name for name in human.body.joint_names]


def _frame(name: str, position: float, orientation: float) -> mink.FrameTask:
    return mink.FrameTask(HUMANOID.prefix + name, "body", position, orientation)


def _in_clavicle(side: str, name: str) -> mink.RelativeFrameTask:
    return mink.RelativeFrameTask(
        f"{HUMANOID.prefix}{side}{name}",
        "body",
        f"{HUMANOID.prefix}{side}clavicle",
        "body",
        ARM_COST,
        0.0,
    )


def _pose(turn: Rotation, position: np.ndarray | None = None) -> mink.SE3:
    wxyz = turn.as_quat(scalar_first=True)
    return mink.SE3.from_rotation_and_translation(
        mink.SO3(wxyz), np.zeros(3) if position is None else position
    )


def _posture_cost(human: Humanoid, base: float) -> np.ndarray:
    cost = np.full(human.model.nv, base)
    cost[:6] = 0
    for i, name in enumerate(human.body.joint_names):
        cost[6 + i] *= next((f for part, f in STIFFNESS.items() if part in name), 1)
    return cost


def neutral_pose(human: Humanoid) -> np.ndarray:
    """Every joint at 0, at its limit's margin, or at its `NEUTRAL` angle."""
    qpos = human.qpos0.copy()
    for name, angle in NEUTRAL.items():
        qpos[human.joint(name)] = angle
    return within_limits(human, qpos)


def within_limits(human: Humanoid, qpos: np.ndarray) -> np.ndarray:
    """A pose (nq,) with its joints at least twice the limits' margin inside of them."""
    out = qpos.copy()
    out[7:] = np.clip(out[7:], human.lower + 2 * LIMIT_MARGIN, human.upper - 2 * LIMIT_MARGIN)
    return out
