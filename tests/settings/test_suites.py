"""Which settings count: the order of the layers, and suites that follow from the environment or are asked for."""

import pytest

from sbbatch import ALGORITHMS
from sbbatch.arguments import declared
from sbbatch.errors import UserError
from sbbatch.settings import resolution as config
from sbbatch.settings.reader import hyperparams_folder, read_yaml
from sbbatch.settings.resolution import constructor_values, require_algorithm, resolve, run_value
from sbbatch.settings.suites import SUITES
from sbbatch.zoo.run.build import make_env
from sbbatch.zoo.run.train import make_model

# key -> the layers that set it, lowest first; each layer's value is its place among them. The last one wins.
LAYERS = ["default", "suite", "environment", "game", "command line"]
SET_BY = {
    "learning_starts": [],
    "batch_size": LAYERS[:1],
    "train_freq": LAYERS[:2],
    "buffer_size": LAYERS[:3],
    "n_steps": LAYERS[:4],
    "target_update_interval": LAYERS,
}
ORIGINS = {
    "default": "hyperparams/dqn.yml default",
    "suite": "hyperparams/dqn.yml atari",
    "environment": "hyperparams/dqn.yml ALE/Pong-v5",
    "game": "hyperparams/atari/Pong.yml overrides dqn",
    "command line": "command line",
}


def values_of(layer):
    return {key: 1 + layers.index(layer) for key, layers in SET_BY.items() if layer in layers}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Packaged files in which every layer has something to say."""
    sections = {
        "default": {"n_timesteps": 10, **values_of("default")},
        "atari": values_of("suite"),
        "ALE/Pong-v5": values_of("environment"),
        "minatar": {"batch_size": 77},
    }
    (tmp_path / "dqn.yml").write_text("".join(f"{name}: {section}\n" for name, section in sections.items()))
    (tmp_path / "atari").mkdir()
    facts = (hyperparams_folder() / "atari" / "Pong.yml").read_text()
    own = facts.replace("overrides: {}", f"overrides: {{dqn: {values_of('game')}, ppo: {{batch_size: 3}}}}")
    assert own != facts
    (tmp_path / "atari" / "Pong.yml").write_text(own)
    monkeypatch.setattr(config, "hyperparams_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("key", SET_BY)
def test_each_layer_wins_over_all_below_it(folder, key):
    setting = resolve("dqn", "ALE/Pong-v5", values_of("command line"))[key]
    if not SET_BY[key]:
        default = declared(require_algorithm("dqn"))[key].default
        assert (setting.value, setting.origin) == (default, "class default")
    else:
        assert (setting.value, setting.origin) == (len(SET_BY[key]), ORIGINS[SET_BY[key][-1]])


def test_the_overrides_of_a_game_are_for_that_game_and_agent(folder):
    assert resolve("dqn", "ALE/Breakout-v5")["n_steps"].value == 2
    assert resolve("ppo", "ALE/Pong-v5", {"n_timesteps": 5})["batch_size"].value == 3


def test_a_file_of_the_users_is_complete(folder, tmp_path):
    mine = tmp_path / "mine.yml"
    mine.write_text("atari: {n_timesteps: 5, n_steps: 9}")
    settings = resolve("dqn", "ALE/Pong-v5", {}, mine)
    assert (settings["n_steps"].value, settings["batch_size"].value) == (9, 32)


def test_a_broken_file_of_the_game_is_told_and_not_passed_over(folder):
    (folder / "atari" / "Pong.yml").write_text("name: Pong\n")
    with pytest.raises(UserError, match=r"hyperparams/atari/Pong\.yml: missing key ale_id"):
        resolve("dqn", "ALE/Pong-v5")


SECTIONS = """
default: {n_timesteps: 10, batch_size: 1}
atari: {batch_size: 2, train_freq: 2, n_timesteps: 20}
atari100k: {train_freq: 3}
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(SECTIONS)
    return path


def test_a_suite_takes_the_place_of_the_environments_own_and_brings_what_it_stands_for(mine):
    settings = resolve("dqn", "ALE/Pong-v5", {}, mine, suite="atari100k")
    told = {key: (settings[key].value, settings[key].origin) for key in ("batch_size", "train_freq", "n_timesteps")}
    assert told == {
        "batch_size": (1, f"{mine} default"),
        "train_freq": (3, f"{mine} atari100k"),
        "n_timesteps": (100_000, "suite atari100k"),
    }
    assert settings["atari_protocol"].value == "atari100k"


def test_what_a_suite_stands_for_gives_way_to_every_section_above(mine):
    mine.write_text(SECTIONS.replace("{train_freq: 3}", "{n_timesteps: 30}"))
    assert resolve("dqn", "ALE/Pong-v5", {}, mine, suite="atari100k")["n_timesteps"].value == 30
    mine.write_text(SECTIONS + "ALE/Pong-v5: {n_timesteps: 40}")
    assert resolve("dqn", "ALE/Pong-v5", {}, mine, suite="atari100k")["n_timesteps"].value == 40
    assert resolve("dqn", "ALE/Pong-v5", {"n_timesteps": 50}, mine, suite="atari100k")["n_timesteps"].value == 50


