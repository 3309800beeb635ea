"""Our environments for Gymnasium: one, or many stepped together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ._steadfast import NativeEnv, NativeVectorEnv, SteadfastError, registry

NAMESPACE = "steadfast/"


def env_ids() -> list[str]:
    """Names of all environments, as in ``steadfast list envs``."""
    return [name for name, _ in registry()]


def gymnasium_id(name: str) -> str:
    """``steadfast/probe-bandit`` of ``probe/bandit``: a Gymnasium id has one slash."""
    return NAMESPACE + name.replace("/", "-")


@cache
def _names() -> dict[str, str]:
    return {gymnasium_id(name): name for name in env_ids()}


def native_name(env_id: str) -> str:
    """The name in our registry of an id of ours in Gymnasium's."""
    return _names().get(env_id, env_id.removeprefix(NAMESPACE))


@cache
def _spec(name: str) -> dict[str, Any]:
    return NativeEnv(name, {}).spec()


def register() -> None:
    """Registers every single-agent environment with Gymnasium; done on import, harmless to repeat."""
    for name in env_ids():
        env_id, spec = gymnasium_id(name), _spec(name)
        if len(spec["agents"]) == 1 and env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point="steadfast.envs:Env",
                vector_entry_point="steadfast.envs:VectorEnv",
                kwargs={"env_id": env_id},
                max_episode_steps=spec["max_steps"],
                reward_threshold=spec["reward_threshold"],
            )


def text(value: Any) -> str:
    """A keyword argument as ``--env-set`` takes it: ``true``, ``[0.2, inf]``, ``5``."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (tuple, list, np.ndarray)):
        return "[" + ", ".join(text(x) for x in value) + "]"
    return str(value)


def texts(options: dict[str, Any]) -> dict[str, str]:
    """Keyword arguments by name, as texts."""
    return {key: text(value) for key, value in options.items()}


def space(described: tuple[Any, ...]) -> spaces.Space:
    """A Gymnasium space of (kind, numbers)."""
    kind, *numbers = described
    if kind == "Box":
        low, high = (np.asarray(x, np.float32) for x in numbers)
        return spaces.Box(low, high, dtype=np.float32)
    if kind == "Discrete":
        return spaces.Discrete(numbers[0])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(numbers[0])
    return spaces.Tuple([space(part) for part in numbers[0]])


def flat(action: Any) -> NDArray[np.float64]:
    """An action as one vector of float64, whatever its space."""
    if isinstance(action, tuple):
        return np.concatenate([flat(part) for part in action])
    return np.asarray(action, np.float64).reshape(-1)


def _metadata(spec: dict[str, Any]) -> dict[str, Any]:
    drawn = spec["dt"] is not None
    return {"render_modes": ["rgb_array"] if drawn else [], "render_fps": round(1 / spec["dt"]) if drawn else 1}


def _check_render_mode(render_mode: str | None, metadata: dict[str, Any], env_id: str) -> None:
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        raise SteadfastError(f"{env_id} has the render modes {metadata['render_modes']}, not '{render_mode}'")


class Env(gymnasium.Env):
    """One of our environments with one agent.

    ``gymnasium.make("steadfast/ID", **options)`` makes it, with the registered time limit around it. ``options`` are
    those of ``steadfast list envs ID``. A seed determines everything: ``reset(seed=s)`` starts the stream that copy i of
    a ``VectorEnv`` with seed s - i draws from.
    """

    # gymnasium.make asks the class; each environment knows its own.
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, env_id: str, render_mode: str | None = None, **options: Any) -> None:
        self._native = NativeEnv(native_name(env_id), texts(options))
        spec = self._native.spec()
        if len(spec["agents"]) > 1:
            raise SteadfastError(f"{spec['id']} has several agents: use steadfast.parallel_env('{spec['id']}')")
        ((_, obs, action),) = spec["agents"]
        self.observation_space, self.action_space = space(obs), space(action)
        self.metadata = _metadata(spec)
        _check_render_mode(render_mode, self.metadata, env_id)
        self.render_mode = render_mode
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode. Without any seed so far, one is drawn from the system."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**63))
        if seed is not None:
            self._native.seed(seed)
            self._seeded = True
        return self._native.reset(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Observation, reward, terminated, truncated (never: time limits are wrapped around) and an empty info."""
        obs, (reward,), terminated = self._native.step(flat(action))
        return obs, reward, terminated, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        """The present state as pixels ``[height, width, 3]``, with ``render_mode="rgb_array"``."""
        if self.render_mode is None:
            gymnasium.logger.warn('no render_mode was given: make it with render_mode="rgb_array"')
            return None
        return self._native.render()

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that the next steps depend on, as arrays by name (time limits of wrappers excepted)."""
        return self._native.get_state()

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from a state of ``get_state``, or from one put together by hand: float64 arrays such as
        ``{"qpos": ..., "qvel": ...}``; without ``"rng"`` the stream stays as it is."""
        self._native.set_state(state)


