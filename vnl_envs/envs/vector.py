"""Many environments, stepped on threads of one or several processes."""

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
    """`num_envs` environments of a registered task.

    Environment i gives the bits of a `SingleEnv` with seed `seed + i`.

    Args:
        task_id: registered id.
        num_envs: number of environments.
        threads: number of threads of each process; 0 divides the CPUs among the processes.
        processes: number of processes, including this one, that step a block of the environments
            each. "auto" chooses the fastest number. The bits are the same for any number.
        autoreset_mode: SAME_STEP (default) returns the next episode's first observation; the last
            one of the finished episode is in `final_obs`, its info in `final_info`. The others are
            NEXT_STEP and DISABLED, in which `reset(options={"reset_mask": …})` starts episodes.
            Names ("NEXT_STEP") and values ("NextStep") are accepted too.
        render_mode: None or "rgb_array".
        width, height: size of rendered images, pixels.
        vision, observation, options: see `SingleEnv`.
        max_episode_steps: number of steps after which episodes are truncated, at most the task's
            horizon, as by `TimeLimit` in `gymnasium.make`. None and -1 use the horizon.
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
        one_process = self._processes == 1
        self._gym = GymCore(
            task,
            num_envs if one_process else 1,
            threads if one_process else 1,
            vision,
            observation,
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
            if one_process
            else Workers(self._gym, num_envs, self._processes, threads, self.autoreset_mode, limit)
        )
        self._term_names = tuple(task.reward_terms)
        self._metric_names = self._gym.core.finalizer.accumulator.names
        # Reward, terms and metrics before the first step, (K, 1).
        self._first = np.concatenate(
            [np.zeros(1 + len(self._term_names)), self._gym.core.first_figures()]
        )[:, None]
        # Whether no episode is under way, and whether there ever was one, by environment.
        self._over, self._begun = np.ones(num_envs, bool), np.zeros(num_envs, bool)

    @property
    def core(self) -> Core:
        """The core that joins task and engine, for tools that inspect an environment.

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
        """Seed of each generator; -1 if its state was restored."""
        return tuple(seed for _, seed in self._simulations.generators())

    @property
    def episodes(self) -> dict[str, np.ndarray]:
        """The current episodes, as rows (num_envs, ...)."""
        return self._simulations.episodes()

    @property
    def carries(self) -> dict[str, np.ndarray]:
        """The current carries, as rows (num_envs, ...)."""
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
            seed: seed of environment 0, where environment i gets seed + i; or a sequence of seeds.
            options: "reset_mask" (num_envs,) bool marks the environments to reset; "episode" has
                one row for each of these.

        Returns:
            The observations of all environments, and the infos of those that were reset.

        Raises:
            ValueError: an option is unknown, or a seed sequence or mask has a wrong length.
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
            ValueError: the actions have a wrong shape or type, or are not finite.
            gymnasium.error.ResetNeeded: an environment has no episode under way.
            gymnasium.error.ClosedEnvironmentError: the processes have ended.
        """
        actions = self._gym.check_action(actions, self.action_space.shape)
        resetting = self._over
        self._refuse(resetting)
        # An interrupted step, as by Ctrl-C, must be followed by a reset.
        self._over = np.ones(self.num_envs, bool)
        results = self._simulations.step(actions, resetting)
        numbers, flags = results.numbers.T.copy(), results.flags.T.copy()
        reward, (terminated, truncated) = numbers[0].copy(), flags[:2].copy()
        done = terminated | truncated
        restarted, final = resetting, {}
        if len(results.ended):
            restarted, final = done, self._final(results, numbers, flags, done)
        if restarted.any():
            numbers, flags = np.where(restarted, self._first, numbers), flags & ~restarted
        same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        self._over = np.zeros(self.num_envs, bool) if same_step else done
        infos = self._infos(numbers, flags, np.ones(self.num_envs, bool))
        return self._observe(), reward, terminated, truncated, {**infos, **final}

    def _refuse(self, over: np.ndarray) -> None:
        """Raise `ResetNeeded` if environments need a reset that a step does not do."""
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            # The step restarts finished episodes, but not environments that were never reset.
            over = over & ~self._begun
        if over.any():
            self._simulations.check_open()
            raise gymnasium.error.ResetNeeded(
                f"environments {np.flatnonzero(over).tolist()} need a reset() before a step()"
            )

    def _observe(self) -> Any:
        return self._gym.shaped(self._simulations.observe())

    def _infos(self, numbers: np.ndarray, flags: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
        """Infos in Gymnasium's form, each with its own mask.

        Args:
            numbers: (K, num_envs), see `Results`; 0 where the mask is False.
            flags: (4, num_envs) bool; False where the mask is False.
            mask: (num_envs,) bool, whether an environment has infos.
        """
        terms = 1 + len(self._term_names)
        # One copy of the mask for each info.
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
        """The infos of finished episodes: `final_obs`, `final_info` and their masks."""
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
        """Check `num` episodes from a user, and return them as rows (num, ...).

        Raises:
            ValueError: there is another number of rows, or see `Core.check_episode`.
        """
        names = sorted(self._gym.core.episode)
        if not isinstance(given, dict) or any(np.shape(v)[:1] != (num,) for v in given.values()):
            raise ValueError(f"an episode must have the parts {names} with {num} rows each")
        checked = [
            self._gym.core.check_episode({k: v[i] for k, v in given.items()}) for i in range(num)
        ]
        return {name: np.concatenate([row[name] for row in checked]) for name in names}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """An image (height, width, 3) uint8 per environment in mode "rgb_array", else None."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._simulations.draw(*self._size))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer, and end the other processes."""
        self._simulations.close()

    def get_state(self) -> dict[str, Any]:
        """Everything on which the next steps depend, with the generators, as plain arrays."""
        return {**self._simulations.get_state(), "over": self._over.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `get_state`. The next steps give the same bits.

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
    """The info of one environment from a vector's infos, in the form of a single environment."""
    return {
        key: info_of(value, index) if isinstance(value, dict) else value[index].item()
        for key, value in infos.items()
        if not key.startswith("_") and infos["_" + key][index]
    }


def _autoreset_mode(mode: Any) -> AutoresetMode:
    """The autoreset mode for a mode, a name ("SAME_STEP") or a value ("SameStep").

    Raises:
        ValueError: there is no such mode.
    """
    for known in AutoresetMode:
        if mode in (known, known.name, known.value):
            return known
    names = " or ".join(repr(known.name) for known in AutoresetMode)
    raise ValueError(f"autoreset_mode must be {names}, got {mode!r}")


def _time_limit(steps: Any, horizon: int) -> int | None:
    """The number of steps after which episodes are truncated; None if that is the task's horizon.

    Raises:
        ValueError: `steps` is not a number of steps, or is above the horizon.
    """
    if steps is None or steps == -1:
        return None
    steps = checks.integer("max_episode_steps", steps, 1)
    if steps > horizon:
        raise ValueError(
            f"max_episode_steps must be at most {horizon}, the task's horizon, got {steps}"
        )
    return steps if steps < horizon else None
