"""Collection by Brax's PPO on the native engine, compared with the Gymnasium vector environment."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
from brax.training import acting
from brax.training.agents.ppo import networks

import vnl_envs
from vnl_envs.benchmarking import throughput as bench
from vnl_envs.utils.files import written_whole

TASK = "vnl/RodentGoalReaching-v0"
NUM_ENVS = 64
STEPS = 40
HIDDEN = (256, 256)
RESULTS = Path(__file__).parent / "results" / "collection.json"


def policy_of(env: vnl_envs.FunctionalEnv):
    """Sampling from an untrained PPO policy, which collection evaluates at every step."""
    network = networks.make_ppo_networks(
        env.observation_size, env.action_size, policy_hidden_layer_sizes=HIDDEN
    )
    params = network.policy_network.init(jax.random.PRNGKey(0))
    return networks.make_inference_fn(network)((None, params))


def collector(with_policy: bool) -> bench.Contender:
    """A compiled unroll of the training wrapper, by a policy or with given actions."""
    env = vnl_envs.make_functional(TASK, "native")
    wrapped = vnl_envs.wrap_for_training(env)
    first = jax.jit(wrapped.reset)(jax.random.split(jax.random.PRNGKey(0), NUM_ENVS))
    policy = policy_of(env)

    @jax.jit
    def unroll(state, actions):
        if not with_policy:
            return jax.lax.scan(lambda s, a: (wrapped.step(s, a), None), state, actions)[0]
        key = jax.random.PRNGKey(1)
        return acting.generate_unroll(wrapped, state, policy, key, len(actions))[0]

    def run(actions: np.ndarray) -> None:
        jax.block_until_ready(unroll(first, actions))

    return bench.Contender("ppo" if with_policy else "functional", run, NUM_ENVS)


def test_collection(benchmark):
    """The three contenders take turns; the ratios are medians over rounds."""
    contenders = [collector(False), collector(True), bench.vector_env(TASK, NUM_ENVS)]
    task = vnl_envs.make_task(TASK)
    rates = {k: np.array(v) for k, v in bench.compare(contenders, task, STEPS).items()}
    row = {name: float(np.median(rate)) for name, rate in rates.items()}
    for name in ("functional", "ppo"):
        row[f"{name}_over_vector"] = float(np.median(rates[name] / rates["vector"]))
    with written_whole(RESULTS) as partial:
        stamped = {"machine": {**bench.machine(), "jax": jax.__version__}, TASK: row}
        partial.write_text(json.dumps(stamped, indent=2) + "\n")
    print("\n", row)
    benchmark.extra_info.update(row)
    actions = bench.actions_for(task, NUM_ENVS, STEPS)
    benchmark.pedantic(contenders[0].run, args=(actions,), rounds=3)
