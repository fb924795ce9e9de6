"""One policy for all animals of a race: SB3's PPO on SuperSuit's vector of PettingZoo games.

    pip install -c constraints.txt -e .[parallel,sb3] supersuit
    python examples/shared_policy.py --steps 1000000

Every animal is a row of the vector: all of them feed one policy, which races against itself.
"""

from __future__ import annotations

import argparse

import numpy as np
import supersuit
from stable_baselines3 import PPO
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

import vnl_envs


def make_vector(race_id: str, num_agents: int, games: int, seed: int) -> VecEnv:
    """A vector of games * num_agents rows; rows i * num_agents and on are those of game i."""
    game = vnl_envs.parallel_env(race_id, num_agents)
    # An animal that has fallen leaves the game, and SB3 wants a row of it all the same: zeros,
    # until the last one has fallen or time is up.
    rows = supersuit.pettingzoo_env_to_vec_env_v1(supersuit.black_death_v3(game))
    games_vector = supersuit.concat_vec_envs_v1(rows, games, base_class="stable_baselines3")
    # SuperSuit's wrapper for SB3 passes no seed on. Game i gets seed + i, and draws on from there.
    games_vector.venv.reset(seed=seed)
    return VecMonitor(games_vector)


def train(race_id: str, num_agents: int, games: int, steps: int, seed: int) -> PPO:
    """Train for about `steps` control steps of all animals together."""
    # Not `PPO(seed=…)`, which would seed the vector in a way that SuperSuit's has not.
    set_random_seed(seed)
    vector = make_vector(race_id, num_agents, games, seed)
    model = PPO(
        "MlpPolicy",
        vector,
        n_steps=64,
        batch_size=min(512, 64 * vector.num_envs),
        n_epochs=5,
        gamma=0.98,
        # Louder actions make the animals fall at once.
        policy_kwargs={"log_std_init": float(np.log(0.18))},
        device="cpu",
        verbose=1,
    )
    model.learn(steps)
    return model


def play(model: PPO, race_id: str, num_agents: int, seed: int) -> dict[str, float]:
    """Goals won by each animal in one race of mean actions."""
    game = vnl_envs.parallel_env(race_id, num_agents)
    observations, _ = game.reset(seed=seed)
    won = dict.fromkeys(game.possible_agents, 0.0)
    while game.agents:
        actions = {a: model.predict(o, deterministic=True)[0] for a, o in observations.items()}
        observations, *_, infos = game.step(actions)
        won.update({agent: info["metrics"]["goals_reached"] for agent, info in infos.items()})
        observations = {agent: observations[agent] for agent in game.agents}
    return won


def main() -> None:
    """Train, save, and let the policy race against itself once."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--race", default="vnl/RodentGoalRace-v0", choices=vnl_envs.parallel_ids())
    parser.add_argument("--animals", type=int, default=2)
    parser.add_argument("--games", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="shared_policy.zip")
    arguments = parser.parse_args()
    race, animals, seed = arguments.race, arguments.animals, arguments.seed
    model = train(race, animals, arguments.games, arguments.steps, seed)
    model.save(arguments.out)
    print("goals won:", play(model, race, animals, seed))


if __name__ == "__main__":
    main()
