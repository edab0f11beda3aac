"""The options of rl-baselines3-zoo's train.py: with its meaning, or refused in one sentence that names the way."""

import os
import shlex
import signal
import sys
import threading
import types

import gymnasium as gym
import pytest
from run_tools import PARAMS, SHORT, cartpole, interrupt_when, refusal, run_folder

from sbbatch import ALGORITHMS, DQN
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.commands import enjoy, train
from sbbatch.zoo.commands.cli import Parser
from sbbatch.zoo.commands.options import OPTIONS, refuse_options_of_training, train_parser
from sbbatch.zoo.commands.train import read_request
from sbbatch.zoo.run.build import ApartEnv

# All options of the parser of rl_zoo3 2.9.2.
ZOO_OPTIONS = """--algo --env -tb --tensorboard-log -i --trained-agent --truncate-last-trajectory -n --n-timesteps
--num-threads --log-interval --eval-freq --optimization-log-path --eval-episodes --n-eval-envs --save-freq
--save-replay-buffer -f --log-folder --seed --vec-env --device --n-trials --max-total-trials -optimize
--optimize-hyperparameters --no-optim-plots --n-jobs --sampler --pruner --n-startup-trials --n-evaluations
--storage --study-name --trial-id --verbose --gym-packages --env-kwargs --eval-env-kwargs -params
--hyperparams -conf --conf-file -uuid --uuid --track --wandb-project-name --wandb-entity --wandb-group -P
--progress -tags --wandb-tags""".split()  # noqa: SIM905
# The train commands of its README and its guides, with agents and environments that are here.
ZOO_COMMANDS = """python train.py --algo ppo --env HalfCheetah-v5 --eval-freq 10000 --eval-episodes 10 --n-eval-envs 1
python -m rl_zoo3.train --algo ppo --env CartPole-v1 --eval-freq 10000 --save-freq 50000
python train.py --algo ppo --env CartPole-v1 --tensorboard-log stable-baselines/
python train.py --algo dqn --env CartPole-v1 --save-replay-buffer
python train.py --algo dqn --env MountainCar-v0 -n 5000 --env-kwargs goal_velocity:10
python train.py --algo ppo --env Pendulum-v1 --hyperparams learning_rate:0.001 policy_kwargs:"dict(net_arch=[64, 64])"
python train.py --algo dqn --env BreakoutNoFrameskip-v4 --vec-env subproc -P -uuid""".splitlines()
PACKAGE = """
import gymnasium as gym

gym.register("Own/Cart-v0", "gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=50)
"""


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A package that registers an environment, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_games.py").write_text(PACKAGE)
    yield "own_games"
    sys.modules.pop("own_games", None)
    gym.registry.pop("Own/Cart-v0", None)


def test_every_option_of_the_zoo_is_known():
    ours = {name for action in train_parser()._actions for name in action.option_strings}
    assert set(ZOO_OPTIONS) - ours - set(train.TUNE_WORDS) == set()


@pytest.mark.parametrize("command", ZOO_COMMANDS)
def test_a_command_of_the_zoo_is_a_command_of_ours(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in shlex.split(command) if word not in ("python", "train.py", "-m", "rl_zoo3.train")]
    request = read_request(words)
    assert request.n_timesteps >= 5000
    assert list(tmp_path.iterdir()) == []


def test_optimizing_hands_all_other_words_to_the_tuner(monkeypatch):
    told = []
    tuner = types.ModuleType("sbbatch.zoo.commands.tune")
    tuner.main = lambda argv: told.append(argv) or 7
    monkeypatch.setitem(sys.modules, "sbbatch.zoo.commands.tune", tuner)
    words = shlex.split("--algo ppo --env MountainCar-v0 -n 50000 -optimize --n-trials 1000 --n-jobs 2 --sampler tpe")
    assert train.main(words) == 7
    assert train.main(["--optimize-hyperparameters", "--storage", "x.db"]) == 7
    assert told == [[word for word in words if word != "-optimize"], ["--storage", "x.db"]]


def test_a_study_refuses_options_of_training_with_the_way_to_go(capsys):
    parser = Parser()
    refuse_options_of_training(parser)
    for option in OPTIONS:
        if option.in_tune is not None:
            told = refusal(capsys, option.flags[0], main=lambda words: train.guarded(parser.parse_args)(words))
            assert told == f"sbbatch: error: {option.flags[0]}: {option.in_tune}"


