"""dm_control's own environments of the same kind, for comparison."""

from __future__ import annotations

import numpy as np

from vnl_envs.benchmarking.throughput import Contender
from vnl_envs.utils.opengl import quiet_dm_control


def contender(task_id: str) -> Contender | None:
    """dm_control's environment most similar to a task; None if there is none without data."""
    with quiet_dm_control():
        from dm_control.locomotion.examples import basic_cmu_2019, basic_rodent_2020

    makers = {
        "vnl/RodentJumpGap-v0": basic_rodent_2020.rodent_run_gaps,
        "vnl/HumanoidJumpGap-v0": basic_cmu_2019.cmu_humanoid_run_gaps,
        "vnl/HumanoidGoalReaching-v0": basic_cmu_2019.cmu_humanoid_go_to_target,
    }
    if task_id not in makers:
        return None
    env = makers[task_id](random_state=0)
    # Its cameras are not part of the comparison: our environments have none by default.
    for name, observable in env.task.observables.items():
        if "camera" in name:
            observable.enabled = False
    env.reset()
    size = env.action_spec().shape[0]

    def run(actions: np.ndarray) -> None:
        for action in actions:
            # The 2019 humanoid has the same 56 actuators; its fingers are one joint fewer.
            if env.step(np.resize(action[0], size)).last():
                env.reset()

    return Contender("dm_control", run, 1, env.control_timestep())
