"""The adapter over ALE's C++ vector environment: pixels, episode ends, SB3's contract."""

from dataclasses import replace

import ale_py
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecTransposeImage

from sbbatch.envs import PROTOCOLS, AleVecEnv, make_ale_vec_env
from sbbatch.errors import InvalidType, InvalidValue

gym.register_envs(ale_py)

# Deterministic and raw; tests change the one thing they are about.
PLAIN = replace(PROTOCOLS["dopamine"], name="plain", sticky_actions=0.0, clip_rewards=False)


def rollout(env, n_steps, seed=0):
    """Random actions, given by ``seed``; the list of (observations, rewards, dones, infos)."""
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(0, env.action_space.n, env.num_envs)) for _ in range(n_steps)]


def gymnasium_env(game, sticky_actions):
    env = gym.make(f"ALE/{game}-v5", frameskip=1, repeat_action_probability=sticky_actions)
    env = AtariPreprocessing(env, noop_max=0, frame_skip=4)
    return FrameStackObservation(env, 4, padding_type="zero")


def seed_ale(env, seed):
    # Gymnasium derives ALE's seed from its own generator; the C++ vector takes it as it is.
    env.unwrapped.ale.setInt("random_seed", seed)
    env.unwrapped.ale.loadROM(ale_py.roms.get_rom_path(env.unwrapped._game))


@pytest.mark.parametrize(("game", "sticky_actions"), [("Breakout", 0.0), ("Seaquest", 0.25)])
def test_stacks_rewards_and_ends_equal_gymnasiums_preprocessing_frame_for_frame(game, sticky_actions):
    reference = gymnasium_env(game, sticky_actions)
    seed_ale(reference, 7)
    expected, _ = reference.reset()
    env = make_ale_vec_env(game, protocol=replace(PLAIN, sticky_actions=sticky_actions), seed=7)
    np.testing.assert_array_equal(env.reset()[0], expected)
    rng, n_games = np.random.default_rng(0), 0
    for _ in range(500):
        action = rng.integers(0, env.action_space.n, 1)
        expected, reward, terminated, truncated, info = reference.step(action[0])
        observations, rewards, dones, infos = env.step(action)
        assert rewards[0] == reward
        assert dones[0] == (terminated or truncated)
        if dones[0]:
            n_games += 1
            np.testing.assert_array_equal(infos[0]["terminal_observation"], expected)
            expected, info = reference.reset()
        np.testing.assert_array_equal(observations[0], expected)
        assert infos[0]["lives"] == info["lives"]
    assert n_games >= (game == "Breakout")


@pytest.mark.parametrize("game", ["ALE/Breakout-v5", "BreakoutNoFrameskip-v4"])
def test_every_id_skips_four_frames_per_agent_step(game):
    env = make_ale_vec_env(game, protocol=PLAIN, seed=0)
    env.reset()
    frames = [env._vector.step(np.zeros(1, dtype=np.int64))[4]["frame_number"][0] for _ in range(5)]
    assert frames == [4, 8, 12, 16, 20]


def test_raw_returns_of_whole_games_are_reported_under_clipping_and_life_loss():
    # Seaquest pays 20 points for a fish: clipped 1.
    learning = replace(PLAIN, life_loss_terminal=True, clip_rewards=True)
    env, raw = (make_ale_vec_env("Seaquest", 2, protocol=p, seed=5) for p in (learning, PLAIN))
    env.reset(), raw.reset()
    totals, lengths, n_games, n_borders = np.zeros(2), np.zeros(2), 0, 0
    for (_, clipped, dones, infos), (_, rewards, overs, raw_infos) in zip(
        rollout(env, 700), rollout(raw, 700), strict=True
    ):
        totals += rewards
        lengths += 1
        np.testing.assert_array_equal(clipped, np.clip(rewards, -1, 1))
        assert clipped.dtype == rewards.dtype == np.float32
        for i in range(2):
            assert ("episode" in infos[i]) == ("episode" in raw_infos[i]) == overs[i]
            n_borders += dones[i] and not overs[i]
            if overs[i]:
                n_games += 1
                assert dones[i]
                assert infos[i]["episode"]["r"] == raw_infos[i]["episode"]["r"] == totals[i]
                assert infos[i]["episode"]["l"] == raw_infos[i]["episode"]["l"] == lengths[i]
                assert infos[i]["episode"]["t"] > 0
                totals[i] = lengths[i] = 0
    assert n_games >= 2
    assert n_borders >= 3


