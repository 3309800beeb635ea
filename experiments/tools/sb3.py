#!/usr/bin/env python3
"""Reference learning curves from Stable-Baselines3 PPO and sb3-contrib TRPO.

What it does
------------
Trains PPO (`stable_baselines3`) and TRPO (`sb3_contrib`) with exactly the
defaults of those libraries ("MlpPolicy", one environment, no wrappers beyond
the libraries' own, no normalisation) on CartPole-v1 and Pendulum-v1 for
100 000 environment steps, seeds 0 to 4, on the CPU with one torch thread.

At 0, 5 000, 10 000, ..., 100 000 environment steps the greedy policy
(`deterministic=True`) plays 20 episodes on a separate environment. The policy
measured is the one in force at that step: the evaluation runs inside a
callback, straight after the training step that reaches the grid point and
before any later update. Grid points do not coincide with the ends of rollouts
(2 048 steps), so the policy at step 5 000, for instance, is the one updated at
step 4 096. Step 0 is the untrained policy. Training stops at 100 000 steps,
inside a rollout, since no later update could reach a grid point.

Evaluation does not touch the training: it has an environment of its own and
the greedy policy draws no random numbers. That environment is seeded once per
cell with 10 000 + seed, so every evaluation has fresh starting states and the
whole cell is repeatable. Returns are undiscounted sums of the environment's
own rewards, over episodes cut by its own time limit (CartPole-v1 500 steps,
Pendulum-v1 200 steps).

Output
------
results/reference/sb3/sb3-eval.csv, sorted by agent, env, seed, step:

    agent        sb3-ppo or sb3-trpo
    env          CartPole-v1 or Pendulum-v1
    seed         seed given to the agent (torch, NumPy, environment)
    step         environment steps taken when the policy was measured
    episodes     evaluation episodes (20)
    return_mean, return_std, return_min, return_max
                 over those episodes; the standard deviation is the population
                 one (divides by the number of episodes)
    length_mean  mean episode length in steps

Every row is written as soon as it is known. A second run keeps each finished
(agent, env, seed) cell, drops the rows of an unfinished one and trains that
cell again from the start.

Versions
--------
Python 3.11.7, and from PyPI:

    stable-baselines3  2.9.2
    sb3-contrib        2.9.2
    gymnasium          1.4.0
    torch              2.15.0
    numpy              2.4.6

The script stops if the installed versions differ, unless told
`--any-versions`.

Set-up, from the root of the repository
---------------------------------------
    python3 -m venv .venv
    .venv/bin/pip install stable-baselines3==2.9.2 sb3-contrib==2.9.2 \\
        gymnasium==1.4.0 torch==2.15.0 numpy==2.4.6

Run
---
    OMP_NUM_THREADS=1 .venv/bin/python experiments/tools/sb3.py

    # one part of it
    .venv/bin/python experiments/tools/sb3.py --agents sb3-ppo --envs Pendulum-v1 --seeds 0 1

    # a quick trial, to another file
    .venv/bin/python experiments/tools/sb3.py --steps 5000 --seeds 0 --out trial.csv
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
from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402

VERSIONS = {
    "stable-baselines3": "2.9.2",
    "sb3-contrib": "2.9.2",
    "gymnasium": "1.4.0",
    "torch": "2.15.0",
    "numpy": "2.4.6",
}

AGENTS = {"sb3-ppo": PPO, "sb3-trpo": TRPO}
ENVS = ("CartPole-v1", "Pendulum-v1")
SEEDS = (0, 1, 2, 3, 4)

TOTAL_STEPS = 100_000
EVAL_EVERY = 5_000
EVAL_EPISODES = 20
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

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "results/reference/sb3/sb3-eval.csv"


class Table:
    """The CSV file: appends row by row, and knows which cells are finished."""

    def __init__(self, path, grid):
        self.path = path
        self.grid = grid
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
            if not set(rows) <= set(grid):
                sys.exit(f"{path}: {key} has steps outside this run's grid; give another --out")
            if set(rows) != set(grid):
                del self.cells[key]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rewrite()

    def finished(self, key):
        return set(self.cells.get(key, ())) == set(self.grid)

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

    def __init__(self, env_id, seed, grid, on_result):
        super().__init__()
        self.grid = grid
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
        episodes = [self._episode() for _ in range(EVAL_EPISODES)]
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


def train_cell(table, agent, env_id, seed):
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
    model.learn(table.grid[-1], callback=GridEvaluation(env_id, seed, table.grid, on_result))
    model.get_env().close()
    table.rewrite()


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Reference learning curves from Stable-Baselines3 PPO and sb3-contrib TRPO."
    )
    parser.add_argument("--agents", nargs="+", choices=sorted(AGENTS), default=sorted(AGENTS))
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=list(ENVS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=TOTAL_STEPS, help="a multiple of 5000")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument(
        "--any-versions", action="store_true", help="run with other library versions than pinned"
    )
    arguments = parser.parse_args()
    if arguments.steps < EVAL_EVERY or arguments.steps % EVAL_EVERY != 0:
        parser.error(f"--steps must be a positive multiple of {EVAL_EVERY}")
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

    grid = range(0, arguments.steps + 1, EVAL_EVERY)
    table = Table(arguments.out, grid)
    for agent in sorted(arguments.agents):
        for env_id in sorted(arguments.envs):
            for seed in sorted(arguments.seeds):
                key = (agent, env_id, seed)
                if table.finished(key):
                    print(*key, "already finished", flush=True)
                    continue
                start = time.perf_counter()
                train_cell(table, *key)
                seconds = time.perf_counter() - start
                last = table.cells[key][grid[-1]]["return_mean"]
                print(*key, f"final return {last:.1f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
