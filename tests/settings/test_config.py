"""From YAML and command line to settings: precedence, types, and one sentence for every mistake."""

import sys

import pytest
from torch import nn

from sbbatch import ALGORITHMS
from sbbatch.batch import ABS, BatchSizeSchedule, GradientNoiseScale
from sbbatch.components.augmentation import Identity, Shift, ShiftAndIntensity
from sbbatch.components.bootstrap import Double, Munchausen
from sbbatch.errors import InvalidType, UserError
from sbbatch.networks import initializers
from sbbatch.networks.auxiliary import SelfPrediction
from sbbatch.networks.heads import QuantileHead
from sbbatch.networks.torsos import MinAtarCNN
from sbbatch.settings.reader import parse_yaml, read_command_line_value, read_literal, read_yaml
from sbbatch.settings.resolution import constructor_values, explicit_values, read_parameters, resolve, with_origin
from sbbatch.settings.schema import plain, read_object, read_schedule


def yaml_file(tmp_path, text, name="my.yml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def sentence(call, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --------------------------------------------------------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e7", 1e7),
        ("-2.5E+3", -2500.0),
        ("!!float 1e6", 1e6),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("2020-10-12", "2020-10-12"),
        ("yes", True),
        ("y", "y"),
        ("~", None),
        ("lin_2.5e-4", "lin_2.5e-4"),
    ],
)
def test_plain_yaml_values_are_read_as_a_person_means_them(text, value):
    assert parse_yaml(f"a: {text}", "my.yml") == {"a": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: 1\nb: 2\na: 3\n",
            'found duplicate key "a" with value',
        ),
        ("x:\n\ty: 1\n", "my.yml:2:1: "),
        ("x: [1,", "my.yml:1:7: "),
        ("x: 1\n---\nx: 2", "another document"),
        ("x: !!python/object/apply:os.system [ls]", "python/object/apply:os.system"),
        ("x: !mine 3", "'!mine'"),
        ("x: {<<: 3}", "expected a mapping or list of mappings for merging"),
        ("x: &x [*x]", "more than 20000 values"),
        ("x: " + "[" * 200_000, "nested too deeply"),
        ("".join(" " * depth + "a:\n" for depth in range(600)), "nested too deeply"),
        ("x: " + "9" * 5000, "a value cannot be read"),
        ("x: !!bool maybe", "a value cannot be read"),
        ('x: !!int ""', "a value cannot be read"),
    ],
)
def test_yaml_that_is_wrong_or_dangerous_is_one_sentence(text, message):
    told = sentence(parse_yaml, text, "my.yml")
    assert told.startswith("my.yml")
    assert message in told


@pytest.mark.parametrize(
    ("entries", "value"),
    [
        ("<<: *b", {"lr": 3, "p": 3, "q": 2}),
        ("{<<: *b, lr: 5}", {"lr": 5, "p": 3, "q": 2}),
        ("{lr: 5, <<: *b}", {"lr": 5, "p": 3, "q": 2}),
        ("<<: [*a, *d]", {"lr": 1, "p": 1, "q": 2, "r": 8}),
        ("<<: [*d, *a]", {"lr": 9, "p": 1, "q": 2, "r": 8}),
        ("<<: []", {}),
    ],
)
def test_of_merged_keys_ones_own_wins_and_then_the_earlier_mapping(entries, value):
    text = f"""
a: &a {{lr: 1, p: 1, q: 2}}
b: &b
  <<: *a
  p: 3
  lr: 3
d: &d {{lr: 9, r: 8}}
c:
  {entries}
"""
    assert parse_yaml(text, "my.yml")["c"] == value


@pytest.mark.parametrize("content", [b"", b"- 1\n- 2\n", b"3: 4", b"\xff\xfe\x00", b"#" * 300_000])
def test_files_that_are_no_hyperparameter_files_are_refused(tmp_path, content):
    path = tmp_path / "my.yml"
    path.write_bytes(content)
    assert sentence(read_yaml, path).startswith(str(path))
    assert "no such file" in sentence(read_yaml, tmp_path / "none.yml")
    assert "cannot be read" in sentence(read_yaml, tmp_path)


# ----------------------------------------------------------------------------------------------- literals and objects