def test_a_lost_life_ends_the_learning_episode_and_blackens_older_planes_until_they_are_seen_anew():
    env, whole = (
        make_ale_vec_env("Breakout", protocol=replace(PLAIN, life_loss_terminal=flag), seed=0) for flag in (True, False)
    )
    env.reset(), whole.reset()
    age, n_lost, n_over, lives = 4, 0, 0, 5
    for (seen, _, dones, infos), (full, _, overs, _) in zip(rollout(env, 400), rollout(whole, 400), strict=True):
        age = min(age + 1, 4)
        if overs[0]:
            n_over += 1
            assert dones[0]
            assert "episode" in infos[0]
            age = 4  # black planes of a new game are in the full stack as well
        elif infos[0]["lives"] < lives:
            n_lost += 1
            assert dones[0]
            assert not infos[0]["TimeLimit.truncated"]
            assert "episode" not in infos[0]
            expected = full[0].copy()
            expected[: 4 - age] = 0
            np.testing.assert_array_equal(infos[0]["terminal_observation"], expected)
            age = 1
        else:
            assert not dones[0]
            assert "terminal_observation" not in infos[0]
        lives = infos[0]["lives"]
        np.testing.assert_array_equal(seen[0, 4 - age :], full[0, 4 - age :])
        assert not seen[0, : 4 - age].any()
    assert n_lost >= 4
    assert n_over >= 1


def lives_env(lives, dones=None, frame_stack=4):
    """An adapter over a stand-in whose lives counter is scripted; screens are all ones, final screens all twos."""

    class Scripted:
        def __init__(self):
            self.step = 0

        def send(self, actions, paddle):
            self.step += 1

        def recv(self):
            over = np.array([bool(dones and dones[self.step])])
            stack = np.ones((1, frame_stack, 84, 84), dtype=np.uint8)
            info = {"lives": np.array([lives[self.step]], dtype=np.int32), "final_obs": 2 * stack}
            return stack, np.array([3], dtype=np.int32), over, np.array([False]), info

    env = make_ale_vec_env("Pong", protocol=replace(PLAIN, life_loss_terminal=True, frame_stack=frame_stack), seed=0)
    env.reset()
    env._ale, env._lives = Scripted(), np.array([lives[0]], dtype=np.int32)
    return env


def test_lives_that_go_up_end_nothing_and_the_counter_of_the_next_game_is_not_a_lost_life():
    env = lives_env([3, 4, 4, 2, 3, 1], dones=[0, 0, 0, 1, 0, 0])
    steps = [env.step([0]) for _ in range(5)]
    assert [bool(dones[0]) for _, _, dones, _ in steps] == [False, False, True, False, True]
    assert ["episode" in infos[0] for *_, infos in steps] == [False, False, True, False, False]
    assert steps[2][3][0]["episode"]["r"] == 9
    assert steps[2][0].all()


def test_a_game_over_shortly_after_a_lost_life_blackens_the_final_stack_too():
    env = lives_env([3, 2, 2, 5], dones=[0, 0, 0, 1])
    steps = [env.step([0]) for _ in range(3)]
    assert [int(obs[0, :, 0, 0].sum()) for obs, *_ in steps] == [1, 2, 4]
    assert steps[2][3][0]["terminal_observation"][:, 0, 0].tolist() == [0, 2, 2, 2]


def test_two_lives_lost_in_a_row_end_two_episodes():
    env = lives_env([3, 2, 1, 1])
    steps = [env.step([0]) for _ in range(3)]
    assert [bool(dones[0]) for _, _, dones, _ in steps] == [True, True, False]
    assert steps[1][3][0]["terminal_observation"][:, 0, 0].tolist() == [0, 0, 1, 1]
    assert steps[2][0][0, :, 0, 0].tolist() == [0, 0, 1, 1]


def test_the_frame_cap_truncates_without_terminating():
    env = make_ale_vec_env("Pong", 2, protocol=replace(PROTOCOLS["atari100k"], max_frames=40), seed=0)
    env.reset()
    for step, (_, _, dones, infos) in enumerate(rollout(env, 25), start=1):
        # 40 frames are 10 agent steps, whatever the number of no-ops before.
        assert dones.tolist() == [step % 10 == 0] * 2
        for info in infos:
            assert info["TimeLimit.truncated"] == (step % 10 == 0)
            if step % 10 == 0:
                assert info["episode"]["l"] == 10
                assert info["terminal_observation"].shape == (4, 84, 84)


@pytest.mark.parametrize("game", ["Pong", "Freeway"])
def test_games_without_lives_never_end_by_losing_one(game):
    env = make_ale_vec_env(game, protocol="atari100k", seed=0)
    env.reset()
    for _, _, dones, infos in rollout(env, 150):
        assert not dones.any()
        assert infos == [{"lives": 0, "TimeLimit.truncated": False}]


