"""Our environments for PettingZoo: every agent acts at every step."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from gymnasium import Space
from gymnasium.spaces import flatdim
from numpy.typing import NDArray
from pettingzoo import ParallelEnv as _ParallelEnv  # type: ignore[import-untyped]

from ._steadfast import NativeEnv
from .envs import _check_render_mode, _metadata, flat, native_name, space, texts


class ParallelEnv(_ParallelEnv):
    """An environment with any number of agents.

    Args:
        env_id: Name, with or without ``steadfast/``.
        render_mode: None or ``"rgb_array"``.
        max_steps: Time limit, in the place of the registered one; None for none.
        options: Those of ``steadfast list envs ID``.

    All agents live until the episode ends; then ``agents`` is empty. Where a task forbids choices, the infos hold each
    agent's ``action_mask``.
    """

    def __init__(
        self,
        env_id: str,
        *,
        render_mode: str | None = None,
        max_steps: int | None | Literal["registered"] = "registered",
        **options: Any,
    ) -> None:
        self._native = NativeEnv(native_name(env_id), texts(options))
        spec = self._native.spec()
        self.max_steps: int | None = spec["max_steps"] if max_steps == "registered" else max_steps
        self.possible_agents: list[str] = [name for name, _, _ in spec["agents"]]
        self.observation_spaces = {name: space(obs) for name, obs, _ in spec["agents"]}
        self.action_spaces = {name: space(action) for name, _, action in spec["agents"]}
        self.agents: list[str] = []
        self.metadata = {"name": spec["id"].replace("/", "-"), **_metadata(spec)}
        _check_render_mode(render_mode, self.metadata, env_id)
        self.render_mode = render_mode
        lengths = [flatdim(self.observation_spaces[name]) for name in self.possible_agents]
        self._ends = np.cumsum(lengths)[:-1]
        self._seeded, self._steps = False, 0

    def observation_space(self, agent: str) -> Space:
        """What the agent sees."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Space:
        """What the agent does."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
        """Starts an episode of all agents: observations and empty infos by agent."""
        if seed is None and not self._seeded:
            seed = int(np.random.default_rng().integers(2**63))
        if seed is not None:
            self._native.seed(seed)
            self._seeded = True
        self.agents, self._steps = list(self.possible_agents), 0
        return self._by_agent(self._native.reset()), self._infos()

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, NDArray[np.float32]], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
    ]:
        """Takes an action of every agent; observations, rewards, terminated, truncated and infos by agent."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        joint = np.concatenate([flat(actions[agent]) for agent in self.agents])
        obs, rewards, terminated = self._native.step(joint)
        self._steps += 1
        truncated = not terminated and self.max_steps is not None and self._steps >= self.max_steps
        agents = self.agents
        if terminated or truncated:
            self.agents = []
        return (
            self._by_agent(obs),
            dict(zip(agents, rewards)),
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            self._infos(),
        )

    def _by_agent(self, obs: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(self.possible_agents, np.split(obs, self._ends)))

    def _infos(self) -> dict[str, dict[str, Any]]:
        masks = self._native.masks()
        if masks is None:
            return {agent: {} for agent in self.possible_agents}
        return {agent: {"action_mask": mask} for agent, mask in zip(self.possible_agents, masks)}

    def state(self) -> NDArray[np.float32]:
        """The whole state, for a central critic; all agents' observations where a task has no other."""
        return self._native.central_state()

    def render(self) -> NDArray[np.uint8] | None:
        """The present state as pixels ``[height, width, 3]``, with ``render_mode="rgb_array"``."""
        return None if self.render_mode is None else self._native.render()

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Everything that the next steps depend on, as arrays by name."""
        return self._native.get_state() | {"length": np.array([self._steps], np.uint64)}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Goes on from a state of ``get_state``."""
        self._native.set_state(state)
        self._steps = int(state.get("length", [0])[0])
        self.agents = list(self.possible_agents)
