"""Callbacks and wrappers named in YAML: from known or allowed modules, of the kind their key asks for."""

import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest

from sbbatch import DQN
from sbbatch.envs.make import canonical_id
from sbbatch.errors import UserError
from sbbatch.settings.imports import BASE_CLASSES, import_packages, read_classes
from sbbatch.settings.reader import read_yaml
from sbbatch.settings.resolution import explicit_values, resolve, run_protocol
from sbbatch.zoo.commands.cli import main
from sbbatch.zoo.run.build import make_env

SHORT = ["train", "--algo", "dqn", "--seed", "0", "--num-threads", "1", "--eval-freq", "150", "--eval-episodes", "1"]
CARTPOLE = """CartPole-v1:
  n_timesteps: 200
  learning_starts: 100
  train_freq: 16
  policy_kwargs: "dict(net_arch=[16])"
"""
MODULE = """
import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback


class Twice(gym.RewardWrapper):
    def __init__(self, env, factor=2.0):
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return self.factor * reward


class Counts(BaseCallback):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def _on_step(self):
        return True

    def _on_training_end(self):
        with open(self.path, "w") as file:
            file.write(str(self.num_timesteps))


def Function(env):
    raise AssertionError("called")
"""


def parts(key, value, allow=()):
    """The classes that a value of a YAML file leads to."""
    named = read_classes(f"my.yml CartPole-v1 {key}", key, value)
    return [replace(part, allowed=tuple(allow)).load() for part in named]


def refusal(key, value, allow=()):
    with pytest.raises(UserError) as caught:
        parts(key, value, allow)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"my.yml CartPole-v1 {key}")
    return str(caught.value)


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user's in the working folder, where Python started from elsewhere does not look."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    (tmp_path / "wrapping_words.py").write_text(MODULE)
    yield "wrapping_words"
    sys.modules.pop("wrapping_words", None)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("gymnasium.wrappers.ClipAction", ["ClipAction"]),
        ({"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 7}}, ["TimeLimit"]),
        ({"gymnasium.wrappers.FlattenObservation": None}, ["FlattenObservation"]),
        (
            [
                "sb3_contrib.common.wrappers.TimeFeatureWrapper",
                {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 7}},
            ],
            ["TimeFeatureWrapper", "TimeLimit"],
        ),
    ],
)
def test_the_zoos_three_forms_are_read(value, names):
    assert [cls.__name__ for cls in parts("env_wrapper", value)] == names


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callback", "sbbatch.batch.ABS"),
        ("callback", {"stable_baselines3.common.callbacks.CheckpointCallback": {"save_freq": 9, "save_path": "x"}}),
        ("env_wrapper", "stable_baselines3.common.monitor.Monitor"),
        ("vec_env_wrapper", "stable_baselines3.common.vec_env.VecMonitor"),
    ],
)
def test_known_modules_need_no_permission(key, value):
    (cls,) = parts(key, value)
    assert issubclass(cls, BASE_CLASSES[key])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callback", {"subprocess.Popen": {"args": ["touch", "touched"]}}),
        ("callback", {"os.system": {"command": "touch touched"}}),
        ("callback", "stable_baselines3.common.callbacks.os.system"),
        ("callback", "stable_baselines3.common.callbacks.BaseCallback.__init__.__globals__"),
        ("env_wrapper", "gymnasium.wrappers.common.deepcopy"),
        ("callback", "gymnasium.wrappers.TimeLimit"),
        ("vec_env_wrapper", "stable_baselines3.common.vec_env.SubprocVecEnv"),
        ("env_wrapper", "gymnasium.wrappers_of_mine.Evil"),
        ("env_wrapper", "gymnasium.Wrapper"),
        ("callback", "sbbatch.zoo.run.callbacks.EpisodeLog"),
        ("callback", "..ABS"),
        ("callback", ""),
    ],
)
def test_nothing_but_a_class_of_its_kind_from_a_known_module_is_ever_called(tmp_path, monkeypatch, key, value):
    monkeypatch.chdir(tmp_path)
    refusal(key, value)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_is_not_known_is_not_even_imported(own_module):
    text = refusal("env_wrapper", f"{own_module}.Twice")
    assert f"give --allow-import {own_module} if you trust it" in text
    assert own_module not in sys.modules


