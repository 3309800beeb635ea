"""Ratios of speed, both sides in turn within the same minute: `python speed.py [BINARY]`.

Our vector environment against Gymnasium's SyncVectorEnv, 64 copies, random actions; and, with a binary that has the feature
`gymnasium`, its training loop over a Gymnasium environment (agent `random`) against a bare Python loop.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import gymnasium
import numpy as np

import steadfast  # noqa: F401

warnings.filterwarnings("ignore")
ROUNDS = 5


def seconds(work):
    """Of the processor, not of the clock: other processes must not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def vector(env_id, copies=64):
    sides = {
        "ours": (gymnasium.make_vec(f"steadfast/{env_id}", num_envs=copies), 2000),
        "SyncVectorEnv": (gymnasium.make_vec(env_id, num_envs=copies, vectorization_mode="sync"), 40),
    }
    best = dict.fromkeys(sides, np.inf)
    for _ in range(ROUNDS):
        for name, (envs, steps) in sides.items():
            envs.action_space.seed(0)
            envs.reset(seed=0)
            actions = [envs.action_space.sample() for _ in range(16)]
            taken = seconds(lambda: [envs.step(actions[t % 16]) for t in range(steps)])
            best[name] = min(best[name], taken / (steps * copies))
    ours, theirs = best["ours"], best["SyncVectorEnv"]
    print(f"{env_id}, {copies} copies: {1e6 * ours:.3f} us a step, SyncVectorEnv {1e6 * theirs:.3f} us: {theirs / ours:.1f}x")


def bare(env_id, steps):
    """Microseconds a step of a loop that does nothing but step and reset."""
    env = gymnasium.make(env_id)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    env.reset(seed=0)

    def loop():
        for t in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[t % 64])
            if terminated or truncated:
                env.reset()

    return 1e6 * seconds(loop) / steps


def driven(binary, env_id, steps):
    """Microseconds a step of `train --agent random`: by how much twice the steps take longer."""

    def train(steps):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.TemporaryDirectory() as out:
            command = [binary, "train", "--agent", "random", "--env", f"gymnasium:{env_id}", "--steps", str(steps)]
            counts = ["--evaluations", "1", "--eval-episodes", "1", "--final-episodes", "1", "--out", out, "--quiet"]
            subprocess.run(command + counts, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return 1e6 * (train(2 * steps) - train(steps)) / steps


if __name__ == "__main__":
    for env_id in ("Pendulum-v1", "HalfCheetah-v5"):
        vector(env_id)
    for binary in sys.argv[1:]:
        for env_id, steps in (("Pendulum-v1", 100_000), ("HalfCheetah-v5", 20_000)):
            pairs = [(driven(binary, env_id, steps), bare(env_id, steps)) for _ in range(ROUNDS)]
            ours, theirs = (statistics.median(side) for side in zip(*pairs))
            print(f"{env_id} driven: {ours:.2f} us a step, a bare Python loop {theirs:.2f} us: {ours / theirs:.2f}x of it")