def test_the_help_names_every_algorithm():
    words = " ".join(train_parser().format_help().split())
    assert f"algorithm: {', '.join(ALGORITHMS)} (default: qrdqn)" in words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n-trials", "1000"], "--n-trials: it belongs to tuning; add -optimize, or give it to `sbbatch tune`"),
        (["--trial-id", "21"], "--trial-id: no study is read"),
        (["-conf", "hyperparams/ppo_config.py"], "is a program, which would be run; write its values as a YAML file"),
        (["-params", "frame_stack:99999999999"], "frame_stack: got 99999999999"),
        (["--vec-env", "threads"], "--vec-env: invalid choice: 'threads'"),
        (["--truncate-last-trajectory", "maybe"], "got 'maybe', expected true or false"),
        (["--env-kwargs", "gravity=3"], "--env-kwargs: expected key:value, got 'gravity=3'; did you mean gravity:3?"),
        (["--env-kwargs", "a:1", "-params", "env_kwargs:dict(a=2)"], "env_kwargs is given twice"),
        (["--env-kwargs", "gravty:1"], "env_kwargs: CartPole-v1 cannot be made with {'gravty': 1} ("),
        (["--env-kwargs", "gravty:1", "--vec-env", "subproc"], "env_kwargs: CartPole-v1 cannot be made with"),
        (["--gym-packages", "nosuch"], "--gym-packages: nosuch cannot be imported"),
        (["--log-interval", "-3"], "--log-interval: got -3"),
    ],
)
def test_what_is_not_here_or_wrong_is_one_sentence(tmp_path, capsys, words, message):
    common = [] if "-params" in words else PARAMS
    assert message in refusal(capsys, *SHORT, "-n", "2000", "-f", str(tmp_path / "logs"), *words, *common)
    assert list(tmp_path.iterdir()) == []


def test_environments_are_made_with_their_arguments_and_those_are_kept(tmp_path, monkeypatch):
    made = []
    real = gym.make

    def make(env_id, **kwargs):
        made.append(kwargs["goal_velocity"])
        return real(env_id, **kwargs)

    monkeypatch.setattr(gym, "make", make)
    words = [*SHORT, "--env", "MountainCar-v0", "-n", "100", "-f", str(tmp_path), "--eval-max-steps", "20"]
    words += ["--env-kwargs", "goal_velocity:0.01", "--eval-env-kwargs", "goal_velocity:0.03", *PARAMS]
    assert train.main(words) == 0
    assert made == [0.01, 0.03]  # to learn in, and to be judged in
    config = read_yaml(tmp_path / "dqn/MountainCar-v0_1/MountainCar-v0/config.yml")
    assert (config["env_kwargs"], config["eval_env_kwargs"]) == ({"goal_velocity": 0.01}, {"goal_velocity": 0.03})
    play = ["--algo", "dqn", "--env", "MountainCar-v0", "-f", str(tmp_path), "-n", "1", "--max-steps", "20"]
    assert enjoy.main([*play, "--no-render"]) == 0
    assert made[2:] == [0.03]


def test_environments_of_a_package_are_played_also_in_own_processes(own_package, tmp_path, capsys):
    words = [*SHORT, "-n", "100", "-f", str(tmp_path), "--n-envs", "2", "--eval-freq", "-1", *PARAMS]
    assert "unknown environment 'Own/Cart-v0'" in refusal(capsys, "--env", "Own/Cart-v0", *words)
    assert train.main([*words, "--env", "Own/Cart-v0", "--gym-packages", own_package]) == 0
    # The module may also stand in the id.
    assert train.main([*words, "--env", f"{own_package}:Own/Cart-v0", "--vec-env", "subproc"]) == 0
    here, apart = (DQN.load(tmp_path / f"dqn/Own-Cart-v0_{n}/Own-Cart-v0.zip").get_parameters() for n in (1, 2))
    assert all((here["policy"][key] == apart["policy"][key]).all() for key in here["policy"])
    gym.registry.pop("Own/Cart-v0")
    sys.modules.pop(own_package)
    folder = str(tmp_path / "dqn/Own-Cart-v0_1")
    named = f"its run had --gym-packages {own_package}"
    assert named in refusal(capsys, "--resume", folder, "-n", "150")
    for which in (["--algo", "dqn", "--env", "Own/Cart-v0", "-f", str(tmp_path)], ["-i", f"{folder}/Own-Cart-v0.zip"]):
        assert enjoy.main([*which, "--no-render"]) == 2
        assert named in capsys.readouterr().err
    assert train.main(["--resume", folder, "-n", "150", "--gym-packages", own_package]) == 0


