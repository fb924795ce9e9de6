"""Random repetition of the last command."""

from __future__ import annotations

from vnl_envs.perturbations import counter_rng
from vnl_envs.perturbations.kind import Kind, Parts, Setting
from vnl_envs.physics import Array, namespace
from vnl_envs.tasks.task import Start, Task
from vnl_envs.utils import checks


class ActionRepeat(Kind):
    """At each step, the last command replaces the new one with a given probability.

    Machado et al. (2018), "Revisiting the Arcade Learning Environment", call this "sticky
    actions".
    """

    settings = (
        Setting(
            name="action_repeat",
            values="p in [0, 0.99]",
            text='the last command repeats with probability p at each step ("sticky actions", '
            "Machado et al. 2018)",
            check=lambda name, value: checks.number(name, value, 0.0, 0.99),
            example=0.2,
            in_every_hash=True,
        ),
    )
    stream = 2

    def __init__(self, task: Task, chance: float) -> None:
        self._chance, self._nu = chance, task.body.nu

    def first_carry(self, start: Start) -> dict[str, Array]:
        """The last command, (..., nu) float32: the standing pose."""
        xp, batch = namespace(start.qpos), start.qpos.shape[:-1]
        return {"command": xp.zeros((*batch, self._nu), dtype=xp.float32)}

    def next_carry(self, given: Array, passed: Array, carry: Parts) -> dict[str, Array]:
        """The command that was passed on."""
        xp = namespace(passed)
        return {"command": xp.astype(passed, xp.float32)}

    def command(self, action: Array, episode: Parts, carry: Parts) -> Array:
        """The new action, or the last command."""
        again = counter_rng.uniform(episode["seed"], carry["step"], self.stream, 1) < self._chance
        return namespace(action).where(again, carry["command"], action)
