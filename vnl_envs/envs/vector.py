"""Many environments stepped on threads, in this process or in several."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode

from vnl_envs.envs.base import EnvBase, check_reset_options, reset_options, restored_generator
from vnl_envs.envs.block import FLAGS, Block, Results
from vnl_envs.envs.core import Core, check_state
from vnl_envs.envs.gym_core import METADATA, GymCore
from vnl_envs.envs.processes import workers
from vnl_envs.envs.processes.workers import Workers
from vnl_envs.registry import make_task
from vnl_envs.rendering.renderer import HEIGHT, WIDTH, check_size
from vnl_envs.utils import checks


class VectorEnv(EnvBase, gymnasium.vector.VectorEnv[Any, np.ndarray, np.ndarray]):
    """A registered task, `num_envs` times; environment i is the single one seeded seed + i.

    Args:
        task_id: a registered id.
        num_envs: environments.
        threads: of each process; 0 divides the CPUs among the processes.
        processes: that step a block of the environments each, this one among them; "auto" as many
            as pay. The bits are the same for any number.
        autoreset_mode: SAME_STEP (default: the observation is the next episode's first, the old
            one's last is in `final_obs` and `final_info`), NEXT_STEP or DISABLED
            (`reset(options={"reset_mask": …})` starts episodes); also by name ("NEXT_STEP") or
            value ("NextStep").
        render_mode: None or "rgb_array".
        width, height: of rendered pictures, pixels.
        vision, observation, options: see `SingleEnv`.
        max_episode_steps: truncate episodes after so many steps, at most the task's horizon, as
            `gymnasium.make` does by `TimeLimit`; None and -1 leave it to the task.
    """

    def __init__(
        self,
        task_id: str,
        num_envs: int = 1,
        threads: int = 0,
        processes: int | Literal["auto"] = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        width: int = WIDTH,
        height: int = HEIGHT,
        vision: bool = False,
        observation: Literal["flat", "dict"] = "flat",
        max_episode_steps: int | None = None,
        **options: Any,
    ) -> None:
        num_envs = checks.integer("num_envs", num_envs, 1)
        threads = checks.integer("threads", threads, 0)
        self._processes = workers.count(processes, num_envs)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(
                f"render_mode of a vector environment is 'rgb_array' or None, got {render_mode!r}"
            )
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self._size = check_size(width, height)
        self._arguments = copy.deepcopy(
            {
                "task_id": task_id,
                "num_envs": num_envs,
                "threads": threads,
                "processes": processes,
                "autoreset_mode": self.autoreset_mode,
                "render_mode": render_mode,
                "width": width,
                "height": height,
                "vision": vision,
                "observation": observation,
                "max_episode_steps": max_episode_steps,
                **options,
            }
        )
        task = make_task(task_id, **options)
        limit = _time_limit(max_episode_steps, task.horizon)
        alone = self._processes == 1
        self._gym = GymCore(
            task, num_envs if alone else 1, threads if alone else 1, vision, observation
        )
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {**copy.deepcopy(METADATA), "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self._gym.observation_space
        self.single_action_space = self._gym.action_space
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self._simulations: Block | Workers = (
            Block(self._gym, self.autoreset_mode, limit)
            if alone
            else Workers(self._gym, num_envs, self._processes, threads, self.autoreset_mode, limit)
        )
        self._term_names = tuple(task.reward_terms)
        self._metric_names = self._gym.core.finalizer.accumulator.names
        # Reward, terms and metrics before the first step, (K, 1).
        self._first = np.concatenate(
            [np.zeros(1 + len(self._term_names)), self._gym.core.first_figures()]
        )[:, None]
        # Environments without an episode under way, and those that ever had one.
        self._over, self._begun = np.ones(num_envs, bool), np.zeros(num_envs, bool)

    @property
    def core(self) -> Core:
        """What joins task and engine, for tools that look inside.

        Raises:
            AttributeError: the simulations are in several processes.
        """
        if self._processes > 1:
            raise AttributeError(
                f"the simulations are in {self._processes} processes; with processes=1 in one core"
            )
        return self._gym.core

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators that draw each environment's episodes."""
        return tuple(generator for generator, _ in self._simulations.generators())

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What each generator was seeded with; -1 where it came with a state."""
        return tuple(seed for _, seed in self._simulations.generators())

    @property
    def episodes(self) -> dict[str, np.ndarray]:
        """The current episodes, one row per environment."""
        return self._simulations.episodes()

    @property
    def carries(self) -> dict[str, np.ndarray]:
        """What the task remembers of each episode, one row per environment."""
        return self._simulations.carries()

    def data(self, index: int) -> mujoco.MjData:
        """A snapshot of one environment's simulation."""
        return self._simulations.data(index)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes.

        Args:
            seed: environment i gets seed + i, or the i-th of a sequence.
            options: "reset_mask" (num_envs,) bool, which environments to reset; "episode", rows
                of an episode for each of those.

        Returns:
            The observations of all environments, and infos as of `step` of those that were reset.

        Raises:
            ValueError: an unknown option, or a seed sequence or mask of a wrong length.
        """
        options = dict(reset_options(options))
        mask = self._mask(options.pop("reset_mask", None))
        given = check_reset_options(options)
        ids = np.flatnonzero(mask)
        rows = None if given is None else self.episode_rows(given, len(ids))
        seeds = self._seeds(seed)
        self._simulations.reset(ids, [seeds[i] for i in ids], rows)
        self._over, self._begun = self._over & ~mask, self._begun | mask
        numbers = np.where(mask, self._first, 0.0)
        flags = np.zeros((len(FLAGS), self.num_envs), bool)
        return self._observe(), self._infos(numbers, flags, mask)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step with actions (num_envs, nu) in [-1, 1].

        Raises:
            ValueError: actions of a wrong shape or type or not finite.
            gymnasium.error.ResetNeeded: an environment has no episode under way.
            gymnasium.error.ClosedEnvironmentError: there are no processes any more.
        """
        actions = self._gym.check_action(actions, self.action_space.shape)
        resetting = self._over
        self._refuse(resetting)
        # What is interrupted, as by Ctrl-C, must be reset.
        self._over = np.ones(self.num_envs, bool)
        results = self._simulations.step(actions, resetting)
        numbers, flags = results.numbers.T.copy(), results.flags.T.copy()
        reward, (terminated, truncated) = numbers[0].copy(), flags[:2].copy()
        done = terminated | truncated
        again, final = resetting, {}
        if len(results.ended):
            again, final = done, self._final(results, numbers, flags, done)
        if again.any():
            numbers, flags = np.where(again, self._first, numbers), flags & ~again
        same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        self._over = np.zeros(self.num_envs, bool) if same_step else done
        infos = self._infos(numbers, flags, np.ones(self.num_envs, bool))
        return self._observe(), reward, terminated, truncated, {**infos, **final}

    def _refuse(self, over: np.ndarray) -> None:
        """Raise `ResetNeeded` if environments need a reset that a step does not make."""
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            # What is over begins anew by itself; what never began does not.
            over = over & ~self._begun
        if over.any():
            self._simulations.check_open()
            raise gymnasium.error.ResetNeeded(
                f"environments {np.flatnonzero(over).tolist()} need a reset() before a step()"
            )

    def _observe(self) -> Any:
        return self._gym.shaped(self._simulations.observe())

    def _infos(self, numbers: np.ndarray, flags: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        """Infos in Gymnasium's form: each with a mask of its own.

        Args:
            numbers: (K, num_envs), see `Results`, zeros where the mask is False; so are flags.
            flags: (4, num_envs) bool.
            mask: (num_envs,) bool, which environments they are of.
        """
        terms = 1 + len(self._term_names)
        # Hands out a copy at a time.
        masks = iter(np.tile(mask, (4 + len(numbers) - 1, 1)))

        def masked(names: Sequence[str], values: Iterable[Any]) -> dict[str, Any]:
            out = {}
            for name, value in zip(names, values, strict=True):
                out[name], out["_" + name] = value, next(masks)
            return out

        groups = (
            masked(self._term_names, numbers[1:terms]),
            masked(self._metric_names, numbers[terms:]),
            *flags[2:],
        )
        return masked(("reward_terms", "metrics", "is_success", "diverged"), groups)

    def _final(
        self, results: Results, numbers: np.ndarray, flags: np.ndarray, done: np.ndarray
    ) -> dict[str, Any]:
        """What belongs to finished episodes."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row, i in enumerate(results.ended):
            parts = {name: part[row].copy() for name, part in results.final.items()}
            final_obs[i] = self._gym.shaped(parts)
        return {
            "final_obs": final_obs,
            "_final_obs": done.copy(),
            "final_info": self._infos(np.where(done, numbers, 0.0), flags & done, done),
            "_final_info": done.copy(),
        }

    def _mask(self, mask: Any) -> np.ndarray:
        if mask is None:
            return np.ones(self.num_envs, bool)
        array = np.asarray(mask)
        if array.dtype != bool or array.shape != (self.num_envs,) or not array.any():
            raise ValueError(f"reset_mask must be ({self.num_envs},) bool with at least one True")
        return array

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, Sequence | np.ndarray):
            if len(seed) != self.num_envs:
                raise ValueError(f"seed has {len(seed)} entries for {self.num_envs} environments")
            return [None if s is None else checks.integer("seed", s, 0) for s in seed]
        first = checks.integer("seed", seed, 0)
        return [first + i for i in range(self.num_envs)]

    def episode_rows(self, given: Any, num: int) -> dict[str, np.ndarray]:
        """Rows of `num` episodes given by a user, checked against what the task draws.

        Raises:
            ValueError: not so many, or see `Core.check_episode`.
        """
        names = sorted(self._gym.core.episode)
        if not isinstance(given, dict) or any(np.shape(v)[:1] != (num,) for v in given.values()):
            raise ValueError(f"an episode must have the parts {names} with {num} rows each")
        checked = [
            self._gym.core.check_episode({k: v[i] for k, v in given.items()}) for i in range(num)
        ]
        return {name: np.concatenate([row[name] for row in checked]) for name in names}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture (height, width, 3) of each environment in mode "rgb_array", else None."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._simulations.draw(*self._size))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer, and end other processes."""
        self._simulations.close()

    def get_state(self) -> dict[str, Any]:
        """Everything the coming steps depend on, generators included, as plain arrays."""
        return {**self._simulations.get_state(), "over": self._over.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore `get_state`'s; the next steps give the same bits.

        Raises:
            ValueError: the state is of another task or number of environments.
        """
        own = self._simulations.get_state()
        generators = own.pop("generator")
        check_state(own, state, "generator", "over")
        if len(state["generator"]) != len(generators):
            raise ValueError(f"a state of {self.num_envs} environments has as many generators")
        for saved in state["generator"]:
            restored_generator(saved)
        self._simulations.set_state(state)
        self._over = np.array(state["over"], bool)
        steps = self._metric_names.index("length")
        self._begun = ~self._over | (np.asarray(state["totals"])[:, steps] > 0)


def info_of(infos: dict[str, Any], index: int) -> dict[str, Any]:
    """One environment's info among the infos of a vector, as a single environment gives it."""
    return {
        key: info_of(value, index) if isinstance(value, dict) else value[index].item()
        for key, value in infos.items()
        if not key.startswith("_") and infos["_" + key][index]
    }


def _autoreset_mode(mode: Any) -> AutoresetMode:
    """A mode, also by its name ("SAME_STEP") or value ("SameStep").

    Raises:
        ValueError: there is no such mode.
    """
    for known in AutoresetMode:
        if mode in (known, known.name, known.value):
            return known
    names = " or ".join(repr(known.name) for known in AutoresetMode)
    raise ValueError(f"autoreset_mode must be {names}, got {mode!r}")


def _time_limit(steps: Any, horizon: int) -> int | None:
    """The steps after which episodes end before the task itself would end them.

    Raises:
        ValueError: it is no number of steps, or beyond the horizon.
    """
    if steps is None or steps == -1:
        return None
    steps = checks.integer("max_episode_steps", steps, 1)
    if steps > horizon:
        raise ValueError(
            f"max_episode_steps must be at most {horizon}, the task's horizon, got {steps}"
        )
    return steps if steps < horizon else None
