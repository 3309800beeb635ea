"""What Gymnasium and PettingZoo ask of environments, for every one that we export."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import steadfast
from steadfast.envs import gymnasium_id

IDS = [gymnasium_id(name) for name in steadfast.env_ids() if gymnasium_id(name) in gymnasium.registry]
DRAWN = [env_id for env_id in IDS if not env_id.startswith("steadfast/probe-")]
MODES = list(AutoresetMode)

# What check_env says of unbounded observations and of actions beyond ±1, which Gymnasium's own tasks have, too.
ANSWERED = ["infinity. This is probably too", "we recommend using a symmetric and normalized space"]


@pytest.mark.parametrize("env_id", IDS)
def test_check_env(env_id):
    env = gymnasium.make(env_id, render_mode="rgb_array" if env_id in DRAWN else None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped, skip_render_check=env_id not in DRAWN)
    unanswered = [str(w.message) for w in caught if not any(answer in str(w.message) for answer in ANSWERED)]
    assert unanswered == []
    env.close()


@pytest.mark.parametrize("env_id", DRAWN)
def test_render(env_id):
    env = gymnasium.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3 and (frame < 240).sum() > 100


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mode", MODES)
def test_vector_equals_sync_vector(env_id, mode):
    """Step for step what Gymnasium's own vector environment makes of single environments, in every mode."""
    n, steps = 3, 250
    ours = gymnasium.make_vec(env_id, num_envs=n, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: gymnasium.make(env_id)] * n, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    ours.action_space.seed(1)
    seen, expected = ours.reset(seed=5)[0], theirs.reset(seed=5)[0]
    np.testing.assert_array_equal(seen, expected)
    ended = 0
    for _ in range(steps):
        actions = ours.action_space.sample()
        a, b = ours.step(actions), theirs.step(actions)
        for x, y in zip(a[:4], b[:4]):
            np.testing.assert_array_equal(x, y)
            assert x.dtype == y.dtype and x.shape == y.shape
        over = a[2] | a[3]
        ended += over.sum()
        assert set(a[4]) == (set(b[4]) if mode is AutoresetMode.SAME_STEP else set())
        if "final_obs" in a[4]:
            np.testing.assert_array_equal(a[4]["_final_obs"], b[4]["_final_obs"])
            for x, y in zip(a[4]["final_obs"], b[4]["final_obs"]):
                np.testing.assert_array_equal(x, y)
        if mode is AutoresetMode.DISABLED and over.any():
            with pytest.raises(steadfast.SteadfastError, match="reset_mask"):
                ours.step(actions)
            options = {"reset_mask": over}
            np.testing.assert_array_equal(ours.reset(options=dict(options))[0], theirs.reset(options=dict(options))[0])
    limit = gymnasium.spec(env_id).max_episode_steps
    assert ended > 0 or limit > steps


@pytest.mark.parametrize("env_id", IDS)
def test_space_membership(env_id):
    envs = gymnasium.make_vec(env_id, num_envs=4)
    envs.action_space.seed(0)
    obs, _ = envs.reset(seed=1)
    for _ in range(50):
        assert obs in envs.observation_space
        obs, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
        assert rewards.dtype == np.float64 and terminated.dtype == truncated.dtype == np.bool_


@pytest.mark.parametrize("env_id", IDS)
def test_state_goes_on_exactly(env_id):
    def run(env, steps):
        env.action_space.seed(3)
        return [env.step(env.action_space.sample())[:3] for _ in range(steps)]

    first, second = gymnasium.make(env_id).unwrapped, gymnasium.make(env_id).unwrapped
    first.reset(seed=2)
    first.step(first.action_space.sample())
    state = first.get_state()
    second.reset(seed=9)
    second.set_state(state)
    for a, b in zip(run(first, 20), run(second, 20)):
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:] == b[1:]

    make = lambda: gymnasium.make_vec(env_id, num_envs=3, autoreset_mode="SameStep")  # noqa: E731
    first, second = make(), make()
    first.reset(seed=4)
    run(first, 10)
    second.reset(seed=8)
    second.set_state(first.get_state())
    for a, b in zip(run(first, 20), run(second, 20)):
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", steadfast.env_ids())
def test_pettingzoo(name):
    from pettingzoo.test import parallel_api_test
    from pettingzoo.test.seed_test import parallel_seed_test

    parallel_api_test(steadfast.parallel_env(name), num_cycles=300)
    parallel_seed_test(lambda: steadfast.parallel_env(name), num_cycles=50)


