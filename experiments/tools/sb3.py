#!/usr/bin/env python3
"""Reference learning curves from Stable-Baselines3 and sb3-contrib, to be laid under ours.

What it does
------------
Trains PPO, SAC (`stable_baselines3`) and TRPO (`sb3_contrib`) with exactly the defaults of those
libraries ("MlpPolicy", one environment, no wrappers beyond the libraries' own, no normalisation), on
the CPU with one torch thread. Three protocols, named as our suites are:

    sb3          PPO and TRPO on CartPole-v1 and Pendulum-v1, 100 000 steps, seeds 0 to 4,
                 20 episodes every 5 000 steps
    sb3-mujoco   PPO and TRPO on Hopper-v5, HalfCheetah-v5 and InvertedPendulum-v5, 200 000 steps,
                 seeds 0 to 2, 10 episodes every 20 000 steps
    sb3-sac      SAC on Pendulum-v1, 20 000 steps, 20 episodes every 2 000 steps, and on
                 HalfCheetah-v5, 50 000 steps, 10 episodes every 5 000 steps, seeds 0 to 4

At the points of the evaluation grid, step 0 included, the greedy policy (`deterministic=True`) plays
these episodes on a separate environment. The policy measured is the one in force at that step: the
evaluation runs inside a callback, straight after the step that reaches the grid point and before any
later update. Grid points need not coincide with the ends of rollouts (2 048 steps): the policy at step
5 000, for instance, is the one updated at step 4 096. Training stops at the last grid point, since no
later update could reach it.

Evaluation does not touch the training: it has an environment of its own and the greedy policy draws no
random numbers. That environment is seeded once per cell with 10 000 + seed, so every evaluation has
fresh starting states and the whole cell is repeatable. Returns are undiscounted sums of the
environment's own rewards, over episodes cut by its own time limit.

Output
------
results/reference/<protocol>/sb3-eval.csv, sorted by agent, env, seed, step:

    agent        sb3-ppo, sb3-trpo or sb3-sac
    env          name of the Gymnasium task
    seed         seed given to the agent (torch, NumPy, environment)
    step         environment steps taken when the policy was measured
    episodes     evaluation episodes
    return_mean, return_std, return_min, return_max
                 over those episodes; the standard deviation is the population
                 one (divides by the number of episodes)
    length_mean  mean episode length in steps

Every row is written as soon as it is known. A second run keeps each finished (agent, env, seed) cell,
drops the rows of an unfinished one and trains that cell again from the start.

Versions
--------
Python 3.11, and from PyPI the packages of `VERSIONS` below. The script stops if the installed versions
differ, unless told `--any-versions`.

Set-up, from the root of the repository
---------------------------------------
    python3 -m venv .venv
    .venv/bin/pip install stable-baselines3==2.9.2 sb3-contrib==2.9.2 \\
        "gymnasium[mujoco]==1.4.0" torch==2.15.0 numpy==2.4.6

Run
---
    OMP_NUM_THREADS=1 .venv/bin/python experiments/tools/sb3.py sb3

    # one part of it
    .venv/bin/python experiments/tools/sb3.py sb3 --agents sb3-ppo --envs Pendulum-v1 --seeds 0 1

    # a quick trial, to another file
    .venv/bin/python experiments/tools/sb3.py sb3-sac --envs Pendulum-v1 --steps 4000 --seeds 0 --out trial.csv
"""

import argparse
import csv
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

# Read by the numerical libraries when they load, so set before importing them.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import gymnasium  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from sb3_contrib import TRPO  # noqa: E402
from stable_baselines3 import PPO, SAC  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402

VERSIONS = {
    "stable-baselines3": "2.9.2",
    "sb3-contrib": "2.9.2",
    "gymnasium": "1.4.0",
    "torch": "2.15.0",
    "numpy": "2.4.6",
}

AGENTS = {"sb3-ppo": PPO, "sb3-sac": SAC, "sb3-trpo": TRPO}

# Of each protocol: agents, seeds, and (steps, steps between evaluations, evaluation episodes) of each task.
PROTOCOLS = {
    "sb3": (
        ("sb3-ppo", "sb3-trpo"),
        (0, 1, 2, 3, 4),
        {"CartPole-v1": (100_000, 5_000, 20), "Pendulum-v1": (100_000, 5_000, 20)},
    ),
    "sb3-mujoco": (
        ("sb3-ppo", "sb3-trpo"),
        (0, 1, 2),
        {
            "HalfCheetah-v5": (200_000, 20_000, 10),
            "Hopper-v5": (200_000, 20_000, 10),
            "InvertedPendulum-v5": (200_000, 20_000, 10),
        },
    ),
    "sb3-sac": (
        ("sb3-sac",),
        (0, 1, 2, 3, 4),
        {"HalfCheetah-v5": (50_000, 5_000, 10), "Pendulum-v1": (20_000, 2_000, 20)},
    ),
}
EVAL_SEED_OFFSET = 10_000

COLUMNS = (
    "agent",
    "env",
    "seed",
    "step",
    "episodes",
    "return_mean",
    "return_std",
    "return_min",
    "return_max",
    "length_mean",
)

REFERENCE = Path(__file__).resolve().parents[2] / "results/reference"