def test_no_game_is_played_in_100k_steps_unless_asked(mine):
    settings = resolve("dqn", "ALE/Pong-v5", {}, mine)
    assert (settings["n_timesteps"].value, settings["train_freq"].value) == (20, 2)
    assert "atari_protocol" not in settings


def test_an_empty_section_offers_its_suite(mine):
    mine.write_text("atari100k:\n")
    assert resolve("dqn", "ALE/Pong-v5", {}, mine, suite="atari100k")["n_timesteps"].value == 100_000


@pytest.mark.parametrize(
    ("algo", "env_id", "suite", "message"),
    [
        (
            "dqn",
            "ALE/Pong-v5",
            "atari10k",
            "hyperparams/dqn.yml has no suite 'atari10k'; known: atari, atari100k",
        ),
        ("ppo", "ALE/Pong-v5", "atari100k", "has no suite 'atari100k'; known: atari, minatar, mujoco"),
        ("dqn", "ALE/Pong-v5", "CartPole-v1", "has no suite 'CartPole-v1'"),
        ("dqn", "ALE/Pong-v5", "minatar", "minatar is not for ALE/Pong-v5"),
        ("ppo", "CartPole-v1", "mujoco", "mujoco is not for CartPole-v1"),
    ],
)
def test_a_suite_that_cannot_be_played_is_refused(algo, env_id, suite, message):
    with pytest.raises(UserError) as caught:
        resolve(algo, env_id, suite=suite)
    assert str(caught.value).startswith("--suite: ")
    assert message in str(caught.value)


# ------------------------------------------------------------------------------------------------ the packaged files

ENVIRONMENTS = ["CartPole-v1", "Acrobot-v1", "LunarLander-v3", "MountainCar-v0"]
SAMPLES = {"atari": "ALE/Pong-v5", "atari100k": "ALE/Pong-v5", "minatar": "MinAtar/Breakout-v1", "mujoco": "Pusher-v5"}
# Files for -conf, which belong to one agent.
OWN_FILES = {"quickstart": "qrdqn", "btr_two_cores": "btr", "pqn_two_cores": "pqn", "ppo_abs": "ppo"}
FILES = [(algo, algo) for algo in ALGORITHMS] + [(algo, name) for name, algo in OWN_FILES.items()]
ALL_SECTIONS = [
    (algo, name, section)
    for algo, name in FILES
    for section in read_yaml(hyperparams_folder() / f"{name}.yml")
    if section != "default"
]


def test_every_packaged_file_is_tried_here():
    search_spaces = {"spaces"}
    assert {path.stem for path in hyperparams_folder().glob("*.yml")} - search_spaces == {name for _, name in FILES}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_agent_has_the_suites_and_the_environments(algo):
    sections = set(read_yaml(hyperparams_folder() / f"{algo}.yml"))
    suites = {"atari", "minatar"} | (set() if algo in ("ppo", "pqn") else {"atari100k"})
    assert suites | set(ENVIRONMENTS) <= sections


@pytest.mark.parametrize(("algo", "name", "section"), ALL_SECTIONS)
def test_every_section_counts_and_builds_its_agent(algo, name, section):
    env_id = SAMPLES.get(section, section)
    conf_file = None if name == algo else hyperparams_folder() / f"{name}.yml"
    settings = resolve(algo, env_id, {}, conf_file, suite=section if section in SUITES else None)
    own = {key for key, setting in settings.items() if setting.origin.endswith(f"{name}.yml {section}")}
    assert own == set(read_yaml(hyperparams_folder() / f"{name}.yml")[section])
    needed = {"minatar": "minatar", "LunarLander-v3": "Box2D"}
    if SUITES["mujoco"].has(env_id):
        needed[section] = "mujoco"
    if section in needed:
        pytest.importorskip(needed[section])
    n_envs = run_value(settings, "n_envs", 1)
    n_envs = (
        n_envs if SUITES["mujoco"].has(env_id) or env_id in ENVIRONMENTS else min(n_envs, 2)
    )  # games are slow to make
    env = make_env(env_id, n_envs=n_envs, normalize=run_value(settings, "normalize"))
    try:
        make_model(require_algorithm(algo), env, settings, 0, "cpu", 0)
    finally:
        env.close()


def test_the_abs_authors_ppo_is_the_same_in_both_files():
    files = [read_yaml(hyperparams_folder() / f"{name}.yml") for name in ("ppo", "ppo_abs")]
    assert files[0]["mujoco"] == files[1]["mujoco"]


def test_rainbow_in_atari_100k_is_der():
    values = constructor_values(resolve("rainbow", "Breakout", suite="atari100k"))
    keys = ("n_steps", "learning_starts", "train_freq", "target_update_interval", "batch_size", "learning_rate")
    assert [values[key] for key in keys] == [10, 1_600, 1, 2_000, 32, 1e-4]
