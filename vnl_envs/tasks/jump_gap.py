"""Run along a corridor of platforms and jump the gaps between them."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from vnl_envs.physics import Array, Physics
from vnl_envs.scenes.gap_corridor import WINDOW, GapCorridor
from vnl_envs.scenes.world import World
from vnl_envs.tasks import rewards
from vnl_envs.tasks.metrics import Metric
from vnl_envs.tasks.observations import Frame, frame
from vnl_envs.tasks.task import Carry, Episode, Outcome, Start, Task

# More gaps than an animal can pass within the horizon; beyond them the sequence repeats.
GAPS = 64
# Gaps whose edges are observed.
AHEAD = 2
# An episode is a success once this many gaps are behind the body.
SUCCESS_GAPS = 5


class JumpGap(Task):
    """A corridor along +x; platform k begins at `platforms[k]` after a gap of `gaps[k]`.

    Reward is the *new* furthest x, 1 per step at the target speed, times uprightness. The lag
    behind the furthest x is observed: without it the reward would have hidden state.

    Args:
        world: a `GapCorridor` with the body.
        horizon: control steps.
        target_speed: earns reward 1 per step, m/s.
        gap_width: least and greatest width of a gap, m.
        platform_length, half_width, start_front, start_back, depth: see `GapCorridor`.
        gaps: one width for every gap, m, in place of random ones.
        difficulty: factor for the random widths.
    """

    options = {  # noqa: RUF012
        "gaps": "one width in m for every gap, for a ladder of widths",
        "difficulty": "factor for the random gap widths, default 1",
    }
    metrics = (
        Metric("gaps_cleared", "gaps", "last", "higher"),
        Metric("gap_success", "1", "last", "higher"),
        Metric("widest_gap", "m", "last", "higher"),
        Metric("distance", "m", "last", "higher"),
        Metric("fallen", "1", "last", "lower"),
    )

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
        if gaps is not None and not 0 <= gaps <= platform_length:
            raise ValueError(f"gaps must be a width in [0, {platform_length}] m, got {gaps!r}")
        if not 0 <= difficulty <= platform_length / gap_width[1]:
            most = platform_length / gap_width[1]
            raise ValueError(f"difficulty must be in [0, {most:.3g}], got {difficulty!r}")
        self.target_speed = target_speed
        low, high = gap_width
        self.gap_width = (gaps, gaps) if gaps is not None else (low * difficulty, high * difficulty)
        self.platform_length = platform_length
        self.half_width = half_width
        self.start_front = start_front
        self.start_back = start_back
        self.depth = depth
        self.uniforms = GAPS + 2

    @classmethod
    def scene(cls, **settings: Any) -> GapCorridor:
        """The corridor that the settings describe."""
        names = ("platform_length", "half_width", "start_front", "start_back", "depth")
        return GapCorridor(**{name: settings[name] for name in names})

    @property
    def reward_terms(self) -> dict[str, str]:
        """Names and meanings."""
        return {"progress": "new furthest x at the target speed, times uprightness"}

    def episode(self, u: Array) -> Episode:
        """gaps (..., GAPS) m, platforms (..., GAPS) start x in m, y (...,) m and yaw (...,) rad."""
        xp = array_namespace(u)
        low, high = self.gap_width
        gaps = low + (high - low) * u[..., :GAPS]
        before = self.platform_length * xp.arange(GAPS, dtype=u.dtype)
        return {
            "gaps": gaps,
            "platforms": self.start_front + xp.cumulative_sum(gaps, axis=-1) + before,
            "y": (u[..., GAPS] - 0.5) * (0.4 * self.half_width),
            "yaw": (u[..., GAPS + 1] - 0.5) * 0.2,
        }

    def begin(self, episode: Episode) -> tuple[Start, Carry]:
        """Standing on the start platform at x = 0, nearly along the corridor."""
        y = episode["y"]
        xp = array_namespace(y)
        start = self.standing_start(y.shape, xp.zeros_like(y), y, episode["yaw"])
        carry = {
            "step": xp.zeros(y.shape, dtype=xp.int32),
            "furthest": xp.zeros_like(y),
            "cleared": xp.zeros(y.shape, dtype=xp.int32),
            "attempted": xp.zeros(y.shape, dtype=xp.int32),
        }
        return start._replace(mocap_pos=self._window(start.qpos[..., 0], episode)), carry

    def place(self, physics: Physics, episode: Episode, carry: Carry) -> Array:
        """The platforms around the body."""
        return self._window(physics.qpos[..., 0], episode)

    def evaluate(
        self, physics: Physics, action: Array, episode: Episode, carry: Carry
    ) -> tuple[Carry, Outcome]:
        """See the class."""
        xp = array_namespace(physics.qpos)
        x, y = physics.qpos[..., 0], physics.qpos[..., 1]
        own = frame(self.body, physics)
        terminated = self.body.fallen(physics) | (xp.abs(y) > self.half_width)
        gain = rewards.progress(x, carry["furthest"], self.target_speed, self.dt)
        terms = {"progress": gain * rewards.uprightness(own, self.body.body.upright)}
        step = carry["step"] + 1
        # The gap ahead counts as attempted once its near edge is passed, as cleared once the far
        # one is and the body still stands.
        passed = self._platform(x, episode) + 1
        edge = self._gap_edge(episode, passed)
        attempt = passed + xp.where(x > edge, 1, 0)
        carry = {
            "step": step,
            "furthest": xp.maximum(x, carry["furthest"]),
            "cleared": xp.where(terminated, carry["cleared"], xp.maximum(passed, carry["cleared"])),
            "attempted": xp.maximum(attempt, carry["attempted"]),
        }
        cleared, attempted = carry["cleared"], carry["attempted"]
        counted = xp.arange(GAPS) < cleared[..., None]
        return carry, Outcome(
            observation=self.observe(physics, episode, carry),
            reward=terms["progress"],
            terms=terms,
            terminated=terminated,
            truncated=(step >= self.horizon) & ~terminated,
            metrics={
                "gaps_cleared": cleared,
                "gap_success": cleared / xp.maximum(attempted, 1),
                "widest_gap": xp.max(xp.where(counted, episode["gaps"], 0.0), axis=-1),
                "distance": carry["furthest"],
                "fallen": terminated,
            },
            success=cleared >= SUCCESS_GAPS,
        )

    def observe_task(
        self, physics: Physics, own: Frame, episode: Episode, carry: Carry
    ) -> dict[str, Array]:
        """gap_edges (2 per gap ahead, m to its near and far edge), gap_widths (1 per gap, m),
        lateral_offset (1, m left of the middle), heading (2, cosine and sine to the corridor),
        lag (1, m behind the furthest x).
        """
        xp = array_namespace(physics.qpos)
        x = physics.qpos[..., 0:1]
        index = self._platform(physics.qpos[..., 0], episode)[..., None] + 1 + xp.arange(AHEAD)
        far, width = self._platform_start(episode, index), self._gap(episode, index)
        edges = xp.stack([far - width - x, far - x], axis=-1)
        return {
            "gap_edges": edges.reshape((*edges.shape[:-2], 2 * AHEAD)),
            "gap_widths": width,
            "lateral_offset": physics.qpos[..., 1:2],
            "heading": own.heading(),
            "lag": carry["furthest"][..., None] - x,
        }

    def clearance(self, points: Array, physics: Physics, episode: Episode) -> Array:
        """Signed distance to the nearest platform near the body."""
        xp = array_namespace(points)
        first = self._first(physics.qpos[..., 0], episode)
        index = first[..., None] + xp.arange(WINDOW)
        begin = self._platform_start(episode, index)
        end = begin + self.platform_length
        # The start platform is one more.
        back = xp.full_like(begin[..., :1], -self.start_back)
        front = xp.full_like(back, self.start_front)
        begin, end = xp.concat([back, begin], axis=-1), xp.concat([front, end], axis=-1)
        x, z = points[..., None, 0], points[..., 2]
        outside = xp.maximum(begin[..., None, :] - x, x - end[..., None, :])
        gap = xp.min(outside, axis=-1)
        distance = xp.sqrt(xp.maximum(gap, 0.0) ** 2 + xp.maximum(z, 0.0) ** 2)
        return distance + xp.minimum(xp.maximum(gap, z), 0.0)

    def _platform(self, x: Array, episode: Episode) -> Array:
        """Index of the last platform that begins at or before x, -1 for the start platform."""
        platforms = episode["platforms"]
        xp = array_namespace(platforms)
        period = self._period(episode)
        cycle = xp.maximum(xp.floor((x - platforms[..., 0]) / period), 0.0)
        within = x - cycle * period
        count = xp.sum(xp.where(platforms <= within[..., None], 1, 0), axis=-1)
        return xp.astype(cycle, xp.int32) * GAPS + xp.astype(count, xp.int32) - 1

    def _period(self, episode: Episode) -> Array:
        """Length after which the sequence of gaps repeats, (...,), m."""
        platforms, gaps = episode["platforms"], episode["gaps"]
        span = platforms[..., -1] - platforms[..., 0]
        return span + self.platform_length + gaps[..., 0]

    def _platform_start(self, episode: Episode, index: Array) -> Array:
        """Where platforms (..., n) begin, (..., n), m."""
        xp = array_namespace(index)
        start = xp.take_along_axis(episode["platforms"], index % GAPS, axis=-1)
        return start + (index // GAPS) * self._period(episode)[..., None]

    def _gap(self, episode: Episode, index: Array) -> Array:
        """Widths of the gaps before platforms (..., n), m."""
        xp = array_namespace(index)
        return xp.take_along_axis(episode["gaps"], index % GAPS, axis=-1)

    def _gap_edge(self, episode: Episode, index: Array) -> Array:
        """Where the gap before platform `index` (...,) begins, (...,), m."""
        index = index[..., None]
        return (self._platform_start(episode, index) - self._gap(episode, index))[..., 0]

    def _first(self, x: Array, episode: Episode) -> Array:
        """The first platform of the window: the last that any limb may still touch."""
        xp = array_namespace(x)
        return xp.maximum(self._platform(x - self.body.body.reach, episode), 0)

    def _window(self, x: Array, episode: Episode) -> Array:
        """Centres of the platforms around x, (..., WINDOW, 3), m.

        Platform k stays in slot k modulo `WINDOW`, so that only the one that leaves the window
        moves, and never while a limb can touch it.
        """
        xp = array_namespace(x)
        first = self._first(x, episode)[..., None]
        slot = xp.arange(WINDOW)
        index = first + (slot - first) % WINDOW
        centre = self._platform_start(episode, index) + self.platform_length / 2
        zero = xp.zeros_like(centre)
        return xp.stack([centre, zero, zero - self.depth / 2], axis=-1)
