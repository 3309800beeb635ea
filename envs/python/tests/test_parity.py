"""States injected into Gymnasium's tasks and ours, in one process: the next states agree."""

import gymnasium
import numpy as np
import pytest
from gymnasium_robotics import mamujoco_v1 as mamujoco

import steadfast  # noqa: F401

CLASSIC = ["Pendulum-v1", "MountainCarContinuous-v0", "CartPole-v1", "MountainCar-v0", "Acrobot-v1"]
MUJOCO = [
    "InvertedPendulum-v5",
    "InvertedDoublePendulum-v5",
    "Reacher-v5",
    "Swimmer-v5",
    "Hopper-v5",
    "HalfCheetah-v5",
    "Walker2d-v5",
    "Ant-v5",
    "Humanoid-v5",
    "HumanoidStandup-v5",
    "Pusher-v5",
]
SPLITS = [("HalfCheetah", "2x3"), ("HalfCheetah", "6x1"), ("Ant", "4x2"), ("Walker2d", "2x3"), ("Hopper", "3x1")]


def pair(env_id):
    ours, theirs = (gymnasium.make(prefix + env_id, disable_env_checker=True).unwrapped for prefix in ("steadfast/", ""))
    ours.reset(seed=0)
    theirs.reset(seed=0)
    theirs.action_space.seed(1)
    return ours, theirs


def close(ours, expected, tolerance):
    """To `tolerance` of the largest expected number, or of 1."""
    expected = np.asarray(expected, float)
    assert np.max(np.abs(ours - expected)) <= tolerance * max(1.0, np.max(np.abs(expected)))


@pytest.mark.parametrize("env_id", CLASSIC)
def test_classic(env_id):
    ours, theirs = pair(env_id)
    # What is float32 in their state and action NumPy goes on computing in float32; only that task means it.
    dtype = np.float32 if env_id == "MountainCarContinuous-v0" else np.float64
    for step in range(400):
        if step % 40 == 0:
            theirs.reset(seed=step)
        theirs.state = np.array(theirs.state, dtype)
        action = theirs.action_space.sample()
        action = action.astype(dtype) if action.shape else action
        ours.set_state({"state": theirs.state.astype(np.float64)})
        obs, reward, terminated, *_ = ours.step(action)
        expected, expected_reward, expected_end, *_ = theirs.step(action)
        close(ours.get_state()["state"], theirs.state, 1e-12)
        close(obs, expected, 1.2e-7)
        close(reward, expected_reward, 1e-12)
        assert terminated == expected_end
        if terminated:
            theirs.reset(seed=step)


@pytest.mark.parametrize("env_id", MUJOCO)
def test_mujoco(env_id):
    """As `envs/tests/mujoco.rs`, from the states that random actions lead to."""
    ours, theirs = pair(env_id)
    worst = 0.0
    for step in range(300):
        if step % 60 == 0:
            theirs.reset(seed=step)
        # A state of ours that lacks the stream and the place before the step: both follow from what is set.
        theirs.set_state(theirs.data.qpos.copy(), theirs.data.qvel.copy())
        state = {name: np.array(getattr(theirs.data, name)) for name in ("qpos", "qvel", "qacc_warmstart")}
        ours.set_state(state)
        action = theirs.action_space.sample()
        obs, reward, terminated, *_ = ours.step(action)
        expected, expected_reward, expected_end, *_ = theirs.step(action)
        after = ours.get_state()
        for name in ("qpos", "qvel"):
            close(after[name], getattr(theirs.data, name), 1e-9)
            worst = max(worst, np.max(np.abs(after[name] - getattr(theirs.data, name))))
        # Ours are rounded to float32.
        assert np.max(np.abs(obs - expected) / np.maximum(1, np.abs(expected))) <= 1.2e-7
        close(reward, expected_reward, 1e-8)
        assert terminated == expected_end
        if terminated:
            theirs.reset(seed=step)
    print(f"{env_id}: largest difference of states {worst:.1e}")


@pytest.mark.parametrize("near", [0, 1, 2])
@pytest.mark.parametrize("robot, parts", SPLITS)
def test_multi_agent_mujoco(robot, parts, near):
    """What each agent sees, does and is paid, from the states that random actions lead to."""
    theirs = mamujoco.parallel_env(robot, parts, agent_obsk=near)
    ours = steadfast.parallel_env(f"{robot}-v5/{parts}", near=near)
    ours.reset(seed=0)
    assert ours.possible_agents == theirs.possible_agents
    for i, agent in enumerate(ours.possible_agents):
        assert ours.observation_space(agent).shape == theirs.observation_space(agent).shape
        assert ours.action_space(agent).shape == theirs.action_space(agent).shape
        theirs.action_space(agent).seed(i)
    data = theirs.single_agent_env.unwrapped.data
    for step in range(60):
        if step % 20 == 0:
            theirs.reset(seed=step)
        theirs.single_agent_env.unwrapped.set_state(data.qpos.copy(), data.qvel.copy())
        ours.set_state({name: np.array(getattr(data, name)) for name in ("qpos", "qvel", "qacc_warmstart")})
        actions = {agent: theirs.action_space(agent).sample() for agent in theirs.possible_agents}
        obs, rewards, terminated, *_ = ours.step(actions)
        expected, expected_rewards, expected_end, *_ = theirs.step(actions)
        for agent in expected:
            close(obs[agent], expected[agent], 1.2e-7)
            # The cost of the action: in float32 for Gymnasium's robots and ours, in float64 here.
            close(rewards[agent], expected_rewards[agent], 1e-6)
            assert terminated[agent] == expected_end[agent]
        if expected_end["agent_0"]:
            theirs.reset(seed=step)