BAD = {
    "array": "self.observation, np.array([1.0]), self.over, False, {}",
    "short": "self.observation, 1.0, self.over, {}",
    "reward": "self.observation, None, self.over, False, {}",
}
PLAIN = """
import gymnasium as gym
import numpy as np

class Plain(gym.Env):
    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    observation = np.zeros(2, np.float32)

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.observation, {}

    def step(self, action):
        self.steps += 1
        self.over = self.steps == 9
        return RETURNED

gym.register("Own/Cart-v0", Plain)
"""


@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
@pytest.mark.parametrize("returned", BAD)
def test_environments_are_judged_wherever_they_are_made(returned, vec_env, own_package, tmp_path, capfd):
    (tmp_path / "own_games.py").write_text(PLAIN.replace("RETURNED", BAD[returned]))
    words = [*SHORT, "-n", "100", "-f", str(tmp_path), "--env", "Own/Cart-v0", "--gym-packages", own_package]
    code = train.main([*words, "--n-envs", "2", "--eval-freq", "50", "--vec-env", vec_env, *PARAMS])
    error = capfd.readouterr().err
    assert "Traceback" not in error
    assert code == (0 if returned == "array" else 2)
    if returned == "array":
        assert enjoy.main(["--algo", "dqn", "--env", "Own/Cart-v0", "-f", str(tmp_path), "--no-render"]) == 0
    elif vec_env == "dummy":
        assert "step 2: " in error
        assert "environment 0" in error
    else:  # what the other process says may go where the first one of this session was begun
        assert "was killed or failed" in error


@pytest.mark.parametrize("method", ["reset", "step"])
def test_a_process_of_an_environment_ends_with_a_sentence(method):
    class Bad(gym.Env):
        observation_space = action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return 5 if method == "reset" else 0, {}

        def step(self, action):
            return 0, None, False, False, {}

    env = ApartEnv(Bad())
    with pytest.raises(SystemExit, match=r"sbbatch: error: the (reward|observation) of the environment is"):
        env.step(env.reset()[0])


def test_ctrl_c_leaves_the_environments_to_the_process_that_learns(tmp_path, capfd):
    words = [*SHORT, "-n", "1000000", "--vec-env", "subproc", "--n-envs", "2", "-f", str(tmp_path), *PARAMS]
    children = interrupt_when(lambda: list(tmp_path.glob("dqn/*/0.monitor.csv")))
    assert train.main([*words, "--eval-freq", "-1"]) == 130
    assert len(children) == 2
    out, err = capfd.readouterr()
    assert err == ""
    assert "stopped early; the model is saved" in out


def test_atari_games_need_no_processes_and_say_so(tmp_path, capsys):
    words = [*SHORT, "--env", "Pong", "-n", "40", "--eval-freq", "-1", "-f", str(tmp_path), "--vec-env", "subproc"]
    assert train.main([*words, "-params", "learning_starts:20", "buffer_size:100", "gradient_steps:1"]) == 0
    assert "--vec-env subproc changes nothing for Atari games" in capsys.readouterr().err


def test_no_lines_are_logged_if_none_are_wanted(tmp_path):
    assert cartpole(tmp_path, "--log-interval", "-2") == 0
    assert (run_folder(tmp_path) / "progress.csv").read_text() == ""


def test_old_names_of_the_zoo_are_taken(tmp_path):
    (tmp_path / "my.yml").write_text("CartPole-v1:\n  n_timesteps: 5000\n")
    assert read_request(["--algo", "dqn", "-yaml", str(tmp_path / "my.yml")]).n_timesteps == 5000
    assert read_request(["--algo", "dqn", "-uuid"]).uuid


def test_an_environment_whose_process_is_killed_does_not_take_the_model_along(tmp_path, monkeypatch, capsys):
    real = DQN._on_step

    def on_step(self):
        if self.num_timesteps == 100:  # it takes the action, and dies when the other one has long answered
            last = self.env.unwrapped.processes[-1]
            os.kill(last.pid, signal.SIGSTOP)
            threading.Timer(0.5, last.kill).start()
        real(self)

    monkeypatch.setattr(DQN, "_on_step", on_step)
    words = [*SHORT, "-n", "1000", "-f", str(tmp_path), "--vec-env", "subproc", "--n-envs", "2", *PARAMS]
    told = refusal(capsys, *words, "--eval-freq", "-1")
    model = run_folder(tmp_path) / "CartPole-v1.zip"
    assert f"the process of an environment was killed or failed; last good model: {model}" in told
    assert 100 <= DQN.load(model).num_timesteps < 1000
