"""PPO of Stable-Baselines3 on a registered task, in the library's usual style.

python -m baselines.ppo_sb3 --task vnl/RodentGoalReaching-v0 --steps 3000000 --out runs/sb3

The library's own `save` writes `model.zip`, and the normalisation of observations as
`normalise.pkl`. `policy.onnx` in the folder is for `baselines.score` and the leaderboard.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.vec_env import VecNormalize

from baselines.export import Layer, check_exported, dense, normaliser, write_onnx
from baselines.options import Out, Seed, Steps, Task
from vnl_envs import SB3VecEnv
from vnl_envs.cli.terminal import TaskOptions, parse_options

MODEL, NORMALISE, POLICY = "model.zip", "normalise.pkl", "policy.onnx"
_NUM_ENVS, _CHECKPOINT_EVERY = 32, 100_000


def make_model(envs: VecNormalize, seed: int) -> PPO:
    """The model before learning. A body still stands under its exploration noise, σ = 0.18."""
    policy = {"log_std_init": math.log(0.18), "net_arch": [256, 256]}
    return PPO(
        "MlpPolicy",
        envs,
        n_steps=64,
        batch_size=512,
        n_epochs=5,
        gamma=0.99,
        seed=seed,
        policy_kwargs=policy,
        device="cpu",
    )


def export(model: PPO, envs: VecNormalize, path: Path, about: dict) -> None:
    """Write the mean action as ONNX, including its normaliser.

    Raises:
        RuntimeError: the file's actions differ from the model's.
    """
    seen: Any = envs.obs_rms
    mean, deviation = seen.mean, np.sqrt(seen.var + envs.epsilon)
    layers: list[Layer] = normaliser(mean, deviation, envs.clip_obs)
    for module in (*model.policy.mlp_extractor.policy_net, model.policy.action_net):
        if isinstance(module, torch.nn.Linear):
            weight, bias = (p.detach().numpy() for p in (module.weight, module.bias))
            layers.append(dense(weight, bias))
        else:
            layers.append(Layer(type(module).__name__))
    write_onnx(path, layers, (len(mean), len(layers[-1].arrays[1])), about)

    def predict(observations: np.ndarray) -> np.ndarray:
        return model.predict(envs.normalize_obs(observations), deterministic=True)[0]

    check_exported(path, predict, mean, deviation)


def main(
    task: Task,
    out: Out,
    steps: Steps = 3_000_000,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="continue the model in --out")] = False,
    option: TaskOptions = None,
) -> None:
    """Train a policy by Stable-Baselines3's PPO."""
    try:
        options = parse_options(task, option)
        bare = SB3VecEnv(task, _NUM_ENVS, **options)
        if resume:
            envs = VecNormalize.load(str(out / NORMALISE), bare)
            model = PPO.load(out / MODEL, envs, device="cpu")
        else:
            out.mkdir(parents=True)
            envs = VecNormalize(bare, gamma=0.99)
            model = make_model(envs, seed)
        every = CheckpointCallback(_CHECKPOINT_EVERY // _NUM_ENVS, str(out / "checkpoints"))
        model.learn(steps - model.num_timesteps, every, reset_num_timesteps=not resume)
        model.save(out / MODEL)
        envs.save(str(out / NORMALISE))
        about = {
            "algorithm": "ppo_sb3",
            "task": task,
            "env_hash": bare.env.env_hash,
            "seed": seed,
            "options": options,
            "steps": model.num_timesteps,
        }
        export(model, envs, out / POLICY, about)
    except FileExistsError:
        sys.exit(f"error: {str(out)!r} is there: go on with --resume, or give another --out")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