def test_an_allowed_module_allows_what_lies_below_it_and_no_namesake(own_module, tmp_path):
    sys.path.append(str(tmp_path))
    (cls,) = parts("env_wrapper", {f"{own_module}.Twice": {"factor": 3.0}}, allow=[own_module])
    assert cls.__name__ == "Twice"
    assert "harmless" in refusal("env_wrapper", f"{own_module}.Twice", allow=[own_module[:-1]])
    assert "is no Wrapper" in refusal("env_wrapper", f"{own_module}.Function", allow=[own_module])
    assert "is no Wrapper" in refusal("env_wrapper", f"{own_module}.gym", allow=[own_module])
    # A class that the module only borrows is judged by where it comes from.
    (tmp_path / "borrowing_words.py").write_text("from wrapping_words import Twice\n")
    assert "harmless" in refusal("env_wrapper", "borrowing_words.Twice", allow=["borrowing_words"])
    del sys.modules["borrowing_words"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("env_wrapper", "gymnasium.wrappers.TimeLimt", "did you mean 'TimeLimit'?"),
        ("env_wrapper", "gymnasium.wrappers.nosuch.X", "gymnasium.wrappers.nosuch cannot be imported"),
        ("env_wrapper", {"gymnasium.wrappers.TimeLimit": {"max_steps": 3}}, "unknown key 'max_steps'"),
        ("env_wrapper", {"gymnasium.wrappers.TimeLimit": {"env": 3}}, "'env' is set by the agent"),
        ("env_wrapper", {"gymnasium.wrappers.TimeLimit": 3}, "got int 3, expected a dictionary of keyword arguments"),
        ("env_wrapper", {"a.B": None, "x": 1}, "got 2 names in one mapping"),
        ("env_wrapper", 3, "got int 3, expected a path such as"),
        ("vec_env_wrapper", "stable_baselines3.common.vec_env.VecNormalize", "give normalize instead"),
        ("vec_env_wrapper", "stable_baselines3.common.vec_env.VecFrameStack", "give frame_stack instead"),
    ],
)
def test_mistakes_are_one_sentence(key, value, message):
    assert message in refusal(key, value)


def test_a_class_that_refuses_its_arguments_is_one_sentence():
    (part,) = read_classes(
        "my.yml env_wrapper", "env_wrapper", {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": -1}}
    )
    with pytest.raises(UserError, match=r"my.yml env_wrapper: TimeLimit cannot be made"):
        part.make(gym.make("CartPole-v1"))


def test_wrappers_go_around_games_to_learn_from_and_to_be_judged_by():
    wrappers = read_classes("x", "env_wrapper", {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 5}})
    monitored = read_classes("x", "vec_env_wrapper", "stable_baselines3.common.vec_env.VecMonitor")
    for training in (True, False):
        env = make_env("CartPole-v1", training=training, env_wrapper=wrappers, vec_env_wrapper=monitored, frame_stack=2)
        env.reset()
        dones = [bool(env.step([0])[2][0]) for _ in range(5)]
        assert dones == [False] * 4 + [True]
        assert type(env.venv).__name__ == "VecMonitor"


def test_a_run_keeps_its_wrappers_and_needs_the_permission_again(own_module, tmp_path, capsys):
    (tmp_path / "my.yml").write_text(
        CARTPOLE + f"  env_wrapper: [{{{own_module}.Twice: {{factor: 3.0}}}}, gymnasium.wrappers.FlattenObservation]\n"
        f"  callback: {{{own_module}.Counts: {{path: counted}}}}\n"
    )
    words = [*SHORT, "-f", str(tmp_path), "-conf", "my.yml"]
    assert main(words) == 2
    assert (
        "callback: wrapping_words.Counts is not from a module that is known to be harmless" in capsys.readouterr().err
    )
    assert not (tmp_path / "dqn").exists()

    assert main([*words, "--allow-import", own_module]) == 0
    assert (tmp_path / "counted").read_text() == "208"
    run = tmp_path / "dqn/CartPole-v1_1"
    written = read_yaml(run / "CartPole-v1/config.yml")
    assert written["env_wrapper"] == [{f"{own_module}.Twice": {"factor": 3.0}}, "gymnasium.wrappers.FlattenObservation"]

    play = ["enjoy", "--algo", "dqn", "--env", "CartPole-v1", "-f", str(tmp_path), "-n", "1"]
    capsys.readouterr()
    for command in (play, ["train", "--resume", str(run), "-n", "300"]):
        assert main(command) == 2
        assert f"give --allow-import {own_module}" in capsys.readouterr().err
        assert main([*command, "--allow-import", own_module]) == 0
    assert (tmp_path / "counted").read_text() == "304"


