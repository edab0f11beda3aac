"""What every agent of the registry promises, and a new one by being registered; the page docs/new_agent.md runs."""

import copy
import inspect
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from contract_tools import (
    KINDS,
    assert_same_weights,
    differ,
    make_agent,
    observations_of,
    refusal,
    size_of,
    weights,
)

from sbbatch import ABS, ALGORITHMS
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.arguments import declared
from sbbatch.batch.protocol import BatchScalable
from sbbatch.components.bootstrap import Munchausen
from sbbatch.errors import InvalidType
from sbbatch.networks.heads import QuantileHead
from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.train import read_request


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_from_every_kind_of_observation_and_acts_on_it(any_algorithm, kind):
    agent = make_agent(any_algorithm, kind)
    before = weights(agent)
    agent.learn(120)
    assert agent.num_timesteps == 120
    # 40 steps to start with, then one update every 4 steps: (120 - 40) / 4. Rollouts of 4 steps: 30, 2 updates on each.
    assert agent._n_updates == (20 if isinstance(agent, ReplayAgent) else 60)
    after = weights(agent)
    assert differ(before, after)
    assert all(value.isfinite().all() for value in after.values())
    agent.exploration_rate = 1.0  # of which evaluation knows nothing
    first, second = (agent.predict(observations_of(agent), deterministic=True)[0] for _ in range(2))
    assert first.shape == (16,)
    assert all(agent.action_space.contains(action) for action in first)
    np.testing.assert_array_equal(first, second)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(any_algorithm):
    first, second, other = (make_agent(any_algorithm, seed=seed).learn(60) for seed in (3, 3, 4))
    assert_same_weights(weights(first), weights(second))
    assert differ(weights(first), weights(other))


