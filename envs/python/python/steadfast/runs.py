"""Trainings, trained policies and results."""

from __future__ import annotations

import importlib
import operator
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from . import _steadfast
from ._steadfast import SteadfastError
from .envs import native_name, space, text

KINDS = ("eval", "episodes", "train", "timing")


def train(
    agent: str,
    env: str | Callable[..., gymnasium.Env],
    *,
    steps: int = 100_000,
    seed: int = 0,
    preset: str = "default",
    options: dict[str, Any] | None = None,
    env_kwargs: dict[str, Any] | None = None,
    label: str | None = None,
    out: str | PathLike[str] = "results/train",
    resume: bool = False,
    evaluations: int = 20,
    eval_episodes: int = 20,
    final_episodes: int = 100,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 0,
    checkpoint_every: float = 10.0,
    progress: Callable[[int, int, float | None, float], Any] | None = None,
) -> Run:
    """Trains an agent, as ``steadfast train`` does, and returns its ``Run``.

    Args:
        agent: ``"ppo"``, ``"trpo"``, ``"mdpo"``, ...
        env: One of ours (``"Hopper-v5"``), one of Gymnasium's (``"gymnasium:Hopper-v5"``), or a subclass of
            ``gymnasium.Env``, or a function that makes one. A class or function must be at the top of its module (or
            notebook), so that the run can be resumed and evaluated by its name.
        steps: Environment steps.
        seed: With the other arguments it determines every number of the run.
        preset: Tuned or published options to start from.
        options: Options of the agent by name, such as ``{"gamma": 0.98}``.
        env_kwargs: Options of the environment, or keyword arguments of the class. Values must be such as JSON writes.
        label: Name in rows and figures.
        out: Folder of results; the run goes to ``out/label/env/seed-N``.
        resume: Go on from the checkpoint there, if there is one.
        evaluations, eval_episodes, final_episodes: When and how long the policy is evaluated.
        device: ``"cpu"``.
        threads: Threads that step environment copies; never changes a result.
        workers: Processes that run Gymnasium's environments; 0 runs them in this one.
        checkpoint_every: Seconds between checkpoints.
        progress: Called after every iteration as ``progress(step, steps, return_mean, steps_per_s)``; the run stops with a
            checkpoint when it returns False.

    Raises:
        SteadfastError: For arguments that cannot be, and for an environment that fails (with its traceback).
        KeyboardInterrupt: After Ctrl-C, with a checkpoint; ``resume=True`` goes on.
    """
    with _interruptible() as stop:

        def told(*now: Any) -> bool:
            return not stop.is_set() and not (progress is not None and progress(*now) is False)

        directory, how = _steadfast.train(
            agent,
            _env_name(env),
            preset=preset,
            options=[f"{key}={_toml(value)}" for key, value in (options or {}).items()],
            env_options=[f"{key}={_toml(value)}" for key, value in (env_kwargs or {}).items()],
            label=label,
            seed=seed,
            steps=steps,
            evaluations=evaluations,
            eval_episodes=eval_episodes,
            final_episodes=final_episodes,
            device=device,
            threads=threads,
            workers=workers,
            out=out,
            resume=resume,
            checkpoint_every=checkpoint_every,
            told=told,
        )
        if stop.is_set() and how == "interrupted":
            raise KeyboardInterrupt(f"interrupted; train(..., resume=True) goes on from the checkpoint in {directory}")
    return Run(directory)


