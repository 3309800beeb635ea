"""Trainings, policies, results; what goes wrong in them."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import steadfast

SMALL = dict(options={"horizon": 64, "num_envs": 2, "hidden": [16]}, evaluations=2, eval_episodes=2, final_episodes=2)


class Nearer(gymnasium.Env):
    """Come near to zero."""

    observation_space = gymnasium.spaces.Box(-4, 4, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, speed=0.3):
        self.speed = speed

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-2, 2), 0
        return np.array([self.x], np.float32), {}

    def step(self, action):
        self.t += 1
        self.x = float(np.clip(self.x + self.speed * action[0], -4, 4))
        return np.array([self.x], np.float32), -abs(self.x), False, self.t >= 20, {}


class Breaks(Nearer):
    def step(self, action):
        if self.t == 15:
            raise ZeroDivisionError("no more")
        return super().step(action)


class Undefined(Nearer):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return (obs, float("nan"), *rest)


def test_train_load_read(tmp_path):
    run = steadfast.train("ppo", "CartPole-v1", steps=1024, out=tmp_path, **SMALL)
    assert run.status == "done" and run.step == 1024 and Path(run.directory, "result.json").exists()
    policy = steadfast.load(run)
    env = gymnasium.make("steadfast/CartPole-v1")
    obs, _ = env.reset(seed=0)
    action, state = policy.predict(obs, deterministic=True)
    assert action in env.action_space and state is None
    batch, _ = policy.predict(np.stack([obs] * 5))
    assert batch.shape == (5,) and (batch == action).all()
    for library in ("pandas", "polars"):
        frame = steadfast.read_results(tmp_path, frame=library)
        assert len(frame) == 3 and list(frame["step"]) == [0, 512, 1024]
        assert frame["return_mean"][2] == pytest.approx(run.return_mean)
    assert len(run.results("train")) == 8
    drawn, again = (steadfast.load(run).predict(np.stack([obs] * 100), deterministic=False)[0] for _ in range(2))
    assert set(drawn) == {0, 1} and (drawn == again).all()
    with pytest.raises(steadfast.SteadfastError, match="4 numbers"):
        policy.predict(np.zeros(3))
    assert "already" not in repr(steadfast.train("ppo", "CartPole-v1", steps=1024, out=tmp_path, **SMALL))


def test_the_binary_and_python_write_the_same(tmp_path):
    binary = os.environ.get("STEADFAST_BINARY")
    if not binary:
        pytest.skip("STEADFAST_BINARY names no binary")
    steadfast.train("mdpo", "Pendulum-v1", steps=1024, out=tmp_path / "a", **SMALL)
    given = [f"--set={key}={value}" for key, value in SMALL["options"].items()]
    counts = ["--evaluations=2", "--eval-episodes=2", "--final-episodes=2", "--steps=1024", f"--out={tmp_path / 'b'}"]
    subprocess.run([binary, "train", "--agent=mdpo", "--env=Pendulum-v1", "-q", *given, *counts], check=True)
    for name in ("eval.csv", "episodes.csv", "train.csv"):
        a, b = (tmp_path / side / "mdpo/Pendulum-v1/seed-0" / name for side in "ab")
        assert a.read_bytes() == b.read_bytes(), name


def test_parquet_holds_what_the_csv_holds(tmp_path):
    binary = os.environ.get("STEADFAST_BINARY")
    if not binary:
        pytest.skip("STEADFAST_BINARY names no binary")
    polars = pytest.importorskip("polars")
    run = steadfast.train("ppo", "CartPole-v1", steps=1024, out=tmp_path, **SMALL)
    subprocess.run([binary, "export", "parquet", run.directory, f"--out={tmp_path / 'parquet'}"], check=True)
    for name in ("episodes", "eval", "train", "timing"):
        table = polars.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
        text = polars.read_csv(Path(run.directory, f"{name}.csv"), schema=table.schema)
        assert table.height > 0 and table.equals(text), name
        assert table.schema["step"] == polars.Int64 and table.schema["env"] == polars.String


def test_a_class_of_the_user_is_learned(tmp_path):
    run = steadfast.train(
        "ppo", Nearer, steps=16_384, seed=1, options={"horizon": 256, "num_envs": 4}, env_kwargs={"speed": 0.5}, out=tmp_path
    )
    curve = run.results()["return_mean"]
    assert curve.iloc[-1] > -6 > curve.iloc[0], list(curve)
    env, total = Nearer(0.5), 0.0
    obs, _ = env.reset(seed=3)
    for _ in range(20):
        obs, reward, *_ = env.step(run.load().predict(obs)[0])
        total += reward
    assert total > -12


@pytest.mark.parametrize("workers", [0, 1])
def test_gymnasiums_pendulum_trains_and_repeats(tmp_path, workers):
    runs = [
        steadfast.train("ppo", "gymnasium:Pendulum-v1", steps=1024, out=tmp_path / side, workers=workers, **SMALL)
        for side in "ab"
    ]
    files = [Path(run.directory, "episodes.csv").read_bytes() for run in runs]
    assert files[0] == files[1]


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    """The environments' running episodes are played again."""
    steadfast.train("ppo", Nearer, steps=2048, out=tmp_path / "whole", **SMALL)
    stopped = steadfast.train(
        "ppo", Nearer, steps=2048, out=tmp_path / "stopped", progress=lambda step, *_: step < 640, **SMALL
    )
    assert stopped.status == "unfinished"
    with pytest.raises(steadfast.SteadfastError, match="unfinished"):
        steadfast.train("ppo", Nearer, steps=2048, out=tmp_path / "stopped", **SMALL)
    done = steadfast.train("ppo", Nearer, steps=2048, out=tmp_path / "stopped", resume=True, **SMALL)
    assert done.status == "done"
    whole = next((tmp_path / "whole").rglob("run.toml")).parent
    for name in ("eval.csv", "episodes.csv", "train.csv"):
        assert (whole / name).read_bytes() == (done.directory / name).read_bytes(), name


