"""Many environments stepped on a thread pool."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import mujoco
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from vnl_envs import checks
from vnl_envs.envs.core import Step
from vnl_envs.envs.face import (
    METADATA,
    Facade,
    Face,
    check_reset_options,
    reset_options,
    restored_generator,
)
from vnl_envs.envs.view import View
from vnl_envs.rendering import HEIGHT, WIDTH, check_size


class VectorEnv(Facade, gymnasium.vector.VectorEnv[Any, np.ndarray, np.ndarray]):
    """A registered task, `num_envs` times; environment i is the single one seeded seed + i.

    Args:
        task_id: a registered id.
        num_envs: environments.
        threads: 0 uses every CPU.
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
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode of a vector environment is 'rgb_array' or None, "
                             f"got {render_mode!r}")  # fmt: skip
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        size = check_size(width, height)
        self._arguments = copy.deepcopy({
            "task_id": task_id, "num_envs": num_envs, "threads": threads,
            "autoreset_mode": self.autoreset_mode, "render_mode": render_mode, "width": width,
            "height": height, "vision": vision, "observation": observation,
            "max_episode_steps": max_episode_steps, **options,
        })  # fmt: skip
        self._face = Face(task_id, num_envs, threads, vision, observation, options)
        self._view = View(self._face.core, *size)
        self._limit = _time_limit(max_episode_steps, self.task.horizon)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.metadata = {**copy.deepcopy(METADATA), "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self._face.observation_space
        self.single_action_space = self._face.action_space
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self._generators, self._drawn_from = map(
            list, zip(*(seeding.np_random() for _ in range(num_envs)), strict=True)
        )
        # Environments without an episode under way.
        self._over = np.ones(num_envs, bool)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators that draw each environment's episodes."""
        return tuple(self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What each generator was seeded with; -1 where it came with a state."""
        return tuple(self._drawn_from)

    @property
    def episodes(self) -> dict[str, np.ndarray]:
        """The current episodes, one row per environment."""
        return {k: v.copy() for k, v in self._face.core.episode.items()}

    @property
    def carries(self) -> dict[str, np.ndarray]:
        """What the task remembers of each episode, one row per environment."""
        return {k: v.copy() for k, v in self._face.core.carry.items()}

    def data(self, index: int) -> mujoco.MjData:
        """A snapshot of one environment's simulation."""
        return self._face.core.engine.data(index)

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
        rows = None if given is None else self._episode_rows(given, ids)
        seeds = self._seeds(seed)
        for i in ids:
            if seeds[i] is not None:
                self._generators[i], self._drawn_from[i] = seeding.np_random(seeds[i])
        self._reset(ids, rows)
        infos = _info(
            Step.none(self.task.reward_terms, (self.num_envs,)), self._face.core.figures()
        )
        return self._face.observe(), _masked(infos, mask)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step with actions (num_envs, nu) in [-1, 1].

        Raises:
            ValueError: actions of a wrong shape or type or not finite.
            gymnasium.error.ResetNeeded: an environment has no episode under way.
        """
        face = self._face
        actions = face.check_action(actions, self.action_space.shape)
        resetting = self._over
        self._refuse(resetting)
        ids = np.flatnonzero(~resetting) if resetting.any() else None
        result = face.core.step(actions, ids)
        figures = face.core.figures()
        reward = np.array(result.reward, np.float64)
        terminated, truncated = np.array(result.terminated), np.array(result.truncated)
        if self._limit is not None:
            truncated |= (figures["length"] >= self._limit) & ~terminated
        if ids is not None:
            reward[resetting], terminated[resetting], truncated[resetting] = 0.0, False, False
        infos = _info(result, figures)
        done = terminated | truncated
        again, final = resetting, {}
        self._over = done.copy()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and done.any():
            again, final = done, self._final(done, infos)
        if again.any():
            self._reset(np.flatnonzero(again), None)
            infos = {**_where(~again, infos), "metrics": face.core.figures()}
            if self.autoreset_mode == AutoresetMode.NEXT_STEP:
                self._over = done.copy()
        infos = _masked(infos, np.ones(self.num_envs, bool))
        return face.observe(), reward, terminated, truncated, {**infos, **final}

    def _refuse(self, over: np.ndarray) -> None:
        """Raise `ResetNeeded` if environments need a reset that a step does not make."""
        if not over.any():
            return
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            # What is over begins anew by itself; what never began does not.
            over = over & (self._face.core.figures()["length"] == 0)
        if over.any():
            raise gymnasium.error.ResetNeeded(
                f"environments {np.flatnonzero(over).tolist()} need a reset() before a step()"
            )

    def _final(self, done: np.ndarray, infos: dict[str, Any]) -> dict[str, Any]:
        """What belongs to finished episodes."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            final_obs[i] = self._face.observe_one(int(i))
        return {
            "final_obs": final_obs,
            "_final_obs": done.copy(),
            "final_info": _masked(infos, done),
            "_final_info": done.copy(),
        }

    def _reset(self, ids: np.ndarray, rows: dict[str, np.ndarray] | None) -> None:
        if not len(ids):
            return
        core = self._face.core
        if rows is None:
            rows = core.draw([self._generators[i] for i in ids])
        core.reset(ids, rows)
        self._over = self._over.copy()
        self._over[ids] = False

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

    def _episode_rows(self, given: Any, ids: np.ndarray) -> dict[str, np.ndarray]:
        names = sorted(self._face.core.episode)
        if not isinstance(given, dict) or any(
            np.shape(v)[:1] != (len(ids),) for v in given.values()
        ):
            raise ValueError(f"an episode must have the parts {names} with {len(ids)} rows each")
        checked = [
            self._face.core.check_episode({k: v[i] for k, v in given.items()})
            for i in range(len(ids))
        ]
        return {name: np.concatenate([row[name] for row in checked]) for name in names}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture (height, width, 3) of each environment in mode "rgb_array", else None."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._view.draw(i) for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer."""
        self._view.close()
        self._face.close()

    def get_state(self) -> dict[str, Any]:
        """Everything the coming steps depend on, generators included, as plain arrays."""
        return {
            **self._face.core.get_state(),
            "generator": [rng.bit_generator.state for rng in self._generators],
            "over": self._over.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore `get_state`'s; the next steps give the same bits.

        Raises:
            ValueError: the state is of another task or number of environments.
        """
        self.core.check_state(state, "generator", "over")
        if len(state["generator"]) != self.num_envs:
            raise ValueError(f"a state of {self.num_envs} environments has as many generators")
        generators = [restored_generator(saved) for saved in state["generator"]]
        self.core.set_state(state)
        self._generators, self._drawn_from = generators, [-1] * self.num_envs
        self._over = np.array(state["over"], bool)


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


def _info(result: Step, figures: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "reward_terms": result.terms,
        "metrics": figures,
        "is_success": result.success,
        "diverged": result.diverged,
    }


def _masked(infos: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Infos in Gymnasium's form: each key with a mask, zeros where the mask is False."""
    if not mask.all():
        infos = _where(mask, infos)
    out: dict[str, Any] = {}
    for key, value in infos.items():
        out[key] = _masked(value, mask) if isinstance(value, dict) else value
        out["_" + key] = mask.copy()
    return out


def _where(mask: np.ndarray, infos: dict[str, Any]) -> dict[str, Any]:
    """Infos with zeros where the mask is False."""
    return {
        key: _where(mask, value)
        if isinstance(value, dict)
        else np.where(mask, value, value.dtype.type(0))
        for key, value in infos.items()
    }
