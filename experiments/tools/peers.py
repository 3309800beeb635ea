#!/usr/bin/env python3
"""Training speed of a peer library: one process, one thread, the library's defaults. Prints one JSON line.

Set up once:  python3 -m venv .peers && .peers/bin/pip install stable-baselines3 sb3-contrib
Use:          steadfast bench train --peers .peers/bin/python
or alone:     .peers/bin/python experiments/tools/peers.py sb3 PPO Pendulum-v1
"""

import json
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main():
    _, name, env = sys.argv[1:4]
    import torch

    torch.set_num_threads(1)
    if name == "TRPO":
        from sb3_contrib import TRPO as algorithm
    else:
        from stable_baselines3 import PPO as algorithm
    model = algorithm("MlpPolicy", env, seed=0, verbose=0, device="cpu")
    model.learn(4096)
    steps = 16384
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    seconds = time.perf_counter() - start
    print(json.dumps({"algorithm": name, "env": env, "steps_per_s": round(steps / seconds, 1)}))


main()