def test_an_exception_arrives_with_its_traceback(tmp_path):
    with pytest.raises(steadfast.SteadfastError, match="ZeroDivisionError: no more(.|\n)*in step"):
        steadfast.train("ppo", Breaks, steps=1024, out=tmp_path, **SMALL)


def test_a_reward_that_is_no_number_is_a_diverged_run(tmp_path):
    run = steadfast.train("ppo", Undefined, steps=1024, out=tmp_path, **SMALL)
    assert run.status == "diverged" and "reward" in run.reason


def test_a_listener_that_raises_stops_the_run_with_a_checkpoint(tmp_path):
    def listen(*_):
        raise LookupError("heard enough")

    with pytest.raises(LookupError, match="heard enough"):
        steadfast.train("ppo", "Pendulum-v1", steps=1024, out=tmp_path, progress=listen, **SMALL)
    assert steadfast.train("ppo", "Pendulum-v1", steps=1024, out=tmp_path, resume=True, **SMALL).status == "done"


def test_bad_arguments_are_named(tmp_path):
    def local():
        return Nearer()

    for call, match in [
        (lambda: steadfast.train("pppo", "Pendulum-v1", out=tmp_path), "did you mean 'ppo'"),
        (lambda: steadfast.train("ppo", "Pendulun-v1", out=tmp_path), "did you mean 'Pendulum-v1'"),
        (lambda: steadfast.train("ppo", "Pendulum-v1", options={"gama": 1}, out=tmp_path), "did you mean 'gamma'"),
        (lambda: steadfast.train("ppo", local, out=tmp_path), "top of a module"),
        (lambda: steadfast.train("ppo", Nearer(), out=tmp_path), "not an environment"),
        (lambda: steadfast.train("ppo", "gymnasium:Nothing-v0", out=tmp_path), "Nothing"),
        (lambda: steadfast.load(tmp_path), "run.toml"),
        (lambda: steadfast.read_results(tmp_path), "no eval.csv"),
        (lambda: steadfast.read_results(tmp_path, "evaluation"), "kind must be"),
    ]:
        with pytest.raises(steadfast.SteadfastError, match=match):
            call()


