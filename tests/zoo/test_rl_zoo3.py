"""An installed rl-baselines3-zoo knows our agents. It patches Gymnasium, so it is run in processes of its own."""

import importlib.util
import inspect
import os
import subprocess
import sys
from itertools import product

import pytest
import yaml

import sbbatch
from sbbatch.errors import InvalidValue
from sbbatch.settings.resolution import require_algorithm
from sbbatch.zoo import register, rl_zoo3
from sbbatch.zoo.commands import rl_zoo3 as command

INSTALLED = importlib.util.find_spec("rl_zoo3") is not None
with_zoo = pytest.mark.skipif(not INSTALLED, reason="rl_zoo3 is not installed: pip install 'sbbatch[zoo]'")
SMALL = "-params policy_kwargs:dict(net_arch=[16]) buffer_size:1000 learning_starts:100 train_freq:16 gradient_steps:1"


def run(folder, *words):
    """A process with its output."""
    command = [sys.executable, *words]
    found = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return found.returncode, found.stdout + found.stderr


def zoo(folder, words):
    code, told = run(folder, "-m", "sbbatch.zoo.commands.rl_zoo3", *words.split())
    assert code == 0, told
    return told


class Trial:
    """Takes the lowest or the highest of everything that is suggested."""

    def __init__(self, highest):
        self.highest, self.params, self.attributes = highest, {}, {}

    def _chosen(self, name, low, high):
        self.params[name] = high if self.highest else low
        return self.params[name]

    def suggest_int(self, name, low, high, log=False):
        return self._chosen(name, low, high)

    suggest_float = suggest_int

    def suggest_categorical(self, name, choices):
        return self._chosen(name, choices[0], choices[-1])

    def set_user_attr(self, name, value):
        self.attributes[name] = value


@pytest.mark.parametrize("highest", [False, True])
@pytest.mark.parametrize("algo", sbbatch.ALGORITHMS)
def test_what_a_trial_samples_is_what_the_agent_takes(algo, highest):
    trial = Trial(highest)
    arguments = rl_zoo3.sampler(algo)(trial, 2, 1, {})
    assert rl_zoo3.converter(algo)(trial.params) == arguments  # as when the best trial is loaded again
    assert set(arguments) <= set(inspect.signature(require_algorithm(algo)).parameters)
    assert trial.attributes.items() <= arguments.items()
    small = {"buffer_size": 2000} if "buffer_size" in inspect.signature(require_algorithm(algo)).parameters else {}
    assert require_algorithm(algo)("MlpPolicy", "CartPole-v1", **{**small, **arguments}).gamma == arguments["gamma"]


def test_every_rollout_that_is_sampled_splits_into_its_minibatches():
    import optuna

    for n_envs, seed in product((1, 2, 8), range(30)):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
        arguments = rl_zoo3.sampler("pqn")(trial, 2, n_envs, {})
        assert arguments["n_steps"] * n_envs % arguments["n_minibatches"] == 0


@pytest.mark.parametrize("algo", ["btr", "qrdqn", "pqn", "ppo"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "BreakoutNoFrameskip-v4", "Acrobot-v1"])
def test_our_hyperparameters_in_the_form_of_the_zoo(algo, env_id):
    found = rl_zoo3.hyperparameters(algo, env_id, 5000)
    assert found["n_timesteps"] == 5000
    own = {"n_timesteps", "policy", "n_envs", "frame_stack", "normalize", "env_wrapper", "env_kwargs"}
    assert set(found) - own <= set(inspect.signature(require_algorithm(algo)).parameters)
    assert ("env_wrapper" in found) == (found["policy"] == "CnnPolicy") == ("Breakout" in env_id)
    for key in ("learning_rate", "clip_range"):
        assert isinstance(found.get(key, 0.1), float) or found[key].startswith("lin_")
    # The zoo writes them down, and reads them again without a safe loader.
    again = yaml.load(yaml.dump(found), Loader=yaml.UnsafeLoader)
    assert set(again) == set(found)


def test_a_run_without_a_length_is_refused():
    with pytest.raises(InvalidValue, match="missing key n_timesteps"):
        rl_zoo3.hyperparameters("iqn", "Taxi-v3")


