#!/usr/bin/env python3
"""Speed of a peer library, trainings or bare environments: one process, one thread. Prints one JSON line.

Set up once:  python3 -m venv .peers && .peers/bin/pip install stable-baselines3 sb3-contrib sbx-rl "gymnasium[mujoco]"
Use:          steadfast bench all --peers .peers/bin/python
or alone:     .peers/bin/python experiments/tools/peers.py sb3 PPO Pendulum-v1
              .peers/bin/python experiments/tools/peers.py gymnasium step Hopper-v5
              .peers/bin/python experiments/tools/peers.py mujoco mj_step Hopper-v5
"""

import json
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")


def algorithm(library, name):
    """The class, and arguments that keep it on one CPU thread."""
    if library == "sbx":
        import sbx

        return getattr(sbx, name), {}
    import torch

    torch.set_num_threads(1)
    if name == "TRPO":
        from sb3_contrib import TRPO

        return TRPO, {"device": "cpu"}
    import stable_baselines3

    return getattr(stable_baselines3, name), {"device": "cpu"}


def training(library, name, env):
    """Environment steps per second of a whole training with the library's defaults."""
    cls, arguments = algorithm(library, name)
    # SAC takes a gradient step at every step of the environment, the others two thousand steps at once.
    warm_up, steps = (500, 1500) if name == "SAC" else (4096, 16384)
    model = cls("MlpPolicy", env, seed=0, verbose=0, **arguments)
    model.learn(warm_up)
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    return steps / (time.perf_counter() - start)


def stepping(library, env):
    """Environment steps per second under random actions in episodes of 50 steps: the best of five blocks.

    `gymnasium`: reset and step of the bare task, without wrappers; `mujoco`: the C library's mj_step alone.
    """
    import warnings

    import gymnasium
    import numpy as np

    warnings.simplefilter("ignore")
    task = gymnasium.make(env).unwrapped
    space = task.action_space
    space.seed(0)
    actions = [space.sample() for _ in range(1000)]
    if library == "mujoco":
        import mujoco

        actions = np.array(actions, dtype=np.float64)

    def raw(chosen):
        task.reset()
        start = time.perf_counter()
        for action in chosen:
            task.data.ctrl[:] = action
            mujoco.mj_step(task.model, task.data, nstep=task.frame_skip)
        return time.perf_counter() - start

    def whole(chosen):
        start = time.perf_counter()
        task.reset()
        for action in chosen:
            if task.step(action)[2]:
                task.reset()
        return time.perf_counter() - start

    episode = raw if library == "mujoco" else whole
    task.reset(seed=0)

    def block():
        seconds, episodes = 0.0, 0
        while seconds < 0.2:
            first = episodes * 50 % 1000
            seconds += episode(actions[first : first + 50])
            episodes += 1
        return episodes * 50 / seconds

    block()
    return max(block() for _ in range(5))


def main():
    library, name, env = sys.argv[1:4]
    bare = library in ("gymnasium", "mujoco")
    rate = stepping(library, env) if bare else training(library, name, env)
    print(json.dumps({"library": library, "algorithm": name, "env": env, "steps_per_s": round(rate, 1)}))


main()