def python(code, **kwargs):
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def test_ctrl_c_leaves_a_checkpoint(tmp_path):
    child = python(f"""
        import steadfast
        told = lambda step, *_: print(step, flush=True)
        steadfast.train("ppo", "gymnasium:Pendulum-v1", steps=50_000_000, out={str(tmp_path)!r}, evaluations=1,
                        options={{"horizon": 128}}, eval_episodes=1, progress=told)
    """)
    while int(child.stdout.readline()) < 1000:
        pass
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode != 0 and "KeyboardInterrupt: interrupted; train(..., resume=True)" in errors, errors
    run = next(tmp_path.rglob("run.toml")).parent
    assert steadfast.load(run).predict(np.zeros(3))[0].shape == (1,)
    assert steadfast.Run(run).status == "unfinished"


def test_fork_is_refused_and_fresh_objects_work():
    child = python("""
        import os, sys, gymnasium, numpy as np, steadfast
        env, envs = gymnasium.make("steadfast/Pendulum-v1"), steadfast.VectorEnv("Pendulum-v1", 4, threads=2)
        env.reset(seed=0), envs.reset(seed=0)
        envs.step(np.zeros((4, 1), np.float32))
        if os.fork() == 0:
            for call in (env.reset, envs.reset, lambda: steadfast.train("ppo", "Pendulum-v1")):
                try:
                    call()
                except steadfast.SteadfastError as e:
                    assert "from before the process forked" in str(e)
                else:
                    os._exit(3)
            fresh = steadfast.VectorEnv("Pendulum-v1", 4, threads=2)
            fresh.reset(seed=0)
            fresh.step(np.zeros((4, 1), np.float32))
            os._exit(0)
        _, status = os.wait()
        envs.step(np.zeros((4, 1), np.float32))
        sys.exit(os.waitstatus_to_exitcode(status))
    """)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors


def test_threads():
    """Each thread its own environments; one environment in two threads at once is refused, never corrupted."""
    results = {}

    def work(i):
        envs = steadfast.VectorEnv("Pendulum-v1", 16)
        envs.reset(seed=1)
        results[i] = np.stack([envs.step(np.ones((16, 1), np.float32))[0] for _ in range(300)])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all((results[0] == results[i]).all() for i in range(4))

    shared = steadfast.VectorEnv("Humanoid-v5", 64)
    shared.reset(seed=0)
    errors = []

    def share():
        for _ in range(5):
            try:
                shared.step(np.zeros((64, 17), np.float32))
            except RuntimeError as e:
                errors.append(str(e))

    threads = [threading.Thread(target=share) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all("borrowed" in e for e in errors)
    assert np.isfinite(shared.step(np.zeros((64, 17), np.float32))[0]).all()


def test_a_training_in_a_thread(tmp_path):
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(steadfast.train("ppo", Nearer, steps=512, out=tmp_path, **SMALL))
    )
    thread.start()
    thread.join()
    assert runs[0].status == "done"


def test_nothing_leaks(tmp_path):
    """Resident memory of a fresh process stays where it is over 1 000 makes and closes of each kind."""
    child = python("""
        import gc, gymnasium, numpy as np, steadfast

        def megabytes():
            gc.collect()
            with open("/proc/self/statm") as f:
                return int(f.read().split()[1]) * 4096 / 1e6

        def cycle(times):
            for _ in range(times):
                env = gymnasium.make("steadfast/Hopper-v5")
                env.reset(seed=0)
                env.step(env.action_space.sample())
                env.close()
                envs = gymnasium.make_vec("steadfast/Hopper-v5", num_envs=16)
                envs.reset(seed=0)
                envs.step(envs.action_space.sample())
                envs.close()

        cycle(200)
        before = megabytes()
        cycle(1000)
        print(megabytes() - before)
    """)
    out, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    assert float(out) < 4, out