@pytest.mark.skipif(INSTALLED, reason="rl_zoo3 is installed")
def test_without_the_zoo_there_is_one_sentence(capsys):
    with pytest.raises(InvalidValue, match=r"not installed; run pip install 'sbbatch\[zoo\]'"):
        register()
    assert command.main(["train"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [(["trian"], "unknown command 'trian' of rl_zoo3; did you mean 'train'?"), ([], "required: command")],
)
def test_a_mistake_is_one_sentence(capsys, words, told):
    assert command.main(words) == 2
    assert told in capsys.readouterr().err


@with_zoo
def test_the_zoos_own_agents_stay_unless_they_shall_be_replaced(tmp_path):
    code = """if True:
    import stable_baselines3, sbbatch, sbbatch.zoo
    names = sbbatch.zoo.register()
    from rl_zoo3.utils import ALGOS
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    new = {"btr", "compact_rainbow", "der", "drq", "iqn", "pqn", "rainbow", "spr"}
    assert set(names) == new | {"sbbatch_dqn", "sbbatch_ppo", "sbbatch_qrdqn"}, names
    assert sbbatch.zoo.register() == names
    assert all(name in table for name in names for table in (ALGOS, HYPERPARAMS_SAMPLER, HYPERPARAMS_CONVERTER))
    assert ALGOS["dqn"] is stable_baselines3.DQN
    assert issubclass(ALGOS["sbbatch_dqn"], sbbatch.DQN) and issubclass(ALGOS["iqn"], sbbatch.IQN)
    assert "dqn" in sbbatch.zoo.register(replace=True)
    assert issubclass(ALGOS["dqn"], sbbatch.DQN) and ALGOS["dqn"].__name__ == "DQN"
    assert "sbbatch_dqn" in sbbatch.zoo.register()
    """
    assert run(tmp_path, "-c", code) == (0, "")


@with_zoo
def test_the_zoo_trains_plays_and_trains_on(tmp_path):
    common = "--algo iqn --env CartPole-v1 -f logs --num-threads 1"
    told = zoo(tmp_path, f"train {common} -n 400 --eval-freq 200 --eval-episodes 1 --seed 0 {SMALL}")
    assert "sbbatch.zoo.rl_zoo3" in told  # where the hyperparameters come from
    assert (tmp_path / "logs/iqn/CartPole-v1_1/best_model.zip").exists()
    assert "Mean reward" in zoo(tmp_path, f"enjoy {common} --no-render -n 200")
    model = tmp_path / "logs/iqn/CartPole-v1_1/CartPole-v1.zip"
    assert "Saving to" in zoo(tmp_path, f"train {common} -n 200 --eval-freq -1 -i {model} {SMALL}")
    assert sbbatch.ALGORITHMS["iqn"].load(model).num_timesteps >= 400  # the model is ours


@with_zoo
def test_ours_stand_in_for_the_zoos_own_agents_with_its_hyperparameters(tmp_path):
    words = "--replace train --algo dqn --env CartPole-v1 -f logs --num-threads 1 -n 200 --eval-freq -1"
    assert "sbbatch.zoo.rl_zoo3" not in zoo(tmp_path, f"{words} {SMALL}")
    assert sbbatch.DQN.load(tmp_path / "logs/dqn/CartPole-v1_1/CartPole-v1.zip").num_timesteps >= 200


@with_zoo
def test_the_zoo_searches(tmp_path):
    words = (
        "train --algo pqn --env CartPole-v1 -f logs -n 300 -optimize --n-trials 2 --n-evaluations 1 --eval-episodes 1"
    )
    told = zoo(tmp_path, f"{words} --no-optim-plots --num-threads 1 -params policy_kwargs:dict(net_arch=[16])")
    assert "Number of finished trials:  2" in told
    assert "log2_n_minibatches" in told


@with_zoo
def test_the_zoo_plays_atari_by_the_protocol_of_the_agent(tmp_path):
    code = """if True:
    import sys, argparse, sbbatch.zoo, numpy as np
    sbbatch.zoo.register()
    from rl_zoo3.exp_manager import ExperimentManager
    manager = ExperimentManager(argparse.Namespace(), "iqn", "ALE/Breakout-v5", "logs", n_timesteps=1000, eval_freq=-1)
    hyperparams, *_ = manager._preprocess_hyperparams(manager.read_hyperparameters()[0])
    manager.env_wrapper = _[0]
    for eval_env in (False, True):
        env = manager.create_envs(1, eval_env=eval_env, no_log=True)
        ale = env.envs[0].unwrapped
        assert env.observation_space.shape == (4, 84, 84), env.observation_space
        assert ale._frameskip == 1 and ale.ale.getFloat("repeat_action_probability") == 0.25
        env.reset()
        before = ale.ale.getEpisodeFrameNumber()
        env.step(np.array([0]))
        assert ale.ale.getEpisodeFrameNumber() - before == 4
    """
    code, told = run(tmp_path, "-c", code)
    assert code == 0, told