def test_literals_are_read_without_running_anything():
    value = read_literal("dict(net_arch=[64, 64], activation_fn=nn.ReLU, x=(-1e-3, None, {'a': True}))", "k")
    assert value == {"net_arch": [64, 64], "activation_fn": nn.ReLU, "x": (-1e-3, None, {"a": True})}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('ls')",
        *("nn.Linear", "nn.ReLU()", "dict(**{})", "lambda: 1", "[x for x in y]", "os.system", "f'{x}'", "x", ""),
        *("dict(a=1, a=2)", "(" * 4000, "9" * 5000, "{[]: 1}", "a\x00"),
    ],
)
def test_whatever_is_no_literal_is_refused(text):
    assert sentence(read_literal, text, "policy_kwargs").startswith("policy_kwargs: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [("16", 16), ("1e-4", 1e-4), ("None", None), ("yes", True), ("'MlpPolicy'", "MlpPolicy"), ("lin_1e-3", "lin_1e-3")],
)
def test_command_line_values_are_read_like_the_zoo_reads_them(text, value):
    assert read_command_line_value(text, "k") == value


def test_parameters_need_a_colon():
    assert read_parameters(["batch_size:16", "policy_kwargs:dict(net_arch=[64])"])["batch_size"] == 16
    assert read_parameters(["batch_size_callback:schedule({0: 8})"]) == {"batch_size_callback": "schedule({0: 8})"}
    assert "did you mean batch_size:16?" in sentence(read_parameters, ["batch_size=16"])
    assert "given twice" in sentence(read_parameters, ["gamma:0.9", "gamma:0.8"])


OBJECTS = [
    ("batch_size_callback", "abs", ABS()),
    ("batch_size_callback", "abs(8, 64)", ABS(8, 64)),
    ("batch_size_callback", "abs(max_size=64, kind='linear')", ABS(max_size=64, kind="linear")),
    ("batch_size_callback", "abs(8, 64, check_every=5)", ABS(8, 64, check_every=5)),
    ("batch_size_callback", "noise_scale(n_parts=4)", GradientNoiseScale(n_parts=4)),
    ("batch_size_callback", "schedule(8, 128)", BatchSizeSchedule.linear(8, 128)),
    ("batch_size_callback", "schedule({0.0: 8, 0.5: 32})", BatchSizeSchedule.piecewise({0.0: 8, 0.5: 32})),
    ("bootstrap", "double", Double()),
    ("bootstrap", "munchausen(temperature=0.1)", Munchausen(temperature=0.1)),
    ("augmentation", "none", Identity()),
    ("augmentation", "shift(2, False)", Shift(2, last=False)),
    ("augmentation", "shift_intensity(scale=0.1)", ShiftAndIntensity(scale=0.1)),
    ("auxiliary", "self_prediction(3)", SelfPrediction(3)),
    ("activation_fn", "nn.ReLU", nn.ReLU),
    ("head", "quantile", QuantileHead),
]


@pytest.mark.parametrize(("key", "text", "value"), OBJECTS)
def test_an_object_is_written_as_it_is_read(key, text, value):
    assert plain(value) == text
    read = read_object(key, text, "my.yml")
    assert type(read) is type(value)
    assert read.config() == value.config() if key == "batch_size_callback" else read == value


def test_an_adaptive_size_is_an_object_from_the_command_line_on():
    """And text in ``config.yml`` alone, from which a resumed run makes the same object."""
    own = ABS(16, 64)
    settings = resolve("dqn", "CartPole-v1", {"batch_size_callback": own})
    assert settings["batch_size_callback"].value is own
    written = explicit_values(settings)["batch_size_callback"]
    assert written == "abs(16, 64)"
    again = resolve("dqn", "CartPole-v1", {"batch_size_callback": written})["batch_size_callback"].value
    assert again.config() == own.config()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("head:5", "head: got int 5, expected"),
        ("head:quantil", "unknown head 'quantil'; did you mean 'quantile'?"),
        ("bootstrap:null", "bootstrap: got NoneType None"),
        ("bootstrap:munchausen(alpha=2)", "command line bootstrap: alpha: got 2, expected"),
        ("batch_size_callback:abs(8, 64", "batch_size_callback: cannot read"),
        ("batch_size_callback:abs(sizes=8)", "unknown key 'sizes'"),
        ("batch_size_callback:schedule(8)", "expected two as in schedule(8, 128)"),
        ("batch_size_callback:noise_scale(1, 2, 3, 4, 5, 6)", "positional arguments"),
        ("seed:3", "command line: 'seed' is no hyperparameter; give it as --seed"),
    ],
)
def test_parts_and_flags_are_told_apart(word, message):
    assert message in sentence(resolve, "dqn", "CartPole-v1", read_parameters([word]))