def _toml(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return f'"{value}"' if isinstance(value, str) else text(value)


def _env_name(env: str | Callable[..., gymnasium.Env]) -> str:
    """The name by which a run finds its environment again."""
    if isinstance(env, str):
        return native_name(env)
    if isinstance(env, gymnasium.Env) or not callable(env):
        raise SteadfastError("env must be a name, or a class or function that makes an environment, not an environment")
    module, name = getattr(env, "__module__", None), getattr(env, "__qualname__", "")
    try:
        found = operator.attrgetter(name)(importlib.import_module(str(module)))
    except (AttributeError, ImportError):
        found = None
    if found is not env:
        raise SteadfastError(f"{env!r} cannot be found by its name: put it at the top of a module, or of the notebook")
    return f"gymnasium:{module}:{name}"


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turns Ctrl-C into an event, so that a training can stop where its state is whole."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class Run:
    """A run on disk.

    Attributes:
        directory: Its folder.
        status: ``"done"``, ``"diverged"`` or ``"unfinished"``.
        reason: Why it diverged, if it did.
        step: Environment steps taken; None for an unfinished run.
        return_mean: Mean return of the last evaluation.
    """

    def __init__(self, directory: str | PathLike[str]) -> None:
        self.directory = Path(directory)
        result = _steadfast.result(self.directory)
        self.status: str = result[0] if result else "unfinished"
        self.reason: str | None = result[1] if result else None
        self.step: int | None = result[2] if result else None
        self.return_mean: float | None = result[3] if result else None

    def __repr__(self) -> str:
        return f"Run('{self.directory}', status='{self.status}', return_mean={self.return_mean})"

    def results(self, kind: str = "eval", frame: str | None = None) -> Any:
        """Its rows; see ``read_results``."""
        return read_results(self.directory, kind, frame)

    def load(self) -> Policy:
        """Its policy."""
        return Policy(self.directory)


class Policy:
    """The trained policy of a run, with the observation normaliser of its training.

    With several agents, observations are all agents' one after another, and actions are a dictionary by agent.

    Attributes:
        agent, env, seed: Those of the run.
        observation_space, action_space: Of an environment with one agent; ``spaces`` has those of each agent.
    """

    def __init__(self, directory: str | PathLike[str]) -> None:
        self._native = _steadfast.Policy(directory)
        self.agent, self.env, self.seed = self._native.agent_name, self._native.env, self._native.seed
        self.spaces = {name: (space(obs), space(action)) for name, obs, action in self._native.agents()}
        if len(self.spaces) == 1:
            ((self.observation_space, self.action_space),) = self.spaces.values()

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """The most likely action for one observation, or one for each row of a batch, clipped to its space.

        Without ``deterministic``, actions are drawn from the policy, as in training; loading it anew repeats them.

        The arguments and the second result are those of Stable-Baselines3's ``predict``, so that its
        ``evaluate_policy`` takes a policy: the second result is the next ``state``, None for a policy without memory.
        ``action_masks`` holds the flags of all agents' choices, one row an observation.
        """
        length = sum(gymnasium.spaces.flatdim(obs) for obs, _ in self.spaces.values())
        obs = np.asarray(observation, np.float32)
        if obs.ndim == 0 or obs.size == 0 or obs.size % length:
            raise SteadfastError(f"observations of shape {obs.shape}; '{self.env}' has {length} numbers in one")
        one = obs.size == length and (obs.ndim == 1 or obs.shape[0] != 1)
        rows = np.ascontiguousarray(obs.reshape(-1, length))
        if state is not None and episode_start is not None:
            state = np.where(np.reshape(episode_start, (-1, 1)), np.float32(0), state)
        masks = None if action_masks is None else np.asarray(action_masks, np.bool_).reshape(len(rows), -1)
        actions, memory = self._native.act(rows, not deterministic, masks, state)
        state = memory if memory.size else None
        parts, start = [], 0
        for _, action in self.spaces.values():
            size = _numbers(action)
            part, start = actions[:, start : start + size], start + size
            if isinstance(action, gymnasium.spaces.Box):
                part = np.clip(part, action.low, action.high)
            elif isinstance(action, gymnasium.spaces.Discrete):
                part = part[:, 0].astype(np.int64)
            elif isinstance(action, gymnasium.spaces.MultiDiscrete):
                part = part.astype(np.int64)
            parts.append(part[0] if one else part)
        return (parts[0] if len(parts) == 1 else dict(zip(self.spaces, parts))), state


def _numbers(action: gymnasium.Space) -> int:
    """Numbers in an action, a choice being one."""
    if isinstance(action, gymnasium.spaces.Tuple):
        return sum(_numbers(part) for part in action)
    return 1 if isinstance(action, gymnasium.spaces.Discrete) else int(np.prod(action.shape or ()))


def load(run: Run | str | PathLike[str]) -> Policy:
    """The trained policy of a ``Run``, or of the run in that folder."""
    return Policy(run.directory if isinstance(run, Run) else Path(run))


def read_results(directory: str | PathLike[str], kind: str = "eval", frame: str | None = None) -> Any:
    """The rows of all runs below a folder, as a data frame.

    Args:
        directory: Folder of a run, of a sweep, or of several.
        kind: ``"eval"`` (curves), ``"episodes"``, ``"train"`` or ``"timing"``.
        frame: ``"pandas"`` or ``"polars"``; by default whichever is installed, pandas first.
    """
    if kind not in KINDS:
        raise SteadfastError(f"kind must be one of {', '.join(KINDS)}, not '{kind}'")
    directory = Path(directory)
    runs = sorted(path.parent for path in directory.rglob("run.toml"))
    files = [run / f"{kind}.csv" for run in runs if (run / f"{kind}.csv").is_file()]
    # A collected sweep may have been copied without its runs.
    if not files and (directory / f"{kind}.csv").is_file():
        files = [directory / f"{kind}.csv"]
    files = [file for file in files if file.stat().st_size > 0]
    if not files:
        raise SteadfastError(f"there is no {kind}.csv of a run in {directory}")
    library = _frames(frame)
    frames = [library.read_csv(file) for file in files]
    if library.__name__ == "pandas":
        return library.concat(frames, ignore_index=True)
    return library.concat(frames, how="vertical_relaxed")


def _frames(name: str | None) -> Any:
    if name not in (None, "pandas", "polars"):
        raise SteadfastError(f"frame must be 'pandas' or 'polars', not '{name}'")
    for library in ("pandas", "polars") if name is None else (name,):
        try:
            return importlib.import_module(library)
        except ModuleNotFoundError:
            pass
    raise SteadfastError(f"{name or 'neither pandas nor polars'} is{' not' if name else ''} installed: pip install pandas")