@pytest.mark.parametrize("n_envs", [1, 6])
def test_one_and_many_environments_step(n_envs):
    env = make_ale_vec_env("Breakout", n_envs, protocol=replace(PROTOCOLS["atari100k"], noop_max=1), seed=0)
    assert env.reset().shape == (n_envs, 4, 84, 84)
    for observations, rewards, dones, infos in rollout(env, 3):
        assert env.observation_space.contains(observations[0])
        assert observations.shape == (n_envs, 4, 84, 84)
        assert rewards.shape == dones.shape == (n_envs,)
        assert (rewards.dtype, dones.dtype, len(infos)) == (np.float32, bool, n_envs)
    if n_envs > 1:
        frames = env._vector.step(np.zeros(n_envs, dtype=np.int64))[4]["episode_frame_number"]
        assert set((frames - 16).tolist()) == {0, 1}  # no-ops at the start
    env.close()


def test_observations_belong_to_the_caller():
    env = make_ale_vec_env("Breakout", 2, protocol="pqn", seed=0)
    first = env.reset()
    kept = [first] + [step[0] for step in rollout(env, 10)]
    copies = [array.copy() for array in kept]
    rollout(env, 10)
    assert all((array == copy).all() for array, copy in zip(kept, copies, strict=True))


def trajectory(env, n_steps=15):
    first = env.reset()
    steps = rollout(env, n_steps)
    return np.stack([first] + [step[0] for step in steps]), np.stack([step[1] for step in steps])


def test_a_seed_gives_the_same_trajectory_for_any_number_of_threads_and_is_used_once_like_in_sb3():
    one = make_ale_vec_env("Breakout", 2, protocol="btr", seed=3, num_threads=1)
    two = make_ale_vec_env("Breakout", 2, protocol="btr", seed=3, num_threads=2)
    runs = []
    for seed in (None, None, 3):  # the second reset is not seeded and goes on with the generators
        if seed is not None:
            assert one.seed(seed) == two.seed(seed) == [3, 4]
        runs.append(trajectory(one))
        for a, b in zip(runs[-1], trajectory(two), strict=True):
            np.testing.assert_array_equal(a, b)
    assert (runs[0][0] != runs[1][0]).any()
    np.testing.assert_array_equal(runs[0][0], runs[2][0])
    one.seed(2**32 - 1)  # the largest that SB3 draws
    one.reset()