def test_it_can_be_scaled_with_a_callback_that_was_told_nothing(any_algorithm):
    on_replay = issubclass(any_algorithm, ReplayAgent)
    own = {"buffer_size": 600} if on_replay else {"scale_epochs": False}  # BTR's largest batch is 512
    agent = make_agent(any_algorithm, batch_size_callback=ABS(), **own)
    assert isinstance(agent, BatchScalable)
    smallest = agent.batch_scaling.min_size
    agent.learn(48)
    assert size_of(agent) == smallest
    assert agent.num_timesteps == (48 if on_replay else -(-48 // smallest) * smallest)
    assert agent.batch_scaling_state["state"]["size"] == smallest


def test_a_saved_run_goes_on_with_the_sizes_and_weights_of_one_that_never_stopped(any_algorithm, tmp_path):
    on_replay = issubclass(any_algorithm, ReplayAgent)
    # On replay a measurement spans eight gradient steps and is interrupted in the middle.
    timing = {"check_every": 8, "updates": 8} if on_replay else {"check_every": 2}
    callback = ABS(16, 64, low=0.001, high=1.0, warmup=1, window=3, ema=0.7, **timing)
    own = {"n_steps": 1, "train_freq": 2} if on_replay else {}
    agent = make_agent(any_algorithm, batch_size_callback=callback, learning_rate=0.01, **own).learn(92)
    state = agent.batch_scaling_state["state"]
    if on_replay:
        assert state["measuring"][2] in range(1, 8)
        agent.save_replay_buffer(tmp_path / "b")
    agent.save(tmp_path / "m")
    before, n_measured = weights(agent), len(state["history"])
    env = copy.deepcopy(agent.get_env())
    agent.learn(60, reset_num_timesteps=False)

    loaded = any_algorithm.load(tmp_path / "m", env=env, force_reset=False, device="cpu")
    assert_same_weights(weights(loaded), before)
    if on_replay:
        loaded.load_replay_buffer(tmp_path / "b")
    assert loaded.batch_scaling_state["state"]["scheduler"] == state["scheduler"]
    loaded.learn(60, reset_num_timesteps=False)
    sizes = [row["size"] for row in agent.batch_size_callback.history]
    assert len(sizes) > n_measured > 1
    assert len(set(sizes)) > 1
    assert agent.batch_size_callback.history == loaded.batch_size_callback.history
    assert_same_weights(weights(agent), weights(loaded))
    assert differ(before, weights(loaded))


def test_its_constructor_names_misspelt_arguments(any_algorithm):
    assert "did you mean 'gamma'?" in refusal(InvalidType, make_agent, any_algorithm, gama=0.5)


# ---------------------------------------------------------------------------------------------------- docs/new_agent.md


PAGE = Path(__file__).parents[2] / "docs" / "new_agent.md"


@pytest.fixture
def agent_class():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    namespace = {"__name__": "munchausen_qrdqn"}
    exec(blocks[0], namespace)
    assert blocks[1].strip() == '"munchausen_qrdqn": MunchausenQRDQN,'
    return namespace["MunchausenQRDQN"]


def test_the_class_learns_and_is_saved_and_loaded(agent_class, tmp_path):
    settings = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "seed": 0, "device": "cpu"}
    agent = agent_class("MlpPolicy", "CartPole-v1", **settings).learn(60)
    assert agent.bootstrap == Munchausen(log_policy="target")
    assert isinstance(agent.q_net.head, QuantileHead)
    assert agent._n_updates > 0
    agent.save(tmp_path / "model")
    loaded = agent_class.load(tmp_path / "model", device="cpu")
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    actions = [model.predict(observations, deterministic=True)[0].tolist() for model in (agent, loaded)]
    assert actions[0] == actions[1]


def test_the_commands_of_the_page_are_understood():
    commands = re.findall(r"^sbbatch train (.*)$", PAGE.read_text().replace("\\\n", ""), re.MULTILINE)
    requests = [read_request(shlex.split(command)) for command in commands]
    assert len(requests) == 4
    quiet = requests[-1]  # without noise; then epsilon must not be what Rainbow has, 0 from the first step on
    assert quiet.settings["policy_kwargs"].value["noisy_sigma0"] == 0
    assert quiet.settings["exploration_initial_eps"].value == 1.0


def test_its_signature_shows_its_defaults(agent_class):
    parameters = inspect.signature(agent_class).parameters
    assert parameters["n_steps"].default == 3
    assert parameters["learning_rate"].default == 5e-5  # QRDQN's


def test_one_line_of_the_registry_gives_it_the_command_line(agent_class, tmp_path, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "munchausen_qrdqn", agent_class)
    conf = tmp_path / "conf.yml"
    conf.write_text("CartPole-v1: {policy: MlpPolicy, learning_starts: 20, buffer_size: 200, batch_size: 8}\n")
    words = ["--algo", "munchausen_qrdqn", "--env", "CartPole-v1", "-n", "60", "-conf", str(conf), "-f", str(tmp_path)]
    assert train.main([*words, "--eval-freq", "-1", "--verbose", "0", "--device", "cpu"]) == 0
    assert (tmp_path / "munchausen_qrdqn" / "CartPole-v1_1" / "CartPole-v1.zip").exists()


# Numbers of NumPy become Python's where they are given.
KEPT_AS = {"stats_window_size": "_stats_window_size", "n_epochs": "_own_epochs"}


def numbers_of(algorithm):
    """Every argument that may be a number, with one that is allowed."""
    small = make_agent(algorithm)
    for name, argument in declared(algorithm).items():
        value = getattr(small, KEPT_AS.get(name, name), None)
        if value is None and name not in ("exploration_decay_steps", "exploration_stop"):
            value = {int: 1, float: 0.5}.get(next(iter(set(argument.kinds) & {int, float}), None))
        if type(value) in (int, float) and {int, float} & set(argument.kinds):
            yield name, value


def test_every_number_of_an_agent_is_pythons(algorithm):
    plain = dict(numbers_of(algorithm))
    assert len(plain) > 12
    given = {name: np.float32(value) if type(value) is float else np.int64(value) for name, value in plain.items()}
    agent = make_agent(algorithm, **given)
    kept = {name: vars(agent)[KEPT_AS.get(name, name)] for name in plain}
    kept = {name: value(1.0) if callable(value) else value for name, value in kept.items()}  # SB3's schedules
    assert {name: value for name, value in kept.items() if type(value) not in (int, float)} == {}
    assert kept == pytest.approx(plain)
    agent.set_random_seed(agent.seed)
    file = io.BytesIO()
    agent.save(file)
    file.seek(0)
    changed = algorithm.load(file, learning_rate=np.float32(1e-3), seed=np.int64(3))
    assert type(changed.learning_rate) is float
    assert type(changed.seed) is int


def test_a_size_that_is_set_later_is_pythons(algorithm):
    agent = make_agent(algorithm)
    assert type(agent.resize_batch(np.uint8(8))) is int