class VectorEnv(gymnasium.vector.VectorEnv):
    """Copies of one environment, stepped by compiled code while other Python threads run.

    Args:
        env_id: Name, with or without ``steadfast/``.
        num_envs: Number of copies.
        autoreset_mode: ``AutoresetMode`` or its value: ``NextStep`` (Gymnasium's default), ``SameStep`` or ``Disabled``.
        threads: Threads that step the copies; never changes a result.
        copy: Whether steps return copies. Without, they return views of the same arrays, which the next step writes anew.
        max_episode_steps: Time limit, in the place of the registered one; None for none.
        render_mode: None or ``"rgb_array"``.
        options: Those of ``steadfast list envs ID``.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 1,
        copy: bool = True,
        max_episode_steps: int | None | Literal["registered"] = "registered",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        name = native_name(env_id)
        spec = NativeEnv(name, texts(options)).spec()
        if num_envs < 1:
            raise SteadfastError(f"num_envs must be at least 1, got {num_envs}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        limit: int | None = spec["max_steps"] if max_episode_steps == "registered" else max_episode_steps
        self._native = NativeVectorEnv(name, texts(options), num_envs, threads, self.autoreset_mode.value, limit)
        _, obs, action = spec["agents"][0]
        self.num_envs, self.copy = num_envs, copy
        self.single_observation_space, self.single_action_space = space(obs), space(action)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = _metadata(spec) | {"autoreset_mode": self.autoreset_mode}
        _check_render_mode(render_mode, self.metadata, env_id)
        self.render_mode = render_mode
        self._obs, self._final_obs, self._rewards, self._terminated, self._truncated = self._native.views()
        self._tuples = isinstance(self.single_action_space, spaces.Tuple)
        self._seeded = False

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts new episodes: in all copies, or where ``options["reset_mask"]`` is true.

        An integer seed gives copy i the seed ``seed + i``, a list each its own.
        """
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**62))
        elif isinstance(seed, (int, np.integer)):
            # As in Env: the generator that others may draw from follows the seed.
            self._np_random, self._np_random_seed = gymnasium.utils.seeding.np_random(int(seed))
        self._seeded = True
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None if s is None else int(s) for s in seed]
        mask = None if options is None else options.get("reset_mask")
        if mask is not None:
            mask = np.ascontiguousarray(mask)
            if mask.dtype != np.bool_ or not mask.any():
                raise SteadfastError("options['reset_mask'] must be an array of booleans, one of them true")
        self._native.reset(seeds, mask)
        return self._given(self._obs), {}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Observations, rewards (float64), terminated, truncated, and infos.

        In mode ``SameStep`` the infos of a step in which episodes ended hold their last observations, as Gymnasium's own
        vector environments give them: ``final_obs``, ``final_info``, and masks ``_final_obs`` and ``_final_info``.
        """
        if self._tuples:
            actions = np.concatenate([np.reshape(part, (self.num_envs, -1)) for part in actions], axis=1)
        actions = np.asarray(actions, np.float32).reshape(self.num_envs, -1)
        self._native.step(np.ascontiguousarray(actions))
        infos = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            ended = self._terminated | self._truncated
            if ended.any():
                final = np.full(self.num_envs, None, object)
                for i in np.flatnonzero(ended):
                    final[i] = self._final_obs[i].copy()
                infos = {"final_obs": final, "_final_obs": ended, "final_info": {}, "_final_info": ended.copy()}
        given = self._given
        return given(self._obs), given(self._rewards), given(self._terminated), given(self._truncated), infos

    def _given(self, view: NDArray[Any]) -> NDArray[Any]:
        return view.copy() if self.copy else view

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Every copy as pixels ``[height, width, 3]``."""
        if self.render_mode is None:
            return None
        return tuple(self._native.render(i) for i in range(self.num_envs))

    def get_state(self) -> dict[str, NDArray[Any]]:
        """All copies with their streams and running episodes, as arrays by name."""
        return self._native.get_state()

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on exactly from a state of ``get_state`` of as many copies."""
        self._native.set_state(state)
