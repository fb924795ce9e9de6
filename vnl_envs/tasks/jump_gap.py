"""Run along a corridor of platforms and jump the gaps between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from vnl_envs.physics import Array, Physics, columns, namespace, pick
from vnl_envs.scenes.gap_corridor import WINDOW, GapCorridor
from vnl_envs.scenes.world import World
from vnl_envs.tasks import rewards
from vnl_envs.tasks.cells import Ladder
from vnl_envs.tasks.metrics import POSITIVE, Metric, fraction_of_reachable
from vnl_envs.tasks.observations import Frame, frame
from vnl_envs.tasks.periodic import around, count_passed, located
from vnl_envs.tasks.task import Carry, Episode, ExternalInputs, Outcome, Start, Task
from vnl_envs.utils import checks

# More gaps than an animal can pass within the horizon. After the last one the sequence repeats.
GAPS = 64
# Number of gaps ahead that are observed.
AHEAD = 2
# An episode is a success once the body has cleared this many gaps.
SUCCESS_GAPS = 5


class JumpGap(Task):
    """Run along +x; platform k begins at `platforms[k]`, after a gap of width `gaps[k]`.

    The reward is the progress to a *new* furthest x, 1 per step at the target speed, times
    uprightness. The lag behind the furthest x is observed: the reward depends on it.

    Args:
        world: `GapCorridor` with the body.
        horizon: number of control steps after which an episode is truncated.
        target_speed: speed that earns reward 1 per step, m/s.
        gap_width: least and greatest width of a gap, m.
        platform_length, half_width, start_front, start_back, depth: see `GapCorridor`.
        gaps: width of every gap, m; None draws the widths.
        difficulty: factor for the drawn widths.
    """

    about = "run over platforms with {gap_width[0]:g}–{gap_width[1]:g} m gaps"
    options = {  # noqa: RUF012
        "gaps": "one width in m for every gap, for a ladder of widths",
        "difficulty": "factor for the drawn gap widths, default 1",
    }
    metrics = (
        Metric("gaps_cleared", "gaps", "last", "higher", POSITIVE),
        Metric("gap_success", "1", "last", "higher", (0.0, 1.0)),
        Metric("widest_gap", "m", "last", "higher", POSITIVE),
        Metric("distance", "m", "last", "higher", POSITIVE),
        Metric("fallen", "1", "last", "lower", (0.0, 1.0)),
    )
    cells = Ladder(option="gaps", name="width")

    def __init__(
        self,
        world: World,
        *,
        horizon: int,
        target_speed: float,
        gap_width: tuple[float, float],
        platform_length: float,
        half_width: float,
        start_front: float,
        start_back: float,
        depth: float,
        gaps: float | None = None,
        difficulty: float = 1.0,
    ) -> None:
        super().__init__(world, horizon)
        if gaps is not None:
            gaps = checks.number("gaps", gaps, 0.0, platform_length, "m")
        most = platform_length / gap_width[1]
        difficulty = checks.number("difficulty", difficulty, 0.0, most)
        self.gaps, self.difficulty = gaps, difficulty
        self.target_speed = target_speed
        low, high = gap_width
        self.gap_width = (gaps, gaps) if gaps is not None else (low * difficulty, high * difficulty)
        self.platform_length = platform_length
        self.half_width = half_width
        self.start_front = start_front
        self.start_back = start_back
        self.depth = depth
        self.uniforms = GAPS + 2
        # Reach of a limb, and distance of one control step at five times the target speed, m.
        behind = self.body.body.reach + 5 * target_speed * self.dt
        self._front_and_back = np.array([0.0, behind])
        start_length = start_front + start_back
        self._half_length = np.array([start_length, *[platform_length] * WINDOW]) / 2
        way = target_speed * horizon * self.dt - start_front
        reachable = way / (platform_length + float(np.mean(self.gap_width)))
        self.primary = fraction_of_reachable("gaps_cleared", "gaps cleared", reachable)

    @classmethod
    def scene(cls, **settings: Any) -> GapCorridor:
        """The corridor that the settings describe."""
        names = ("platform_length", "half_width", "start_front", "start_back", "depth")
        return GapCorridor(**{name: settings[name] for name in names})

    @property
    def reward_terms(self) -> dict[str, str]:
        """See `Task`."""
        return {"progress": "new furthest x at the target speed, times uprightness"}

    def episode(self, u: Array) -> Episode:
        """The corridor and the start of an episode.

        Returns:
            Widths of "gaps" (..., GAPS), m, first x of "platforms" (..., GAPS), m, "period" after
            which they repeat (...,), m, and "y" (...,), m, and "yaw" (...,), rad, of the start.
        """
        xp = namespace(u)
        low, high = self.gap_width
        gaps = low + (high - low) * u[..., :GAPS]
        before = self.platform_length * xp.arange(GAPS, dtype=u.dtype)
        platforms = self.start_front + xp.cumulative_sum(gaps, axis=-1) + before
        span = platforms[..., -1] - platforms[..., 0]
        return {
            "gaps": gaps,
            "platforms": platforms,
            "period": span + self.platform_length + gaps[..., 0],
            "y": (u[..., GAPS] - 0.5) * (0.4 * self.half_width),
            "yaw": (u[..., GAPS + 1] - 0.5) * 0.2,
        }

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing on the start platform at x = 0, nearly along the corridor."""
        y = episode["y"]
        xp = namespace(y)
        zero = xp.zeros_like(y)
        start = self.standing_start(y.shape, zero, y, episode["yaw"])
        count = xp.zeros(y.shape, dtype=xp.int32)
        carry = {"step": count, "furthest": zero, "cleared": count, "attempted": count}
        carry |= self._course(zero, episode)
        return start._replace(mocap_pos=self._mocap(carry)), carry

    def external_inputs(self, episode: Episode, carry: Carry) -> ExternalInputs:
        """The platforms around the body."""
        return ExternalInputs(mocap_pos=self._mocap(carry))

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See the class."""
        xp = namespace(physics.qpos)
        x, y = physics.qpos[..., 0], physics.qpos[..., 1]
        own = frame(self.body, physics)
        terminated = self.fallen(physics, carry) | (xp.abs(y) > self.half_width)
        gain = rewards.progress(x, carry["furthest"], self.target_speed, self.dt)
        terms = {"progress": gain * rewards.uprightness(own, self.body.body.upright)}
        step = carry["step"] + 1
        course = self._course(x, episode)
        # A gap is attempted once the body has passed its near edge. It is cleared once the body has
        # passed its far edge and still stands.
        passed = course["passed"]
        edge = course["gap_far"][..., 0] - course["gap_width"][..., 0]
        attempt = passed + (x > edge)
        cleared = xp.where(terminated, carry["cleared"], xp.maximum(passed, carry["cleared"]))
        attempted = xp.maximum(attempt, carry["attempted"])
        carry = {
            "step": step,
            "furthest": xp.maximum(x, carry["furthest"]),
            "cleared": cleared,
            "attempted": attempted,
            **course,
        }
        counted = cleared[..., None] > _GAPS
        return carry, Outcome(
            observation=self.observe(physics, episode, carry, own),
            reward=terms["progress"],
            terms=terms,
            terminated=terminated,
            truncated=(step >= self.horizon) & ~terminated,
            metrics={
                "gaps_cleared": cleared,
                "gap_success": cleared / xp.maximum(attempted, 1),
                "widest_gap": xp.where(counted, episode["gaps"], 0.0).max(axis=-1),
                "distance": carry["furthest"],
                "fallen": terminated,
            },
            success=cleared >= SUCCESS_GAPS,
        )

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """Observations of the corridor.

        Returns:
            gap_edges (2 per gap ahead, m, to its near and far edge), gap_widths (1 per gap ahead,
            m), lateral_offset (1, m, left of the middle), heading (2, cosine and sine, relative to
            the corridor), lag (1, m, behind the furthest x).
        """
        x = physics.qpos[..., 0:1]
        far, width = carry["gap_far"], carry["gap_width"]
        edges = columns(far - width - x, far - x)
        return {
            "gap_edges": edges.reshape((*edges.shape[:-2], 2 * AHEAD)),
            "gap_widths": width,
            "lateral_offset": physics.qpos[..., 1:2],
            "heading": own.heading(),
            "lag": carry["furthest"][..., None] - x,
        }

    def clearance(self, points: Array, carry: Carry) -> Array:
        """Signed distance of world points (..., n, 3) to the nearest platform, (..., n), m.

        Only the start platform and the movable ones count.
        """
        xp = namespace(points)
        centre = carry["platform_x"][..., None, :]
        outside = (xp.abs(points[..., :1] - centre) - self._half_length).min(axis=-1)
        z = points[..., 2]
        beside, above = xp.maximum(outside, 0.0), xp.maximum(z, 0.0)
        distance = xp.sqrt(beside * beside + above * above)
        return distance + xp.minimum(xp.maximum(outside, z), 0.0)

    def _course(self, x: Array, episode: Episode) -> dict[str, Array]:
        """The part of the corridor around x (...,), m.

        The window of movable platforms starts at the last one that any limb may still touch. So
        none moves while a limb can touch it.

        Returns:
            "passed" (...,), number of platforms that begin at or before x; "gap_far" and
            "gap_width" (..., AHEAD), far edges and widths of the next gaps, m; "platform_x"
            (..., 1 + WINDOW), middles of the start platform and the movable ones, m.
        """
        xp = namespace(x)
        platforms, period = episode["platforms"], episode["period"]
        passed = count_passed(x[..., None] - self._front_and_back, platforms, period)
        first = xp.maximum(passed[..., 1:] - 1, 0)
        slot, start = located(around(passed[..., :1], first, AHEAD, WINDOW), platforms, period)
        middle = start[..., AHEAD:] + self.platform_length / 2
        fixed = xp.full_like(middle[..., :1], (self.start_front - self.start_back) / 2)
        return {
            "passed": passed[..., 0],
            "gap_far": start[..., :AHEAD],
            "gap_width": pick(episode["gaps"], slot[..., :AHEAD]),
            "platform_x": xp.concat([fixed, middle], axis=-1),
        }

    def _mocap(self, carry: Carry) -> Array:
        """Centres of the movable platforms, (..., WINDOW, 3), m."""
        x = carry["platform_x"][..., 1:, None]
        return x * _X_AXIS - (self.depth / 2) * _Z_AXIS


_GAPS = np.arange(GAPS)
_X_AXIS, _Z_AXIS = np.eye(3)[0], np.eye(3)[2]