def test_copies_and_unseeded_environments_differ():
    unseeded = [trajectory(make_ale_vec_env("Breakout", 1, protocol="btr"), 30)[0] for _ in range(2)]
    assert (unseeded[0] != unseeded[1]).any()
    for seed in (3, None):
        # Only the sticky actions tell these copies apart; left to itself, ale-py seeds them all by the clock.
        env = make_ale_vec_env("Breakout", 2, protocol="dopamine", seed=seed)
        env.reset()
        steps = [env.step(np.full(2, 1 + (step // 3) % 3))[0] for step in range(40)]
        assert any((step[0] != step[1]).any() for step in steps)


def test_evaluation_keeps_the_game_and_drops_clipping_and_life_loss():
    env = make_ale_vec_env("Seaquest", protocol="pqn", seed=1, training=False)
    env.reset()
    steps = rollout(env, 500)
    assert env.protocol == PROTOCOLS["pqn"].evaluation()
    assert max(rewards[0] for _, rewards, _, _ in steps) == 20
    assert all(("episode" in infos[0]) == dones[0] for _, _, dones, infos in steps)


@pytest.mark.parametrize(
    ("kwargs", "kind", "message"),
    [
        ({"n_envs": 0}, InvalidValue, "n_envs: got 0"),
        ({"n_envs": 129}, InvalidValue, "n_envs: got 129"),
        ({"n_envs": 2.5}, InvalidType, "n_envs: got float 2.5"),
        ({"game": "ALE/Brekout-v5"}, InvalidValue, "did you mean 'ALE/Breakout-v5'?"),
        ({"num_threads": -1}, InvalidValue, "num_threads: got -1"),
        ({"seed": -1}, InvalidValue, "seed: got -1"),
    ],
)
def test_a_bad_argument_is_refused(kwargs, kind, message):
    with pytest.raises(kind) as error:
        make_ale_vec_env(**{"game": "Breakout", **kwargs})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("actions", "kind"),
    [([0, 99], InvalidValue), ([-1, 0], InvalidValue), ([0], InvalidValue), ([0.0, 1.0], InvalidType)],
)
def test_a_bad_action_is_refused_and_the_environment_lives_on(actions, kind):
    env = make_ale_vec_env("Breakout", 2, seed=0)
    env.reset()
    with pytest.raises(kind, match="actions: got "):
        env.step(np.array(actions))
    env.step(np.array([0, 3], dtype=np.uint8))


def test_calls_out_of_order_are_refused_instead_of_hanging():
    env = make_ale_vec_env("Breakout", seed=0)
    assert env.get_images() == [None]
    with pytest.raises(InvalidValue, match="call reset"):
        env.step([0])
    env.reset()
    with pytest.raises(InvalidValue, match="no step is under way"):
        env.step_wait()
    env.step_async([0])
    with pytest.raises(InvalidValue, match="the last step is still under way"):
        env.step_async([0])
    env.reset()  # drops the step under way
    env.step_async([0])
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step([0])):
        with pytest.raises(InvalidValue, match="this AleVecEnv is closed"):
            call()


def test_the_rest_of_sb3s_contract():
    env = make_ale_vec_env("ms_pacman", 2, protocol="sb3", seed=0)
    assert isinstance(env, AleVecEnv)
    assert (env.game, env.frame_stack, env.protocol, env.num_envs) == ("MsPacman", 4, PROTOCOLS["sb3"], 2)
    assert env.observation_space == gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    assert env.action_space == gym.spaces.Discrete(9)
    observations = env.reset()
    assert env.reset_infos == [{"lives": 3}, {"lives": 3}]
    assert env.render_mode is None
    assert env.get_attr("render_mode") == [None, None]
    assert env.get_attr("game", [1]) == ["MsPacman"]
    assert not env.has_attr("nonsense")
    env.set_attr("note", 5)
    assert env.get_attr("note", 0) == [5]
    with pytest.raises(InvalidValue, match="set_attr: 'note' is shared by all 2 environments; omit indices"):
        env.set_attr("note", 6, [0])
    assert env.env_method("get_action_meanings")[1][0] == "NOOP"
    with pytest.raises(AttributeError, match="have no method 'reset'"):
        env.env_method("reset")
    assert env.env_is_wrapped(Monitor) == [True, True]
    assert env.env_is_wrapped(AtariPreprocessing, [0]) == [False]
    images = env.get_images()
    assert images[0].shape == (84, 84, 3)
    np.testing.assert_array_equal(images[1][:, :, 0], observations[1, -1])


class RandomPolicy:
    """The one method that SB3's ``evaluate_policy`` needs."""

    def __init__(self, n_actions):
        self.n_actions, self.rng = n_actions, np.random.default_rng(0)

    def predict(self, observations, state=None, episode_start=None, deterministic=True):
        return self.rng.integers(0, self.n_actions, len(observations)), state


def test_sb3s_evaluate_policy_counts_whole_games_with_raw_rewards_and_does_not_warn(recwarn):
    # Even in the training environment, where lives end episodes and rewards are clipped.
    protocol = replace(PROTOCOLS["atari100k"], max_frames=1_000)
    env = make_ale_vec_env("Seaquest", 2, protocol=protocol, seed=0)
    returns, lengths = evaluate_policy(RandomPolicy(18), env, n_eval_episodes=2, return_episode_rewards=True)
    twin = make_ale_vec_env("Seaquest", 2, protocol=protocol, seed=0, training=False)
    twin.reset()
    policy, games = RandomPolicy(18), []
    observations = twin.reset_infos
    while len(games) < 2:
        infos = twin.step(policy.predict(observations)[0])[3]
        games += [info["episode"] for info in infos if "episode" in info]
    assert len(returns) == 2
    assert returns[0] == games[0]["r"]
    assert lengths[0] == games[0]["l"]
    assert all(value % 20 == 0 for value in returns)
    assert not [warning for warning in recwarn if "Monitor" in str(warning.message)]


def test_sb3_learns_on_it_without_transposing_the_images():
    from stable_baselines3 import DQN

    env = make_ale_vec_env("Breakout", 2, protocol="sb3", seed=0)
    model = DQN("CnnPolicy", env, buffer_size=100, learning_starts=20, batch_size=4, seed=1)
    assert not isinstance(model.get_env(), VecTransposeImage)
    model.learn(60)
    assert model.num_timesteps >= 60


@pytest.mark.filterwarnings("ignore:The environment is already wrapped")
def test_vec_monitor_can_wrap_it():
    env = VecMonitor(make_ale_vec_env("Breakout", protocol=replace(PLAIN, max_frames=40), seed=0))
    env.reset()
    episodes = [infos[0]["episode"] for *_, infos in (env.step([0]) for _ in range(10)) if "episode" in infos[0]]
    assert [episode["l"] for episode in episodes] == [10]
