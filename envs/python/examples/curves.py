"""PPO against MDPO on Pendulum: five seeds each, curves with the spread of the seeds."""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import steadfast

steps, seeds, out = 200_000, range(5), sys.argv[1] if len(sys.argv) > 1 else "results/curves"

for agent in ("ppo", "mdpo"):
    for seed in seeds:
        run = steadfast.train(agent, "Pendulum-v1", steps=steps, seed=seed, out=out, resume=True, final_episodes=20)
        print(run)

curves = steadfast.read_results(out, frame="pandas")
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for agent, rows in curves.groupby("agent"):
    by_step = rows.groupby("step")["return_mean"]
    axes.plot(by_step.median(), label=agent)
    axes.fill_between(by_step.min().index, by_step.min(), by_step.max(), alpha=0.2)
axes.set(xlabel="environment steps", ylabel="return of 20 greedy episodes", title="Pendulum-v1, median and range of 5 seeds")
axes.legend()
figure.savefig(f"{out}/curves.png", dpi=150)
print(f"{out}/curves.png")