@pytest.mark.parametrize(
    ("text", "at_start", "half_way", "at_end"),
    [("lin_0.5", 0.5, 0.25, 0.0), ("lin_0.4_1.0", 0.4, 0.7, 1.0), ("const_0.3", 0.3, 0.3, 0.3)],
)
def test_schedules_run_from_the_first_number_to_the_second(text, at_start, half_way, at_end):
    read = read_schedule("key", text)
    values = [read(progress) if callable(read) else read for progress in (1.0, 0.5, 0.0)]
    assert values == pytest.approx([at_start, half_way, at_end])


@pytest.mark.parametrize("text", ["lin_", "lin_1_2_3", "const_1_2", "lin_nan", "lin_1_x"])
def test_a_schedule_of_no_numbers_is_refused(text):
    with pytest.raises(InvalidType, match="expected a number or a schedule"):
        read_schedule("key", text)


# ------------------------------------------------------------------------------------------------------------ settings


def test_the_suite_of_atari_counts_for_every_spelling_of_its_games_and_not_elsewhere(tmp_path):
    path = yaml_file(tmp_path, "{default: {n_timesteps: 5}, atari: {batch_size: 12}, PongNoFrameskip-v4: {n_steps: 3}}")
    assert resolve("dqn", "CartPole-v1", {}, path)["batch_size"].value == 32
    settings = resolve("dqn", "ALE/Pong-v5", {}, path)
    assert (settings["batch_size"].value, settings["n_steps"].value) == (12, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("batch_size: sixteen", "CartPole-v1 batch_size: got str 'sixteen', expected an int"),
        ("batch_size: true", "batch_size: got bool True, expected an int"),
        ("buffer_size: 1e4", "did you mean 10000?"),
        ("gamma: yes", "gamma: got bool True, expected a finite number"),
        ("gamma: .nan", "gamma: got nan, expected a finite number"),
        ("prioritized: 1", "prioritized: got int 1, expected True or False"),
        ("learning_rate: cosine_1e-4", "unknown schedule 'cosine'"),
        ("learning_rate: fast", "got str 'fast', expected a number or a schedule"),
        ("learning_strats: 5", "unknown key 'learning_strats'; did you mean 'learning_starts'?"),
        ("frame_stak: 4", "unknown key 'frame_stak'; did you mean 'frame_stack'?"),
        ("n_timesteps: -300", "n_timesteps: got -300, expected an int >= 1"),
        ("n_timesteps: .nan", "n_timesteps: got float nan"),
        ("env_wrapper: 3", "env_wrapper: got int 3, expected a path such as"),
        ("env_kwargs: 3", "env_kwargs: got int 3, expected a dictionary of keyword arguments"),
        ("policy: MlpPolcy", "did you mean 'MlpPolicy'?"),
        ("policy: 3", "policy: got int 3, expected text"),
        ("policy_kwargs: 3", "policy_kwargs: got int 3, expected a dictionary"),
        ("policy_kwargs: dict(activation_fn=nn.Relu)", "'nn.Relu' is not allowed"),
        ("policy_kwargs: {activation_fn: nn.Relu}", "did you mean 'nn.ReLU'?"),
        ("normalize: {norm_ops: true}", "did you mean 'norm_obs'?"),
        ("normalize: {gamma: 7}", "normalize gamma: got 7, expected a finite number in [0, 1]"),
        ("normalize: {norm_obs: 3}", "normalize norm_obs: got int 3, expected True or False"),
        ("replay_buffer_class: MyBuffer", "replay_buffer_class: got str 'MyBuffer'"),
        ("seed: 3", "'seed' is no hyperparameter; give it as --seed"),
    ],
)
def test_wrong_settings_name_file_section_key_and_remedy(tmp_path, line, message):
    more = {} if "n_timesteps" in line else {"n_timesteps": 10}
    path = yaml_file(tmp_path, f"CartPole-v1:\n  {line}\n")
    text = sentence(resolve, "dqn", "CartPole-v1", more, path)
    assert message in text
    assert text.startswith(f"{path} CartPole-v1")


