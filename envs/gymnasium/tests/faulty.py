"""Environments for the tests: sound ones with unusual spaces, and others with one thing wrong each."""

import os
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env):
    """A noisy walk that ends at ±5."""

    observation_space = spaces.Box(-10, 10, (2,), np.float64)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode=None, speed=1.0):
        self.render_mode, self.speed = render_mode, speed

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.uniform(-1, 1), 0
        return self.observe(), {}

    def observe(self):
        return np.array([self.x, self.t % 7])

    def step(self, action):
        self.t += 1
        self.x += self.speed * float(action[0]) + 0.1 * self.np_random.normal()
        self.x = float(np.clip(self.x, -6, 6))
        return self.observe(), -abs(self.x), np.bool_(abs(self.x) > 5), False, {}

    def render(self):
        frame = np.full((4, 6, 3), 255, np.uint8)
        frame[:, round((self.x + 6) / 12 * 5)] = 0
        return frame


class Raises(Walk):
    def step(self, action):
        if self.t == 3:
            raise ValueError("boom")
        return super().step(action)


class RaisesInReset(Walk):
    def reset(self, *, seed=None, options=None):
        raise RuntimeError("no start today")


class WrongShape(Walk):
    def observe(self):
        return np.zeros(3 if getattr(self, "t", 0) else 2)


class Broadcasts(Walk):
    def observe(self):
        return np.zeros(1 if getattr(self, "t", 0) else 2)


class WrongType(Walk):
    def observe(self):
        return np.array(["a", "b"]) if getattr(self, "t", 0) else np.zeros(2)


class NotANumber(Walk):
    def observe(self):
        return np.full(2, np.nan if getattr(self, "t", 0) > 40 else 0.5)


class OldStep(Walk):
    def step(self, action):
        return super().step(action)[:4]


class Unrepeatable(Walk):
    """Draws from a generator of its own."""

    def step(self, action):
        self.x += np.random.default_rng().normal()
        return super().step(action)


class Truncates(Walk):
    """Cuts its episodes itself."""

    def step(self, action):
        obs, reward, terminated, _, info = super().step(0 * action)
        return obs, reward, terminated, self.t >= 9, info


class Keeps(Walk):
    """Keeps its last action, and fails when that changes under its hands."""

    def step(self, action):
        if self.t:
            assert np.array_equal(self.kept, self.copy), "the action of the last step has changed"
        self.kept, self.copy = action, np.array(action)
        return super().step(action)


class Dies(Walk):
    def step(self, action):
        os._exit(7)


class Slow(Walk):
    def step(self, action):
        time.sleep(0.02)
        return super().step(action)


class Endless(Walk):
    """Never ends."""

    action_space = spaces.Box(-1, 1, (64,), np.float32)

    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, False, False, info


class Mixed(Walk):
    """Observations by name, several choices."""

    observation_space = spaces.Dict(
        {"place": spaces.Box(-10, 10, (1, 1)), "phase": spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2)])}
    )
    action_space = spaces.MultiDiscrete([3, 2], start=[-1, 5])

    def observe(self):
        place = np.array([[self.x]], np.float32)
        return {"place": place, "phase": (np.int64(self.t % 3), np.array([self.t % 2, 1], np.int8))}

    def step(self, action):
        assert self.action_space.contains(action), action
        return super().step(np.array([action[0] * 0.5]))


class Choice(Walk):
    action_space = spaces.Discrete(3, start=-1)

    def step(self, action):
        assert self.action_space.contains(action), action
        return super().step(np.array([action * 0.5]))


class Words(Walk):
    observation_space = spaces.Sequence(spaces.Discrete(3))


class ManyActions(Walk):
    action_space = spaces.Dict({"a": spaces.Discrete(2)})


def limited(**kwargs):
    return gymnasium.wrappers.TimeLimit(Walk(**kwargs), 12)


def not_an_env():
    return 3


gymnasium.register("test/Walk-v0", entry_point=Walk, max_episode_steps=30, reward_threshold=-1.5)