def test_parallel_equals_gymnasium():
    """One agent, by both roads; the end of the episode empties the list of agents."""
    parallel, env = steadfast.parallel_env("CartPole-v1"), gymnasium.make("steadfast/CartPole-v1")
    (agent,) = parallel.possible_agents
    obs, _ = parallel.reset(seed=7)
    np.testing.assert_array_equal(obs[agent], env.reset(seed=7)[0])
    for t in range(500):
        obs, rewards, terminated, truncated, _ = parallel.step({agent: t % 2})
        expected = env.step(t % 2)
        np.testing.assert_array_equal(obs[agent], expected[0])
        np.testing.assert_array_equal(parallel.state(), expected[0])
        assert (rewards[agent], terminated[agent], truncated[agent]) == expected[1:4]
        if terminated[agent]:
            break
    assert terminated[agent] and parallel.agents == []


def test_options_and_their_errors():
    light = gymnasium.make("steadfast/Ant-v5", ctrl_cost_weight=0, healthy_z_range=(0.1, float("inf")))
    heavy = gymnasium.make("steadfast/Ant-v5", ctrl_cost_weight=10)
    rewards = []
    for env in (light, heavy):
        env.reset(seed=0)
        rewards.append(env.step(np.ones(8, np.float32))[1])
    assert rewards[0] - rewards[1] == pytest.approx(80)
    for call, match in [
        (lambda: gymnasium.make("steadfast/Ant-v5", ctrl_cost=1), "did you mean 'ctrl_cost_weight'"),
        (lambda: steadfast.VectorEnv("Hoper-v5"), "did you mean 'Hopper-v5'"),
        (lambda: steadfast.VectorEnv("Hopper-v5", 0), "at least 1"),
        (lambda: steadfast.Env("Hopper-v5", render_mode="human"), "render modes"),
    ]:
        with pytest.raises(steadfast.SteadfastError, match=match):
            call()
    env = steadfast.Env("Hopper-v5")
    env.reset(seed=0)
    with pytest.raises(steadfast.SteadfastError, match="2 numbers, not 3"):
        env.step(np.zeros(2))
    with pytest.raises(steadfast.SteadfastError, match="qpos"):
        env.set_state({"qpos": np.zeros(1), "qvel": np.zeros(6)})


def test_time_limits():
    envs = gymnasium.make_vec("steadfast/Pendulum-v1", num_envs=2, max_episode_steps=7, autoreset_mode="SameStep")
    envs.reset(seed=0)
    truncated = [envs.step(np.zeros((2, 1), np.float32))[3] for _ in range(14)]
    assert [t.all() for t in truncated] == ([False] * 6 + [True]) * 2


def test_views_without_copies():
    envs = steadfast.VectorEnv("Pendulum-v1", 4, copy=False)
    first, _ = envs.reset(seed=0)
    before = first.copy()
    second = envs.step(np.zeros((4, 1), np.float32))[0]
    assert second is first and (first != before).any()
    # A view keeps what it looks at.
    del envs, second
    assert np.isfinite(first).all()


def test_threads_change_nothing():
    def run(threads):
        envs = steadfast.VectorEnv("Hopper-v5", 8, threads=threads)
        envs.reset(seed=1)
        return np.stack([envs.step(np.full((8, 3), 0.1, np.float32))[0] for _ in range(100)])

    np.testing.assert_array_equal(run(1), run(2))


SEVERAL = [name for name in steadfast.env_ids() if len(steadfast.parallel_env(name).possible_agents) > 1]


@pytest.mark.parametrize("name", SEVERAL)
def test_several_agents(name):
    """Observations lie in their spaces, masks allow what the task takes, states go on exactly; Gymnasium is refused."""
    env, other = steadfast.parallel_env(name), steadfast.parallel_env(name)
    _, infos = env.reset(seed=3)
    other.reset(seed=4)
    other.set_state(env.get_state())
    for agent in env.possible_agents:
        env.action_space(agent).seed(1)
    for _ in range(30):
        masks = {agent: info.get("action_mask") for agent, info in infos.items()}
        choices = [agent for agent in env.agents if masks[agent] is not None]
        assert all(masks[agent].any() for agent in choices)
        actions = {
            agent: env.action_space(agent).sample(masks[agent] if hasattr(env.action_space(agent), "n") else None)
            for agent in env.agents
        }
        obs, rewards, terminated, truncated, infos = env.step(actions)
        again = other.step(actions)
        assert rewards == again[1] and (env.state() == other.state()).all()
        assert all(np.array_equal(obs[agent], again[0][agent]) for agent in obs)
        assert all(obs[agent] in env.observation_space(agent) for agent in obs)
        if not env.agents:
            break
    with pytest.raises(steadfast.SteadfastError, match="parallel_env"):
        steadfast.Env(name)
    with pytest.raises(steadfast.SteadfastError, match="parallel_env"):
        steadfast.VectorEnv(name)
