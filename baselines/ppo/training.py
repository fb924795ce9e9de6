"""A run of PPO on a task's functional environment, and its log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from baselines import loop, run
from baselines.checkpoint import read_tree
from baselines.episodes import TERM
from baselines.export import check_exported
from baselines.jax_trees import leaves_of, with_leaves
from baselines.ppo import teachers
from baselines.ppo.algorithm import LEARNING_RATES, PPO, Teacher, TrainState
from baselines.ppo.export import acting_state, export_state
from baselines.ppo.hyperparameters import FAILURES, Hyperparameters
from baselines.ppo.networks import Network
from baselines.ppo.neurons import Neurons
from baselines.ppo.starts import FailureStarts
from baselines.ppo.variants import variant
from vnl_envs import FunctionalEnv, make_task, wrap_for_training
from vnl_envs.identity import env_hash
from vnl_envs.tasks.metrics import STANDARD

ALGORITHM = "ppo"
RENEWED = ("adam", "envs")
"""Parts of a `TrainState` that are reset if a checkpoint lacks them, see `reproduce --keep`."""
LEARNT = ("params", "observed", "returns")
"""Parts of a `TrainState` with which another run can begin."""
_EPISODES = ("training_return", "training_length", "training_episodes", "level")
_FIGURES = ("kl", "learning_rate", "sigma", "clipped", "explained", "latent_kl", "cloning_error")


class Training(loop.Training):
    """One run of PPO; see `loop.Training`.

    Args:
        task_id, seed, impl: id of the task, seed of the run and physics implementation.
        folder: folder of the run.
        resume: whether to continue the run in the folder.
        h: hyperparameters.
        network: class of the actor's network.
        experts: folders of runs that are cloned first, for `h.cloning_steps`; without experts, the
            tracking policy is cloned.
        options: options of the task.
        init_from: folder of a run whose networks and statistics this one begins with.
        neurons: session file whose neurons the latent also predicts, and the loss's weight.

    Raises:
        ValueError: an id, option or implementation is unknown, the network does not support the
            task, experts are given without `h.cloning_steps`, the folder has another run, the
            networks in `init_from` have other sizes, or the neurons do not belong to the clips.
        FileNotFoundError: there is no run in `init_from`, or none in `folder` to resume.
    """

    def __init__(
        self,
        task_id: str,
        seed: int,
        impl: str,
        folder: Path,
        resume: bool,
        h: Hyperparameters,
        network: type[Network] = Network,
        experts: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
        init_from: Path | None = None,
        neurons: tuple[Path, float] | None = None,
    ) -> None:
        if experts and not h.cloning_steps:
            raise ValueError("experts are cloned for `cloning_steps`, which is 0")
        options = dict(options or {})
        self._made, self._experts = (task_id, impl, network, options), experts
        self._recorded = neurons
        self.h, self.level = h, 0
        new = not (resume and (folder / run.CHECKPOINT).is_file())
        self._init = _learnt(init_from) if init_from and new else {}
        self._init_from = init_from
        env = self._enter(self.level)
        self._rows: list[dict[str, float]] = []
        self._updates = 0
        identity = {
            "algorithm": ALGORITHM,
            "network": network.name,
            "impl": env.impl,
            "env_hash": env_hash(task_id, make_task(task_id, **options)),
            "experts": [folder.name for folder in experts],
            **self.network.identity,
            **({"init_from": init_from.name} if init_from else {}),
            **(self.neurons.identity if self.neurons else {}),
        }
        terms = [loop.term_column(name) for name in env.task.reward_terms]
        metrics = [metric.name for metric in STANDARD + env.task.metrics]
        self._figures = (*_FIGURES, *(("bits_per_spike",) if self.neurons else ()))
        columns = [*_EPISODES, *self._figures, *terms, *metrics]
        super().__init__(task_id, seed, h, identity, folder, columns, resume, options)

    def _enter(self, level: int) -> FunctionalEnv:
        """Continue training with a level's changes."""
        _, impl, network, options = self._made
        h = self.h.at_level(level)
        made = FailureStarts if h.starts == FAILURES else FunctionalEnv
        env = made(self._task_of(level), impl, **options)
        self.network = network(env.task, env.layout, h)
        teacher = _teacher(env, self._experts) if h.cloning_steps else None
        self.neurons = Neurons(env, *self._recorded) if self._recorded else None
        if self.neurons and not self.network.noise_size:
            raise ValueError("neurons are predicted from a latent, which this network has not")
        self.algorithm = PPO(wrap_for_training(env), h, self.network, teacher, self.neurons)
        self._mean_action = jax.jit(self.algorithm.mean_action)
        self.level = level
        return env

    def _task_of(self, level: int) -> str:
        return variant(self._made[0], self.h.at_level(level).constants)

    @property
    def steps(self) -> int:
        """Control steps so far, of all environments together."""
        return self._updates * self.h.update_steps

    @property
    def iteration(self) -> int:
        """Updates so far."""
        return self._updates

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Start from scratch, or from a state of `get_state`."""
        if saved and saved["level"] != self.level:
            self._enter(saved["level"])
        seed = jnp.asarray(self.seed, jnp.uint32)
        if not saved:
            state = self.algorithm.init(seed)
            try:
                self.state = _with_parts(state, _completed(self._init, state))
            except ValueError:
                raise ValueError(
                    f"the networks of {str(self._init_from)!r} have layers of other sizes"
                ) from None
            return
        kept = saved["state"]
        complete = set(TrainState._fields) <= set(kept)
        like = jax.eval_shape(self.algorithm.init, seed) if complete else self.algorithm.init(seed)
        self.state = _with_parts(like, kept)
        self._updates, self._rows = saved["updates"], saved["rows"]

    def get_state(self) -> dict[str, Any]:
        """The state of acting and of training."""
        return {
            "model": acting_state(self.state, self.network.about()),
            "state": {name: leaves_of(part) for name, part in self.state._asdict().items()},
            "updates": self._updates,
            "rows": self._rows,
            "level": self.level,
            "renewed": RENEWED,
        }

    def advance(self) -> None:
        """Collect one rollout and take its gradient steps."""
        cloning = self.steps < self.h.cloning_steps
        update = self.algorithm.clone if cloning else self.algorithm.iterate
        self.state, figures = update(self.state)
        self._updates += 1
        self._rows.append({name: float(value) for name, value in figures.items()})

    def evaluated(self) -> None:
        """Move to the next or previous level after an evaluation on the present one."""
        if not self.h.levels:
            return
        score = loop.follow(
            self._task_of(self.level), self.mean_action, self.h.evaluation_episodes, **self.options
        )[self.h.level_metric]
        change = int(score > self.h.promote) - int(score < self.h.demote)
        level = min(max(self.level + change, 0), len(self.h.levels) - 1)
        if level != self.level:
            same = self._task_of(level) == self._task_of(self.level)
            self._enter(level)
            if not same:
                self.state = self.algorithm.renewed(self.state)

    def figures(self) -> dict[str, float]:
        """Figures of sampled episodes, and means over updates."""
        rows, self._rows = self._rows, []
        sums = {name: sum(row[name] for row in rows) for name in rows[-1]}
        episodes = sums["episodes"]
        terms = {name: sums[name] for name in sums if name.startswith(TERM)}
        return {
            "training_return": sums["episode_return"] / episodes if episodes else math.nan,
            "training_length": sums["episode_length"] / episodes if episodes else math.nan,
            "training_episodes": episodes,
            "level": self.level,
            **{name: sums[name] / len(rows) for name in self._figures},
            **{
                loop.term_column(name.removeprefix(TERM)): value / len(rows)
                for name, value in terms.items()
            },
        }

    def mean_action(self, observations: np.ndarray) -> np.ndarray:
        """Actions (n, nu) without noise at observations (n, D)."""
        return np.clip(self._mean_action(self.state, observations), -1.0, 1.0)

    def export(self, path: Path) -> None:
        """Write the policy's mean action as ONNX, and check it against the policy.

        Raises:
            RuntimeError: they differ.
        """
        acting = acting_state(self.state, self.network.about())
        export_state(acting, path, self.run.identity)
        check_exported(path, self.mean_action, acting["mean"], acting["deviation"])


def _learnt(folder: Path) -> dict[str, Any]:
    """The parts of a run with which another run can begin.

    Raises:
        FileNotFoundError: there is no run in the folder.
        ValueError: the run is not a run of PPO.
    """
    state = read_tree(folder / run.CHECKPOINT)["state"]
    if not isinstance(state, dict) or not set(LEARNT) <= set(state):
        raise ValueError(f"{str(folder)!r} holds no run of baselines.ppo to begin with")
    return {name: state[name] for name in LEARNT}


def _completed(parts: dict[str, Any], state: TrainState) -> dict[str, Any]:
    """The parts of `_learnt`, with a new read-out of neurons if the other run had none."""
    readout = leaves_of(state.params.get("readout", {}))
    lacking = len(leaves_of(state.params)) - len(parts.get("params", ()))
    if parts and readout and lacking == len(readout):
        # Arrays are in the order of names, of which "readout" is the last.
        return {**parts, "params": [*parts["params"], *readout]}
    return parts


def _with_parts(state: TrainState, parts: Mapping[str, Sequence[np.ndarray]]) -> TrainState:
    """A state in which some parts are replaced by those of a checkpoint.

    Networks without their moments go on with the lowest learning rate: Adam's first steps are of
    full length in every coordinate, and a policy that has learnt would forget.
    """
    state = state._replace(
        **{name: with_leaves(getattr(state, name), leaves) for name, leaves in parts.items()}
    )
    if "params" in parts and "adam" not in parts:
        state = state._replace(learning_rate=jnp.asarray(LEARNING_RATES[0], jnp.float32))
    return state


def _teacher(env: FunctionalEnv, folders: Sequence[Path]) -> Teacher:
    return teachers.experts(env, folders) if folders else teachers.tracking(env)