class Table:
    """The CSV file: appends row by row, and knows which cells are finished."""

    def __init__(self, path, grids):
        self.path = path
        self.grids = grids
        self.cells = {}
        if path.exists():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                if reader.fieldnames is not None and tuple(reader.fieldnames) != COLUMNS:
                    sys.exit(f"{path}: unexpected columns {reader.fieldnames}")
                for row in reader:
                    # A row cut short by an interruption has missing fields.
                    if None in row.values():
                        continue
                    key = (row["agent"], row["env"], int(row["seed"]))
                    self.cells.setdefault(key, {})[int(row["step"])] = row
        for key, rows in list(self.cells.items()):
            grid = set(grids.get(key[1], rows))
            if not set(rows) <= grid:
                sys.exit(f"{path}: {key} has steps outside this run's grid; give another --out")
            if set(rows) != grid:
                del self.cells[key]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rewrite()

    def finished(self, key):
        return set(self.cells.get(key, ())) == set(self.grids[key[1]])

    def append(self, row):
        key = (row["agent"], row["env"], row["seed"])
        self.cells.setdefault(key, {})[row["step"]] = row
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)

    def rewrite(self):
        """Writes the whole file in sorted order, replacing it in one move."""
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for _, rows in sorted(self.cells.items()):
                writer.writerows(row for _, row in sorted(rows.items()))
        partial.replace(self.path)


class GridEvaluation(BaseCallback):
    """Measures the greedy policy at each grid point and stops after the last."""

    def __init__(self, env_id, seed, grid, episodes, on_result):
        super().__init__()
        self.grid = grid
        self.episodes = episodes
        self.on_result = on_result
        self.eval_env = gymnasium.make(env_id)
        self.eval_env.action_space.seed(EVAL_SEED_OFFSET + seed)
        self.next_reset_seed = EVAL_SEED_OFFSET + seed

    def _on_training_start(self):
        self._measure()

    def _on_step(self):
        if self.num_timesteps in self.grid:
            self._measure()
        return self.num_timesteps < self.grid[-1]

    def _on_training_end(self):
        self.eval_env.close()

    def _measure(self):
        episodes = [self._episode() for _ in range(self.episodes)]
        returns = np.array([total for total, _ in episodes], dtype=np.float64)
        lengths = np.array([length for _, length in episodes], dtype=np.float64)
        self.on_result(self.num_timesteps, returns, lengths)

    def _episode(self):
        # Only the first reset is seeded; later ones continue its stream.
        observation, _ = self.eval_env.reset(seed=self.next_reset_seed)
        self.next_reset_seed = None
        total, length, done = 0.0, 0, False
        while not done:
            action, _ = self.model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = self.eval_env.step(action)
            total += float(reward)
            length += 1
            done = terminated or truncated
        return total, length


def train_cell(table, episodes, agent, env_id, seed):
    def on_result(step, returns, lengths):
        table.append(
            {
                "agent": agent,
                "env": env_id,
                "seed": seed,
                "step": step,
                "episodes": len(returns),
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std()),
                "return_min": float(returns.min()),
                "return_max": float(returns.max()),
                "length_mean": float(lengths.mean()),
            }
        )

    model = AGENTS[agent]("MlpPolicy", env_id, seed=seed, device="cpu")
    grid = table.grids[env_id]
    model.learn(grid[-1], callback=GridEvaluation(env_id, seed, grid, episodes, on_result))
    model.get_env().close()
    table.rewrite()


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Reference learning curves from Stable-Baselines3 and sb3-contrib."
    )
    parser.add_argument("protocol", choices=sorted(PROTOCOLS))
    parser.add_argument("--agents", nargs="+", choices=sorted(AGENTS))
    parser.add_argument("--envs", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--steps", type=int, help="other than the protocol's")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--any-versions", action="store_true", help="run with other library versions than pinned"
    )
    arguments = parser.parse_args()
    agents, seeds, envs = PROTOCOLS[arguments.protocol]
    unknown = sorted(set(arguments.envs or ()) - set(envs))
    if unknown:
        parser.error(f"{arguments.protocol} has no {unknown[0]}, but {', '.join(envs)}")
    arguments.agents = arguments.agents or agents
    arguments.seeds = arguments.seeds if arguments.seeds is not None else seeds
    arguments.tasks = {env: envs[env] for env in arguments.envs or envs}
    arguments.out = arguments.out or REFERENCE / arguments.protocol / "sb3-eval.csv"
    for env, (steps, every, _) in arguments.tasks.items():
        steps = arguments.steps or steps
        if steps < every or steps % every != 0:
            parser.error(f"--steps must be a positive multiple of {every} on {env}")
    return arguments


def main():
    arguments = parse_arguments()
    for name, pinned in VERSIONS.items():
        # torch may carry a build tag after "+".
        installed = version(name).split("+")[0]
        print(f"{name} {installed}", flush=True)
        if installed != pinned and not arguments.any_versions:
            sys.exit(f"{name} {installed} is installed, {pinned} is pinned; see --any-versions")
    torch.set_num_threads(1)

    grids = {
        env: range(0, (arguments.steps or steps) + 1, every)
        for env, (steps, every, _) in arguments.tasks.items()
    }
    table = Table(arguments.out, grids)
    for agent in sorted(arguments.agents):
        for env_id, (_, _, episodes) in sorted(arguments.tasks.items()):
            for seed in sorted(arguments.seeds):
                key = (agent, env_id, seed)
                if table.finished(key):
                    print(*key, "already finished", flush=True)
                    continue
                start = time.perf_counter()
                train_cell(table, episodes, *key)
                seconds = time.perf_counter() - start
                last = table.cells[key][grids[env_id][-1]]["return_mean"]
                print(*key, f"final return {last:.1f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
