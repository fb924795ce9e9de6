"""Several animals in one world as a PettingZoo `ParallelEnv`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import gymnasium
import mujoco
import numpy as np

from vnl_envs.envs.base import EnvBase, check_seed, restored_generator
from vnl_envs.envs.core import Core, Step
from vnl_envs.envs.gym_core import GymCore
from vnl_envs.envs.view import View
from vnl_envs.physics import Physics
from vnl_envs.registry import make_task
from vnl_envs.rendering.renderer import HEIGHT, WIDTH, check_size
from vnl_envs.tasks.goal_race import GoalRace
from vnl_envs.tasks.task import Start
from vnl_envs.utils import checks

try:
    import pettingzoo
except ImportError as error:
    raise RuntimeError(
        "environments of several animals need PettingZoo: pip install 'vnl_envs[parallel]'"
    ) from error

_ONLY = np.array([0])

Results = tuple[
    dict[str, np.ndarray], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]
]


def parallel_env(id: str, num_agents: int = 2, **arguments: Any) -> ParallelEnv:
    """Make a race of several animals of one kind.

    Args:
        id: one of `vnl_envs.parallel_ids()`.
        num_agents: number of animals, two or more.
        arguments: arguments of `ParallelEnv`.

    Raises:
        TypeError: an argument is unknown; the message lists the known ones.
        ValueError: the id is unknown (the message lists the known ones), or the number of animals
            is impossible.
        RuntimeError: PettingZoo is not installed.
    """
    return ParallelEnv(id, num_agents, **arguments)


class RaceCore(Core):
    """Simulations with N animals each. Everything but episodes has rows (num, N)."""

    task: GoalRace

    def shape(self, num: int) -> tuple[int, ...]:
        """(num, N): one row for each animal."""
        return (num, self.task.num_animals)

    @property
    def physics(self) -> Physics:
        """A copy of the view of every animal, (num, N, ...)."""
        views = [self.engine.physics(body) for body in self.task.world.bodies]
        names = [field.name for field in fields(Physics)]
        return Physics(*(np.stack([getattr(v, name) for v in views], axis=1) for name in names))

    def _start(self, ids: np.ndarray, start: Start) -> None:
        self.engine.start_several(ids, self.task.world.bodies, *start)

    def _actuate(self, control: np.ndarray) -> None:
        for i, body in enumerate(self.task.world.bodies):
            self.engine.ctrl[:, body.ctrl] = control[:, i]

    def _each(self, simulations: np.ndarray) -> np.ndarray:
        return np.repeat(simulations[:, None], self.task.num_animals, axis=1)


class ParallelEnv(EnvBase, pettingzoo.ParallelEnv[str, np.ndarray, np.ndarray]):
    """A registered race as a PettingZoo environment.

    Agents are named "rodent_0", "rodent_1", ... An animal that falls is terminated and leaves
    `agents`. Its body stays in the world, with the controls of the standing pose. The others race
    on until time is up. The info of an agent is that of a single environment: `reward_terms`,
    `metrics` (of the episode so far), `is_success` and `diverged`. If the simulation diverges, all
    agents are terminated with reward 0.

    Args:
        task_id: id of a registered race.
        num_agents: number of animals, two or more.
        render_mode: None or "rgb_array".
        width, height: size of rendered images, pixels.
        options: options of the race, see `vnl_envs.task_options`.

    Attributes:
        possible_agents: names of all animals.
        agents: names of the animals that are racing.
    """

    def __init__(
        self,
        task_id: str,
        num_agents: int = 2,
        render_mode: str | None = None,
        width: int = WIDTH,
        height: int = HEIGHT,
        **options: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self._arguments = copy.deepcopy(
            {
                "task_id": task_id,
                "num_agents": num_agents,
                "render_mode": render_mode,
                "width": width,
                "height": height,
                **options,
            }
        )
        checks.integer("num_agents", num_agents, 2)
        size = check_size(width, height)
        self._core = RaceCore(make_task(task_id, num_agents, **options), 1, 1)
        self._view = View(self._core, *size)
        self.spec = None
        self.metadata = {
            "name": task_id,
            "render_modes": ["rgb_array"],
            "render_fps": round(1 / self.dt),
            "is_parallelizable": True,
        }
        self.render_mode = render_mode
        self._generator, _ = gymnasium.utils.seeding.np_random()
        self._started = False
        self.possible_agents = [body.body.name for body in self.task.world.bodies]
        self.agents: list[str] = []
        self.observation_spaces = {
            agent: gymnasium.spaces.Box(-np.inf, np.inf, (self.core.size,), np.float32)
            for agent in self.possible_agents
        }
        self.action_spaces = {
            agent: gymnasium.spaces.Box(-1.0, 1.0, (self.task.body.nu,), np.float32)
            for agent in self.possible_agents
        }
        size = len(self.possible_agents) * self.core.size
        self.state_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that draws the episodes."""
        return self._generator

    @property
    def _own(self) -> RaceCore:
        return self._core

    @property
    def core(self) -> RaceCore:
        """The core that joins race and engine, for tools that inspect an environment."""
        return self._core

    @property
    def task(self) -> GoalRace:
        """The race."""
        return self.core.task

    @property
    def data(self) -> mujoco.MjData:
        """A snapshot of the simulation. Writing to it changes nothing."""
        return self.core.engine.data(0)

    @property
    def episode(self) -> dict[str, np.ndarray]:
        """The current episode, for `reset(options={"episode": …})`."""
        return {k: v[0].copy() for k, v in self.core.episode.items()}

    def observation_space(self, agent: str) -> gymnasium.Space:
        """The space of flat float32 observations (D,); the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        """The space [-1, 1] of every actuator, (nu,); the same object at every call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode with all animals.

        Args:
            seed: seed of the generator that draws this episode and the following ones; None
                continues the current generator.
            options: "episode" is an episode to replay. Other options are ignored, as PettingZoo's
                own test requires.

        Raises:
            ValueError: the episode is of another race, or the seed is not an integer of at least 0.
        """
        seed = check_seed(seed)
        given = (options or {}).get("episode")
        rows = None if given is None else self.core.check_episode(given)
        if seed is not None:
            self._generator, _ = gymnasium.utils.seeding.np_random(seed)
        self.core.reset(_ONLY, self.core.draw([self._generator]) if rows is None else rows)
        self.agents = self.possible_agents[:]
        self._started = True
        return self._observed(), self._infos(Step.none(self.task.reward_terms, self.core.shape(1)))

    def step(self, actions: Mapping[str, np.ndarray]) -> Results:
        """One control step with an action (nu,) in [-1, 1] for each of `agents`.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents that acted. A
            finished race takes no actions and returns empty dictionaries.

        Raises:
            ValueError: an action is missing, has a wrong shape or type, is not finite, or is of an
                unknown agent. Actions of agents that are out are ignored.
            gymnasium.error.ResetNeeded: no race is under way.
        """
        if not isinstance(actions, Mapping):
            raise ValueError(f"actions must be a dictionary, got {type(actions).__name__}")
        if not self._started or (actions and not self.agents):
            raise gymnasium.error.ResetNeeded("call reset() before step(): no race is under way")
        if not self.agents:
            return {}, {}, {}, {}, {}
        result = self.core.step(self._rows(actions)[None])
        infos = self._infos(result)
        rewards, terminations, truncations = {}, {}, {}
        for agent in self.agents:
            i = self.possible_agents.index(agent)
            rewards[agent] = float(result.reward[0, i])
            terminations[agent] = bool(result.terminated[0, i])
            truncations[agent] = bool(result.truncated[0, i])
        observations = self._observed()
        self.agents = [a for a in self.agents if not (terminations[a] or truncations[a])]
        return observations, rewards, terminations, truncations, infos

    def _infos(self, step: Step) -> dict[str, Any]:
        """The info of each racing agent."""
        figures = self.core.figures()
        indices = {agent: self.possible_agents.index(agent) for agent in self.agents}
        return {
            agent: {
                "reward_terms": {k: float(v[0, i]) for k, v in step.terms.items()},
                "metrics": {k: float(v[i, 0]) for k, v in figures.items()},
                "is_success": bool(step.success[0, i]),
                "diverged": bool(step.diverged[0, i]),
            }
            for agent, i in indices.items()
        }

    def _observed(self) -> dict[str, np.ndarray]:
        """The observation of each racing agent, (D,)."""
        rows = dict(zip(self.possible_agents, self.core.observation[0], strict=True))
        return {agent: rows[agent].copy() for agent in self.agents}

    def _rows(self, actions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Actions of all animals, (N, nu); 0, the standing pose, for those that are out."""
        # Actions of animals that are out are ignored: SuperSuit repeats actions after a fall.
        if not set(self.agents) <= set(actions) <= set(self.possible_agents):
            raise ValueError(f"step takes an action for each of {self.agents}, got {[*actions]}")
        rows = np.zeros((len(self.possible_agents), self.task.body.nu), np.float32)
        for i, agent in enumerate(self.possible_agents):
            if agent in self.agents:
                try:
                    rows[i] = GymCore.check_action(actions[agent], rows.shape[1:], "this agent")
                except ValueError as error:
                    raise ValueError(f"{agent}: {error}") from None
        return rows

    def render(self) -> np.ndarray | None:
        """An image (height, width, 3) uint8 of all animals and the goal; None without a mode."""
        if self.render_mode is None:
            return None
        return self._view.draw(0)

    def state(self) -> np.ndarray:
        """The concatenated observations of all animals, including fallen ones, (N * D,)."""
        return self.core.observation[0].flatten()

    def close(self) -> None:
        """Free the renderer."""
        self._view.close()

    def get_state(self) -> dict[str, Any]:
        """Everything on which the next steps depend, with the generator, as plain arrays."""
        return {
            **self.core.get_state(),
            "generator": self._generator.bit_generator.state,
            "started": self._started,
            "agents": self.agents[:],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`. The next steps give the same bits.

        Raises:
            ValueError: the state is of another race.
        """
        self.core.check_state(state, "generator", "started", "agents")
        generator = restored_generator(state["generator"])
        self.core.set_state(state)
        self._generator, self._started = generator, bool(state["started"])
        self.agents = list(state["agents"])
