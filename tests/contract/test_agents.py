"""What every algorithm of the package promises. A new one inherits these tests by joining ``sbbatch.ALGORITHMS``."""

import inspect
import io
import math
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import sbbatch
from sbbatch.errors import InvalidType, InvalidValue, NumericalError, UserError

PEERS = {"dqn": stable_baselines3.DQN, "qrdqn": sb3_contrib.QRDQN}
SMALL = {"learning_starts": 40, "buffer_size": 500, "batch_size": 8, "seed": 0, "device": "cpu"}


@pytest.fixture(params=sbbatch.ALGORITHMS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def algorithm(name):
    return sbbatch.ALGORITHMS[name]


# --------------------------------------------------------------------------------------------------------------- tools


class DictEnv(gym.Env):
    """A vector and a number to look at; episodes of seven steps."""

    observation_space = spaces.Dict({"vector": spaces.Box(-1, 1, (3,), np.float32), "number": spaces.Discrete(4)})
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.step_count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return self._observe(), {}

    def step(self, action):
        self.step_count += 1
        return self._observe(), float(action), self.step_count == 7, False, {}

    def _observe(self):
        return {"vector": self.np_random.uniform(-1, 1, 3).astype(np.float32), "number": self.step_count % 4}


class SpoiltEnv(gym.Env):
    """A reward or an observation that is no number at a given step."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, what=None, at=0, value=math.nan):
        self.what, self.at, self.value, self.count = what, at, value, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        self.count += 1
        spoilt = self.count == self.at
        reward = self.value if spoilt and self.what == "reward" else 1.0
        observation = np.full(2, 0.01 * self.count, dtype=np.float32)
        if spoilt and self.what in ("observation", "final observation"):
            observation[1] = self.value
        return observation, reward, spoilt and self.what == "final observation", False, {}


def image_env():
    env = FakeImageEnv(screen_height=36, screen_width=36)
    env.observation_space.seed(0)
    return env


KINDS = {
    "vector": ("MlpPolicy", "CartPole-v1", {}),
    "image": ("CnnPolicy", image_env, {"features_extractor_kwargs": {"features_dim": 16}}),
    "dict": ("MultiInputPolicy", DictEnv, {}),
}


def make_agent(algorithm, kind="vector", **kwargs):
    policy, env, policy_kwargs = KINDS[kind]
    env = kwargs.pop("env", env)
    settings = SMALL | {"policy_kwargs": policy_kwargs} | kwargs
    return algorithm(policy, env() if callable(env) else env, **settings)


def weights(agent):
    return {key: value.clone() for key, value in agent.policy.state_dict().items()}


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert th.equal(first[key], second[key]), key


def differ(first, second):
    return any(not th.equal(first[key], second[key]) for key in first)


def observations_of(agent, n=16):
    agent.observation_space.seed(1)
    samples = [agent.observation_space.sample() for _ in range(n)]
    if isinstance(samples[0], dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack([np.clip(sample, -10, 10) for sample in samples])


def refusal(error, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


class RecordedLogger(Logger):
    """Keeps the last value of every key."""

    def __init__(self):
        super().__init__(None, [])
        self.seen = {}

    def record(self, key, value, exclude=None):
        self.seen[key] = value


# ------------------------------------------------------------------------------------------------------------ learning


@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_steps_change_the_weights_and_leave_them_finite(algorithm, kind):
    agent = make_agent(algorithm, kind)
    before = weights(agent)
    agent.learn(200)
    assert agent.num_timesteps == 200
    # 40 steps to start with, then one update every 4 steps: (200 - 40) / 4
    assert agent._n_updates == 40
    after = weights(agent)
    assert differ(before, after)
    assert all(value.isfinite().all() for value in after.values())
    actions, _ = agent.predict(observations_of(agent), deterministic=True)
    assert actions.shape == (16,)
    assert all(agent.action_space.contains(action) for action in actions)


@pytest.mark.parametrize("kind", ["vector", "dict"])
@pytest.mark.parametrize(
    "kwargs", [{}, {"n_steps": 3, "prioritized": True}, {"gradient_steps": -1, "train_freq": (1, "episode")}]
)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(algorithm, kind, kwargs):
    first, second, other = (make_agent(algorithm, kind, seed=seed, **kwargs).learn(120) for seed in (3, 3, 4))
    assert_same_weights(weights(first), weights(second))
    assert differ(weights(first), weights(other))


@pytest.mark.parametrize("kwargs", [{"n_steps": 3}, {"prioritized": True}, {"tau": 0.5, "target_update_interval": 10}])
def test_what_a_run_may_vary_learns_as_well(algorithm, kwargs):
    agent = make_agent(algorithm, **kwargs)
    before = weights(agent)
    agent.learn(200)
    assert differ(before, weights(agent))


def test_learning_again_goes_on_although_the_environment_was_reset(algorithm):
    agent = make_agent(algorithm, n_steps=3)
    agent.learn(60)
    before = weights(agent)
    agent.learn(60)
    assert agent.num_timesteps == 60
    agent.learn(60, reset_num_timesteps=False)
    assert agent.num_timesteps == 120
    assert agent.replay_buffer.size() == 180
    assert differ(before, weights(agent))


def test_asking_for_less_memory_as_with_sb3_works_over_two_runs(algorithm):
    agent = make_agent(algorithm, optimize_memory_usage=True)
    with pytest.warns(UserWarning, match="last trajectory"):
        agent.learn(60).learn(60)
    assert agent.replay_buffer.size() == 120


@pytest.mark.parametrize("kind", KINDS)
def test_several_environments_fill_the_buffer_together(algorithm, kind):
    _, env, _ = KINDS[kind]
    make_env = env if callable(env) else lambda: gym.make(env)
    agent = make_agent(algorithm, kind, env=DummyVecEnv([make_env] * 4), train_freq=2)
    agent.learn(200)
    assert agent.replay_buffer.size() == 50  # rows of four
    assert agent._n_updates == 20  # vector steps 11 to 50, every second


def test_stacked_images_are_recognised_and_stored_frame_by_frame(algorithm):
    env = VecFrameStack(DummyVecEnv([image_env] * 2), 4)
    agent = make_agent(algorithm, "image", env=env, n_steps=3)
    assert agent.observation_space.shape == (4, 36, 36)
    assert agent.frame_stack == agent.replay_buffer.frame_stack == 4
    agent.learn(80)
    # ten steps an episode; the opening stack is empty but for its newest frame
    first = agent.replay_buffer.observations[10, 0]
    assert not first[:3].any()
    assert first[3].any()


@pytest.mark.parametrize("kind", ["vector", "dict"])
def test_other_observations_are_stored_whole(algorithm, kind):
    assert make_agent(algorithm, kind).frame_stack == 1
    stacked = VecFrameStack(DummyVecEnv([lambda: gym.make("CartPole-v1")]), 4)
    assert make_agent(algorithm, env=stacked).frame_stack == 1


def test_a_normalised_environment_is_learnt_from_with_normalised_samples(algorithm):
    env = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    agent = make_agent(algorithm, env=env)
    agent.learn(120)
    # raw in the memory (the reward of CartPole is 1), normalised in the batch
    assert (agent.replay_buffer.rewards == 1).all()
    batch = agent._sample_replay(8)
    assert (batch.rewards != 1).all()
    raw = agent.replay_buffer.sample(8).observations
    assert raw.abs().max() < 5


# ---------------------------------------------------------------------------------------------------------- batch size


def test_the_batch_size_can_be_doubled_and_halved_during_a_run(algorithm):
    agent = make_agent(algorithm)
    used = []
    original = agent.replay_buffer.sample

    def sample(batch_size, env=None):
        used.append(batch_size)
        return original(batch_size, env=env)

    agent.replay_buffer.sample = sample

    class Scheduler(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 100:
                assert self.model.set_batch_size(16) == 16
            if self.num_timesteps == 160:
                assert self.model.set_batch_size(4) == 4
            return True

    agent.learn(200, callback=Scheduler())
    # updates after steps 44, 48, ..., 200; the callback at step 100 comes before the update of that step
    assert used == [8] * 14 + [16] * 15 + [4] * 11
    assert agent._n_samples == 14 * 8 + 15 * 16 + 11 * 4
    assert agent.batch_size == 4


@pytest.mark.parametrize(
    ("batch_size", "error"), [(0, InvalidValue), (-4, InvalidValue), (8.0, InvalidType), (501, InvalidValue)]
)
def test_a_batch_size_that_cannot_be_is_refused_and_the_old_one_kept(algorithm, batch_size, error):
    agent = make_agent(algorithm)
    assert refusal(error, agent.set_batch_size, batch_size).startswith("batch_size: got ")
    assert agent.batch_size == 8


# ------------------------------------------------------------------------------------------------------------- acting


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_deterministic(algorithm, kind):
    agent = make_agent(algorithm, kind)
    observations = observations_of(agent)
    agent.exploration_rate = 1.0
    first, _ = agent.predict(observations, deterministic=True)
    second, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_array_equal(first, second)


def test_the_same_episodes_give_the_same_score(algorithm):
    agent = make_agent(algorithm).learn(60)
    scores = []
    for _ in range(2):
        env = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))])
        env.seed(5)
        scores.append(evaluate_policy(agent, env, n_eval_episodes=3, return_episode_rewards=True))
    assert scores[0] == scores[1]


def test_one_observation_gives_one_action(algorithm):
    agent = make_agent(algorithm)
    for deterministic in (True, False):
        action, state = agent.predict(np.zeros(4, dtype=np.float32), deterministic=deterministic)
        assert agent.action_space.contains(action) or np.shape(action) == ()
        assert state is None


def test_with_epsilon_one_actions_are_random_and_with_deterministic_greedy(algorithm):
    agent = make_agent(algorithm)
    observation = np.zeros((400, 4), dtype=np.float32)
    agent.exploration_rate = 1.0
    greedy, _ = agent.predict(observation, deterministic=True)
    assert len(set(greedy)) == 1
    random, _ = agent.predict(observation)
    # 400 fair coins: 200 +- 4 * 10
    assert 160 < random.sum() < 240
    agent.exploration_rate = 0.0
    np.testing.assert_array_equal(agent.predict(observation)[0], greedy)


def test_every_environment_throws_its_own_coin(algorithm):
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 64)
    agent = make_agent(algorithm, env=env, learning_starts=0, exploration_initial_eps=0.5, exploration_final_eps=0.5)
    agent._last_obs = np.zeros((64, 4), dtype=np.float32)
    agent.exploration_rate = 0.5
    greedy = int(agent.predict(np.zeros(4, dtype=np.float32), deterministic=True)[0])
    n_greedy = []
    for _ in range(20):
        actions, _ = agent._sample_action(0, n_envs=64)
        n_greedy.append(int((actions == greedy).sum()))
    # Greedy ones and half of the explorers: 3/4 of 64 = 48 +- 3.5. One coin for all would give 64 or 32.
    assert all(32 < n < 64 for n in n_greedy)
    assert 44 < np.mean(n_greedy) < 52


def test_the_coin_of_predict_is_thrown_for_each_observation_too(algorithm):
    agent = make_agent(algorithm)
    agent.exploration_rate = 0.5
    observations = np.zeros((400, 4), dtype=np.float32)
    greedy, _ = agent.predict(observations, deterministic=True)
    share = np.mean(agent.predict(observations)[0] == greedy)
    assert 0.66 < share < 0.84  # 3/4 +- 4 standard deviations


# --------------------------------------------------------------------------------------------------- saving and loading


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_agent_is_the_same_and_goes_on_learning(algorithm, kind, tmp_path):
    agent = make_agent(algorithm, kind, n_steps=3, prioritized=True).learn(100)
    agent.save(tmp_path / "m")
    assert (tmp_path / "m.zip").is_file()
    _, env, _ = KINDS[kind]
    loaded = algorithm.load(tmp_path / "m", env=env() if callable(env) else gym.make(env), device="cpu")
    assert_same_weights(weights(agent), weights(loaded))
    observations = observations_of(agent)
    for one, other in zip(*(a.predict(observations, deterministic=True) for a in (agent, loaded)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (loaded.num_timesteps, loaded._n_updates, loaded._n_samples) == (100, agent._n_updates, agent._n_samples)
    assert (loaded.n_steps, loaded.prioritized, loaded.replay_buffer.n_steps) == (3, True, 3)
    loaded.learn(100, reset_num_timesteps=False)
    assert loaded.num_timesteps == 200
    assert differ(weights(agent), weights(loaded))


def test_a_loaded_agent_can_play_without_an_environment(algorithm, tmp_path):
    agent = make_agent(algorithm)
    agent.save(tmp_path / "m.zip")
    loaded = algorithm.load(tmp_path / "m.zip", device="cpu")
    observations = observations_of(agent)
    played, expected = (one.predict(observations, deterministic=True)[0] for one in (loaded, agent))
    np.testing.assert_array_equal(played, expected)


def test_an_open_file_can_be_saved_to_and_loaded_from(algorithm):
    agent, file = make_agent(algorithm), io.BytesIO()
    agent.save(file)
    file.seek(0)
    assert_same_weights(weights(agent), weights(algorithm.load(file, device="cpu")))


def test_the_state_of_the_optimizer_survives(algorithm, tmp_path):
    agent = make_agent(algorithm).learn(100)
    agent.save(tmp_path / "m")
    loaded = algorithm.load(tmp_path / "m", env=gym.make("CartPole-v1"), device="cpu")
    saved, restored = (one.policy.optimizer.state_dict() for one in (agent, loaded))
    assert saved["param_groups"] == restored["param_groups"]
    assert saved["state"].keys() == restored["state"].keys() != set()
    for parameter in saved["state"]:
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert th.equal(saved["state"][parameter][key], restored["state"][parameter][key])
    # one more step on the same batch moves both in the same way
    for one in (agent, loaded):
        one._setup_learn(1)
        one.replay_buffer = agent.replay_buffer
    batch = agent.replay_buffer.sample(8)
    for one in (agent, loaded):
        one._train_step(batch)
    assert_same_weights(weights(agent), weights(loaded))


def test_attributes_can_be_changed_when_loading(algorithm, tmp_path):
    make_agent(algorithm).save(tmp_path / "m")
    loaded = algorithm.load(tmp_path / "m", env=gym.make("CartPole-v1"), device="cpu", batch_size=16, n_steps=2)
    assert (loaded.batch_size, loaded.replay_buffer.n_steps) == (16, 2)
    loaded.learn(60)


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ({"bach_size": 64}, InvalidType, "unknown attribute 'bach_size'; did you mean 'batch_size'"),
        ({"batch_size": 0}, InvalidValue, "batch_size: got 0"),
        ({"batch_size": 501}, InvalidValue, "batch_size: got 501, expected at most buffer_size = 500"),
        ({"gamma": 1.5}, InvalidValue, "gamma: got 1.5"),
        ({"learning_rate": "fast"}, InvalidType, "learning_rate: got str 'fast'"),
    ],
)
def test_a_wrong_override_is_named(algorithm, tmp_path, override, error, message):
    make_agent(algorithm).save(tmp_path / "m")
    assert message in refusal(error, algorithm.load, tmp_path / "m", device="cpu", **override)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"", "empty"),
        (lambda raw: b"<html>not found</html>", "starts with b'<html>"),
        (lambda raw: raw[: len(raw) // 2], "truncated or damaged"),
        (lambda raw: raw[:-1], "truncated or damaged"),
        (lambda raw: raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :], "checksum"),
    ],
)
def test_a_damaged_model_file_is_refused(algorithm, tmp_path, damage, message):
    path = tmp_path / "m.zip"
    make_agent(algorithm).save(path)
    path.write_bytes(damage(path.read_bytes()))
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert told.startswith(str(path))
    assert message in told


def test_a_missing_model_file_is_named_as_it_was_asked_for(algorithm, tmp_path):
    assert refusal(FileNotFoundError, algorithm.load, tmp_path / "nope").endswith(f"{tmp_path / 'nope'}")


def test_an_archive_of_something_else_is_refused(algorithm, tmp_path):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("holiday.jpg", b"sea")
    assert "it has no member 'data'" in refusal(InvalidValue, algorithm.load, path)


def test_a_model_of_another_algorithm_is_refused_and_named(name, algorithm, tmp_path):
    (other,) = {key: cls for key, cls in sbbatch.ALGORITHMS.items() if key != name}.values()
    make_agent(other).save(tmp_path / "m")
    told = refusal(InvalidValue, algorithm.load, tmp_path / "m")
    assert f"holds a {other.__name__}, but {algorithm.__name__} was asked to load it" in told


@pytest.mark.parametrize("peer", [stable_baselines3.DQN, stable_baselines3.PPO])
def test_a_model_that_sbbatch_did_not_write_is_refused(algorithm, tmp_path, peer):
    peer("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "m")
    assert "was not written by sbbatch" in refusal(InvalidValue, algorithm.load, tmp_path / "m", device="cpu")


def test_a_model_of_another_environment_is_refused(algorithm, tmp_path):
    make_agent(algorithm).save(tmp_path / "m")
    told = refusal(InvalidValue, algorithm.load, tmp_path / "m", env=gym.make("Acrobot-v1"), device="cpu")
    assert "(4,)" in told
    assert "(6,)" in told


def test_a_model_with_another_number_of_actions_is_refused(algorithm, tmp_path):
    make_agent(algorithm, "image").save(tmp_path / "m")
    env = FakeImageEnv(action_dim=3, screen_height=36, screen_width=36)
    told = refusal(InvalidValue, algorithm.load, tmp_path / "m", env=env, device="cpu")
    assert "actions Discrete(6), the environment has Discrete(3)" in told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prioritized", [False, True])
def test_a_replay_buffer_survives_saving_and_loading(algorithm, kind, prioritized, tmp_path):
    agent = make_agent(algorithm, kind, prioritized=prioritized, n_steps=3).learn(100)
    agent.save_replay_buffer(tmp_path / "buffer")
    other = make_agent(algorithm, kind, prioritized=prioritized, n_steps=3, seed=9)
    other.load_replay_buffer(tmp_path / "buffer")
    first, second = agent.replay_buffer.sample(20), other.replay_buffer.sample(20)
    np.testing.assert_array_equal(first.indices, second.indices)
    assert th.equal(first.rewards, second.rewards)
    assert th.equal(first.weights, second.weights)
    other.learn(60)
    assert other.replay_buffer.size() == 160


def test_a_replay_buffer_can_be_kept_in_an_open_file(algorithm):
    agent, file = make_agent(algorithm).learn(60), io.BytesIO()
    agent.save_replay_buffer(file)
    file.seek(0)
    other = make_agent(algorithm)
    other.load_replay_buffer(file)
    np.testing.assert_array_equal(other.replay_buffer.observations, agent.replay_buffer.observations)


@pytest.mark.parametrize("case", ["damaged", "other size", "other environment", "other number", "missing", "a model"])
def test_a_replay_buffer_that_cannot_be_loaded_leaves_the_present_one(algorithm, case, tmp_path):
    path = tmp_path / "buffer.npz"
    strangers = {
        "other size": {"buffer_size": 300},
        "other environment": {"env": "Acrobot-v1"},
        "other number": {"env": DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)},
    }
    make_agent(algorithm, **strangers.get(case, {})).learn(60).save_replay_buffer(path)
    if case == "damaged":
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 16
        path.write_bytes(raw)
    if case == "missing":
        path.unlink()
    agent = make_agent(algorithm).learn(60)
    if case == "a model":
        agent.save(path)
    buffer, before = agent.replay_buffer, agent.replay_buffer.observations
    refusal(FileNotFoundError if case == "missing" else InvalidValue, agent.load_replay_buffer, path)
    assert agent.replay_buffer is buffer
    np.testing.assert_array_equal(agent.replay_buffer.observations, before)
    agent.learn(20)


def test_a_saved_replay_buffer_contains_no_pickle(algorithm, tmp_path):
    make_agent(algorithm, prioritized=True).learn(60).save_replay_buffer(tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz", allow_pickle=False) as arrays:
        assert all(arrays[member].dtype != object for member in arrays.files)


# --------------------------------------------------------------------------------------------------------- SB3's parts


def test_the_replay_buffer_of_sb3_works(algorithm, tmp_path):
    agent = make_agent(algorithm, replay_buffer_class=ReplayBuffer)
    before = weights(agent)
    agent.learn(120)
    assert type(agent.replay_buffer) is ReplayBuffer
    assert differ(before, weights(agent))
    agent.save_replay_buffer(tmp_path / "b")
    agent.load_replay_buffer(tmp_path / "b")
    assert agent.replay_buffer.size() == 120


def test_the_n_step_buffer_of_sb3_works_when_it_is_configured(algorithm):
    kwargs = {"n_steps": 3, "gamma": 0.9}
    agent = make_agent(algorithm, replay_buffer_class=NStepReplayBuffer, replay_buffer_kwargs=kwargs).learn(120)
    discounts = agent._sample_replay(200).discounts.unique()
    assert th.isclose(discounts, th.tensor(0.729)).any()  # three rewards
    assert not th.isclose(discounts, th.tensor(0.99)).any()  # the algorithm's own gamma is not used


@pytest.mark.parametrize("kwargs", [{"n_steps": 3}, {"prioritized": True}])
def test_what_only_our_buffer_can_do_is_not_silently_dropped(algorithm, kwargs):
    assert "ReplayBuffer" in refusal(UserError, make_agent, algorithm, replay_buffer_class=ReplayBuffer, **kwargs)


def test_one_agent_learns_the_same_from_sb3s_transitions_as_from_ours(algorithm):
    # Drawn by different generators, the batches differ, but what is stored is the same.
    ours, theirs = (make_agent(algorithm, replay_buffer_class=c).learn(40) for c in (None, ReplayBuffer))
    np.testing.assert_array_equal(ours.replay_buffer.observations[:, 0], theirs.replay_buffer.observations[:40, 0])
    np.testing.assert_array_equal(ours.replay_buffer.actions[:, 0], theirs.replay_buffer.actions[:40, 0, 0])
    np.testing.assert_array_equal(ours.replay_buffer.dones, theirs.replay_buffer.dones[:40])


def test_arguments_names_order_and_defaults_are_those_of_the_peer(name, algorithm):
    ours, theirs = (list(inspect.signature(cls.__init__).parameters.values()) for cls in (algorithm, PEERS[name]))
    shared = ours[: len(theirs)]
    assert [parameter.name for parameter in shared] == [parameter.name for parameter in theirs]
    assert theirs[-1].name == "_init_setup_model"
    assert [parameter.default for parameter in shared] == [parameter.default for parameter in theirs]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in ours[len(theirs) :])
    assert all(parameter.default is not inspect.Parameter.empty for parameter in ours[len(theirs) :])


def test_the_defaults_reach_the_agent(name, algorithm):
    ours, theirs = (cls("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=1000) for cls in (algorithm, PEERS[name]))
    for attribute in inspect.signature(PEERS[name].__init__).parameters:
        if hasattr(theirs, attribute) and isinstance(getattr(theirs, attribute), (int, float, str, tuple, type(None))):
            if attribute in ("replay_buffer_class", "device"):
                continue
            assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    for key in ("lr", "eps", "betas", "weight_decay"):
        assert ours.policy.optimizer.param_groups[0][key] == theirs.policy.optimizer.param_groups[0][key]


def test_the_logger_sees_the_keys_that_plots_need(algorithm):
    agent, logger = make_agent(algorithm, prioritized=True), RecordedLogger()
    agent.set_logger(logger)
    agent.learn(200)
    expected = {
        "train/loss",
        "train/batch_size",
        "train/samples",
        "train/gradient_steps",
        "train/n_updates",
        "train/learning_rate",
        "train/mean_importance_weight",
        "rollout/exploration_rate",
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "time/fps",
        "time/total_timesteps",
    }
    assert expected <= set(logger.seen)
    assert (logger.seen["train/batch_size"], logger.seen["train/gradient_steps"]) == (8, 40)
    assert logger.seen["train/samples"] == 320
    assert math.isfinite(logger.seen["train/loss"])
    assert 0 < logger.seen["train/mean_importance_weight"] <= 1


# ----------------------------------------------------------------------------------------------------------- refusals


BAD_ARGUMENTS = [
    ("batch_size", 0, InvalidValue),
    ("batch_size", -4, InvalidValue),
    ("batch_size", 32.0, InvalidType),
    ("batch_size", "sixteen", InvalidType),
    ("batch_size", True, InvalidType),
    ("batch_size", None, InvalidType),
    ("batch_size", 501, InvalidValue),
    ("batch_size", 10**10, InvalidValue),
    ("n_steps", 0, InvalidValue),
    ("n_steps", -3, InvalidValue),
    ("n_steps", 501, InvalidValue),
    ("buffer_size", 0, InvalidValue),
    ("buffer_size", -1, InvalidValue),
    ("buffer_size", 1e4, InvalidType),
    ("buffer_size", 10**12, InvalidValue),
    ("learning_starts", -5, InvalidValue),
    ("gamma", 1.5, InvalidValue),
    ("gamma", -0.1, InvalidValue),
    ("gamma", math.nan, InvalidValue),
    ("gamma", True, InvalidType),
    ("gamma", "0.99", InvalidType),
    ("tau", 5, InvalidValue),
    ("tau", -0.1, InvalidValue),
    ("tau", math.inf, InvalidValue),
    ("exploration_final_eps", 7, InvalidValue),
    ("exploration_initial_eps", -0.5, InvalidValue),
    ("exploration_fraction", 2, InvalidValue),
    ("exploration_decay_steps", 0, InvalidValue),
    ("learning_rate", 1e30, InvalidValue),
    ("learning_rate", 0.0, InvalidValue),
    ("learning_rate", "1e-4", InvalidType),
    ("train_freq", 0, InvalidValue),
    ("train_freq", (0, "step"), InvalidValue),
    ("train_freq", (1, "hour"), InvalidValue),
    ("train_freq", "often", InvalidType),
    ("gradient_steps", -7, InvalidValue),
    ("gradient_steps", 1.5, InvalidType),
    ("max_grad_norm", 0, InvalidValue),
    ("max_grad_norm", -10, InvalidValue),
    ("max_grad_norm", math.nan, InvalidValue),
    ("target_update_interval", 0, InvalidValue),
    ("seed", -1, InvalidValue),
    ("seed", "lucky", InvalidType),
    ("learning_strats", 100, InvalidType),
]


@pytest.mark.parametrize(("argument", "value", "error"), BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_in_one_line_that_names_it(algorithm, argument, value, error):
    assert argument in refusal(error, make_agent, algorithm, **{argument: value})
    assert issubclass(error, UserError)


def test_a_float_that_should_be_an_int_comes_with_the_int(algorithm):
    assert "did you mean 32?" in refusal(InvalidType, make_agent, algorithm, batch_size=32.0)
    assert "did you mean 10000?" in refusal(InvalidType, make_agent, algorithm, buffer_size=1e4)


def test_a_misspelt_argument_comes_with_the_right_name(algorithm):
    assert "did you mean 'learning_starts'" in refusal(InvalidType, make_agent, algorithm, learning_strats=100)


def test_a_misspelt_policy_comes_with_the_right_name(algorithm):
    assert "did you mean 'MlpPolicy'" in refusal(InvalidValue, algorithm, "MlpPolcy", "CartPole-v1")


def test_a_policy_class_of_somebody_else_is_refused(algorithm):
    policy = stable_baselines3.dqn.MlpPolicy
    assert refusal(InvalidType, algorithm, policy, "CartPole-v1").startswith("policy: got class")


def test_a_continuous_action_space_is_refused(algorithm):
    told = refusal(InvalidValue, algorithm, "MlpPolicy", "Pendulum-v1")
    assert "needs a Discrete action space, but the environment has Box(1,) of float32" in told


def test_actions_that_do_not_start_at_zero_are_refused(algorithm):
    env = FakeImageEnv(screen_height=36, screen_width=36)
    env.action_space = spaces.Discrete(3, start=1)
    assert "start at 1" in refusal(InvalidValue, algorithm, "CnnPolicy", env)


@pytest.mark.parametrize(
    ("env", "hint"), [("CartPol-v1", "CartPole-v1"), ("Breakot", "Breakout"), ("NoSuchThing-v7", "NoSuchThing-v7")]
)
def test_an_unknown_environment_is_named(algorithm, env, hint):
    told = refusal(InvalidValue, algorithm, "MlpPolicy", env)
    assert env in told
    assert hint in told


def test_images_are_wanted_by_the_policy_for_images(algorithm):
    assert "for vectors use MlpPolicy" in refusal(InvalidValue, algorithm, "CnnPolicy", "CartPole-v1")


@pytest.mark.parametrize("policy_kwargs", [{"n_quantils": 50}, {"net_ach": [64]}, {"lost": "huber"}])
def test_a_key_that_neither_policy_nor_head_knows_is_named(algorithm, policy_kwargs):
    (key,) = policy_kwargs
    assert f"policy_kwargs: unknown key '{key}'" in refusal(
        InvalidType, make_agent, algorithm, policy_kwargs=policy_kwargs
    )


def test_a_key_of_another_head_is_named(name, algorithm):
    foreign = {"dqn": {"n_quantiles": 50}, "qrdqn": {"loss": "mse"}}[name]
    assert "policy_kwargs: unknown key" in refusal(InvalidType, make_agent, algorithm, policy_kwargs=foreign)


def test_a_misspelt_argument_of_the_replay_buffer_is_named(algorithm):
    told = refusal(InvalidType, make_agent, algorithm, replay_buffer_kwargs={"frame_stak": 4})
    assert "replay_buffer_kwargs: unknown key 'frame_stak'; did you mean 'frame_stack'?" in told


def test_nothing_is_built_before_the_arguments_are_checked(algorithm):
    class NeverMade(gym.Env):
        def __init__(self):
            raise AssertionError("the environment was made first")

    gym.register("NeverMade-v0", NeverMade)
    try:
        refusal(InvalidValue, algorithm, "MlpPolicy", "NeverMade-v0", batch_size=0)
    finally:
        del gym.registry["NeverMade-v0"]


# ---------------------------------------------------------------------------------------- numbers that are no numbers


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("what", ["reward", "observation", "final observation"])
def test_a_run_stops_at_a_number_that_is_none_and_says_where(algorithm, what, value):
    envs = DummyVecEnv([SpoiltEnv, lambda: SpoiltEnv(what, 30, value), SpoiltEnv])
    agent = make_agent(algorithm, env=envs, target_update_interval=100)
    told = refusal(NumericalError, agent.learn, 600)
    # the 30th vector step of three environments: step 90
    assert told.startswith(f"step 90: the {what} of environment 1 ")
    assert agent.replay_buffer.size() == 29


def test_a_spoilt_entry_of_a_dictionary_is_named(algorithm):
    class Spoilt(DictEnv):
        def step(self, action):
            observation, *rest = super().step(action)
            observation["vector"][2] = np.nan
            return (observation, *rest)

    told = refusal(NumericalError, make_agent(algorithm, "dict", env=Spoilt).learn, 100)
    assert told.startswith("step 1: the observation vector of environment 0 ")


def test_a_message_about_a_long_observation_stays_short(algorithm):
    class Wide(SpoiltEnv):
        observation_space = spaces.Box(-1, 1, (500,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.zeros(500, dtype=np.float32), {}

        def step(self, action):
            return np.full(500, np.nan, dtype=np.float32), 0.0, False, False, {}

    assert len(refusal(NumericalError, make_agent(algorithm, env=Wide).learn, 100)) < 200


def test_a_loss_that_is_no_number_stops_the_run(algorithm):
    agent = make_agent(algorithm).learn(60)
    with th.no_grad():
        next(iter(agent.q_net.parameters())).fill_(math.nan)
    before = agent._n_updates
    assert "the loss became nan" in refusal(NumericalError, agent.train, 1, 8)
    assert agent._n_updates == before
