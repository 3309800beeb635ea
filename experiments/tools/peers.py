#!/usr/bin/env python3
"""Training speed of a peer library: one process, one thread, the library's defaults. Prints one JSON line.

Set up once:  python3 -m venv .peers && .peers/bin/pip install stable-baselines3 sb3-contrib sbx-rl "gymnasium[mujoco]"
Use:          steadfast bench train --peers .peers/bin/python
or alone:     .peers/bin/python experiments/tools/peers.py sb3 PPO Pendulum-v1
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


def main():
    library, name, env = sys.argv[1:4]
    cls, arguments = algorithm(library, name)
    # SAC takes a gradient step at every step of the environment, the others two thousand steps at once.
    warm_up, steps = (500, 1500) if name == "SAC" else (4096, 16384)
    model = cls("MlpPolicy", env, seed=0, verbose=0, **arguments)
    model.learn(warm_up)
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    print(json.dumps({"library": library, "algorithm": name, "env": env, "steps_per_s": round(steps / seconds, 1)}))


main()