def test_a_section_that_is_no_mapping_and_a_missing_length_are_refused(tmp_path):
    assert "expected a dictionary" in sentence(resolve, "dqn", "CartPole-v1", {}, yaml_file(tmp_path, "CartPole-v1: 3"))
    path = yaml_file(tmp_path, "CartPole-v1: {gamma: 0.9}")
    assert "missing key n_timesteps" in sentence(resolve, "dqn", "CartPole-v1", {}, path)
    assert "did you mean 'qrdqn'?" in sentence(resolve, "qrdnq", "CartPole-v1")


def test_a_file_of_which_nothing_counts_is_refused(tmp_path):
    """The class's defaults would train in silence."""
    path = yaml_file(tmp_path, "Cartpole-v1: {gamma: 0.9}")
    text = sentence(resolve, "dqn", "CartPole-v1", {"n_timesteps": 10}, path)
    assert text == f"{path}: no section is for CartPole-v1; did you mean 'Cartpole-v1'?"
    for content in ("default: {gamma: 0.9}", "CartPole-v1:"):
        resolve("dqn", "CartPole-v1", {"n_timesteps": 10}, yaml_file(tmp_path, content))


def test_a_file_of_the_zoo_is_read(tmp_path):
    text = """
CartPole-v1:
  n_timesteps: !!float 5e4
  policy: 'MlpPolicy'
  learning_rate: lin_2.3e-3
  train_freq: [1, episode]
  normalize: "{'norm_obs': True, 'norm_reward': False}"
  policy_kwargs: "dict(net_arch=[256, 256], activation_fn=nn.Tanh)"
"""
    settings = resolve("dqn", "CartPole-v1", {}, yaml_file(tmp_path, text))
    values = constructor_values(settings)
    assert settings["n_timesteps"].value == 50_000
    assert values["learning_rate"](0.5) == pytest.approx(2.3e-3 / 2)
    assert values["train_freq"] == (1, "episode")
    assert values["policy_kwargs"] == {"net_arch": [256, 256], "activation_fn": nn.Tanh}
    assert settings["normalize"].value == {"norm_obs": True, "norm_reward": False}
    assert explicit_values(settings)["learning_rate"] == "lin_2.3e-3"


def test_a_constructors_complaint_is_told_with_the_values_origin(tmp_path):
    path = yaml_file(tmp_path, "CartPole-v1: {batch_size: 64, buffer_size: 32, n_timesteps: 5}")
    settings = resolve("dqn", "CartPole-v1", {}, path)
    text = with_origin("batch_size: got 64, expected at most 32", settings)
    assert text.endswith("my.yml CartPole-v1 batch_size: got 64, expected at most 32")
    assert with_origin("gamma: got 2", settings) == "gamma: got 2"


OWN_AGENT = """
from sbbatch import DQN
from stable_baselines3.common.type_aliases import GymEnv

class Own(DQN):
    def __init__(self, policy, env: GymEnv, *, width: int = 3, scale: float | None = None, anything=None, **kwargs):
        super().__init__(policy, env, **kwargs)
"""


def test_an_agent_of_a_module_whose_annotations_are_not_postponed(tmp_path, monkeypatch):
    (tmp_path / "own_agent_words.py").write_text(OWN_AGENT)
    monkeypatch.syspath_prepend(tmp_path)
    own = __import__("own_agent_words").Own
    monkeypatch.setitem(ALGORITHMS, "own", own)
    path = yaml_file(tmp_path, "default: {n_timesteps: 5, width: 4, scale: 0.5, anything: [1]}")
    values = constructor_values(resolve("own", "CartPole-v1", {}, path))
    assert values == {"width": 4, "scale": 0.5, "anything": [1]}
    assert "command line width: got str 'x', expected an int" in sentence(
        resolve, "own", "CartPole-v1", {"width": "x"}, path
    )
    sys.modules.pop("own_agent_words")


@pytest.mark.parametrize(
    ("algo", "initializer"), [("dqn", initializers.glorot_uniform), ("qrdqn", initializers.variance_scaling)]
)
def test_the_papers_protocol_starts_from_the_papers_weights(algo, initializer):
    assert resolve(algo, "ALE/Pong-v5")["policy_kwargs"].value["initializer"] is initializer


@pytest.mark.parametrize("algo", ["dqn", "rainbow"])
def test_minatar_has_a_network_that_its_small_images_fit(algo):
    settings = resolve(algo, "MinAtar/Breakout-v1")
    assert settings["policy_kwargs"].value["features_extractor_class"] is MinAtarCNN
    assert settings["n_timesteps"].value == 1_000_000