def test_the_example_of_the_docs_runs(tmp_path):
    text = (Path(__file__).parents[2] / "docs/training.md").read_text().partition("```yaml\n")[2]
    (tmp_path / "my.yml").write_text(text.partition("```")[0])
    words = [*SHORT, "-n", "2000", "--eval-freq", "-1", "--log-interval", "-2", "-f", str(tmp_path)]
    params = ["-params", "policy_kwargs:dict(net_arch=[8])", "learning_starts:1990"]
    assert main([*words, "-conf", str(tmp_path / "my.yml"), *params]) == 0
    lines = (tmp_path / "dqn/CartPole-v1_1/progress.csv").read_text().splitlines()
    assert len(lines) == 1 + 2


def test_atari_games_take_sb3s_wrapper_as_the_protocol_it_stands_for(tmp_path, capsys):
    wrapper = "env_wrapper: [stable_baselines3.common.atari_wrappers.AtariWrapper]\n  frame_stack: 4"
    path = tmp_path / "my.yml"
    path.write_text(f"atari:\n  n_timesteps: 100\n  {wrapper}\n")
    settings = resolve("dqn", "ALE/Pong-v5", conf_file=path)
    assert run_protocol("ALE/Pong-v5", DQN, settings) == "sb3"
    settings = resolve("dqn", "ALE/Pong-v5", {"atari_protocol": "dopamine"}, path)
    with pytest.raises(
        UserError, match="AtariWrapper stands for the protocol sb3, but command line has atari_protocol"
    ):
        run_protocol("ALE/Pong-v5", DQN, settings)
    assert "env_wrapper" in explicit_values(settings)


@pytest.mark.parametrize(
    "wrapper",
    ["gymnasium.wrappers.ClipReward", {"stable_baselines3.common.atari_wrappers.AtariWrapper": {"noop_max": 3}}],
)
def test_atari_games_take_no_other_wrapper(wrapper):
    wrappers = read_classes("my.yml atari env_wrapper", "env_wrapper", wrapper)
    with pytest.raises(UserError, match=r"my.yml atari env_wrapper: got .*atari_protocol"):
        make_env("ALE/Pong-v5", env_wrapper=wrappers)
    with pytest.raises(UserError, match=r"env_kwargs: got .*atari_protocol"):
        make_env("ALE/Pong-v5", env_kwargs={"mode": 3})


@pytest.mark.parametrize("name", ["nosuch_package", "a b", ".x", ""])
def test_a_package_that_cannot_be_imported_is_one_sentence(name):
    with pytest.raises(UserError, match="--gym-packages: "):
        import_packages([name])


@pytest.mark.parametrize(
    ("env_id", "package"),
    [
        ("MiniGrid-Empty-5x5-v0", "minigrid"),
        ("BabyAI-GoToLocal-v0", "minigrid"),
        ("highway-fast-v0", "highway_env"),
        ("PandaReach-v3", "panda_gym"),
    ],
)
def test_an_environment_of_a_known_package_names_the_option(env_id, package):
    with pytest.raises(UserError, match=f"--gym-packages {package}"):
        canonical_id(env_id)


def test_a_package_that_is_there_is_not_asked_for_again(monkeypatch):
    monkeypatch.setitem(sys.modules, "minigrid", sys)
    with pytest.raises(UserError) as caught:
        canonical_id("MiniGrid-Emptyy-5x5-v0")
    assert "pip install" not in str(caught.value)
