"""From YAML and command line to settings: precedence, types, and one sentence for every mistake."""

import pytest
from torch import nn

from sbbatch import ALGORITHMS
from sbbatch.errors import InvalidType, UserError
from sbbatch.networks import initializers
from sbbatch.networks.torsos import MinAtarCNN
from sbbatch.settings import resolution as config
from sbbatch.settings.reader import parse_yaml, read_command_line_value, read_literal, read_yaml
from sbbatch.settings.resolution import constructor_values, explicit_values, read_parameters, resolve, with_origin
from sbbatch.settings.schema import keyword_arguments, read_schedule


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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1e7", 1e7),
        ("-2.5E+3", -2500.0),
        ("!!float 1e6", 1e6),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("2020-13-45", "2020-13-45"),
        ("010", "010"),
        ("yes", True),
        ("~", None),
        ("lin_2.5e-4", "lin_2.5e-4"),
    ],
)
def test_plain_yaml_values_are_read_as_a_person_means_them(text, value):
    assert parse_yaml(f"a: {text}", "my.yml") == {"a": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "my.yml: duplicate key a at lines 1 and 3"),
        ("x:\n\ty: 1\n", "my.yml:2:1: tab used for indentation"),
        ("x: [1,", "my.yml:1:7: not readable as YAML"),
        ("x: !!python/object/apply:os.system [ls]", "my.yml:1:4: tag '!!python/object/apply:os.system' is not allowed"),
        ("x: !mine 3", "tag '!mine' is not allowed"),
        ("x: &x [*x]", "an alias contains itself"),
        ("x: " + "[" * 5000, "nested too deeply"),
        ("x: " + "9" * 5000, "cannot be read"),
        ("x: 1\n---\nx: 2", "another document"),
    ],
)
def test_yaml_that_is_wrong_or_dangerous_is_one_sentence(text, message):
    assert message in sentence(parse_yaml, text, "my.yml")


def test_a_bomb_of_anchors_is_refused_before_it_grows():
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert "aliases" in sentence(parse_yaml, bomb, "my.yml")


@pytest.mark.parametrize(
    ("entries", "value"),
    [
        ("<<: *a", {"lr": 1, "p": 1, "q": 2}),
        ("<<: *b", {"lr": 3, "p": 3, "q": 2}),
        ("{<<: *b, lr: 5}", {"lr": 5, "p": 3, "q": 2}),
        ("{lr: 5, <<: *b}", {"lr": 5, "p": 3, "q": 2}),
        ("<<: [*a, *d]", {"lr": 1, "p": 1, "q": 2, "r": 8}),
        ("<<: [*d, *a]", {"lr": 9, "p": 1, "q": 2, "r": 8}),
        ("<<: []", {}),
    ],
)
def test_of_merged_keys_ones_own_wins_and_then_the_earlier_mapping(entries, value):
    """Whatever PyYAML is installed: 6.0.4 lets the last mapping of a list win, and the first of two one-letter keys."""
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


@pytest.mark.parametrize("merged", ["3", "[{p: 1}, 3]", "~", "[[{p: 1}]]"])
def test_a_merge_of_what_is_no_mapping_is_refused(merged):
    assert "`<<` expects a mapping or a list of mappings" in sentence(parse_yaml, f"c: {{<<: {merged}}}", "my.yml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"- 1\n- 2\n", "got a list at the top level"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"#" * 300_000, "larger than"),
    ],
)
def test_files_that_are_no_hyperparameter_files_are_refused(tmp_path, content, message):
    path = tmp_path / "my.yml"
    path.write_bytes(content)
    assert message in sentence(read_yaml, path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "no such file" in sentence(read_yaml, tmp_path / "none.yml")
    assert "cannot be read" in sentence(read_yaml, tmp_path)


def test_literals_are_read_without_running_anything():
    value = read_literal("dict(net_arch=[64, 64], activation_fn=nn.ReLU, x=(-1e-3, None, {'a': True}))", "k")
    assert value == {"net_arch": [64, 64], "activation_fn": nn.ReLU, "x": (-1e-3, None, {"a": True})}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('ls')",
        *("nn.Linear", "nn.ReLU()", "dict(**{})", "lambda: 1", "[x for x in y]", "1 + 1", "os.system", ""),
        *("f'{x}'", "dict(a=1, a=2)", "(" * 4000, "9" * 5000, "{[]: 1}", "a\x00"),
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
    assert "did you mean batch_size:16?" in sentence(read_parameters, ["batch_size=16"])
    assert "given twice" in sentence(read_parameters, ["gamma:0.9", "gamma:0.8"])


LAYERS = """
default: {gamma: 0.5, batch_size: 11, tau: 0.5, n_timesteps: 10}
atari: {batch_size: 12, tau: 0.6, train_freq: 7}
ALE/Pong-v5: {tau: 0.7, train_freq: 8}
"""


@pytest.mark.parametrize(
    ("key", "value", "origin"),
    [
        ("buffer_size", 1_000_000, "class default"),
        ("gamma", 0.5, "my.yml default"),
        ("batch_size", 12, "my.yml atari"),
        ("tau", 0.7, "my.yml ALE/Pong-v5"),
        ("train_freq", 9, "command line"),
    ],
)
def test_the_nearer_layer_wins_and_every_value_knows_its_origin(tmp_path, monkeypatch, key, value, origin):
    monkeypatch.chdir(tmp_path)
    yaml_file(tmp_path, LAYERS)
    setting = resolve("dqn", "ALE/Pong-v5", {"train_freq": 9}, config.Path("my.yml"))[key]
    assert (setting.value, setting.origin) == (value, origin)


def test_the_suite_of_atari_is_not_used_elsewhere(tmp_path):
    settings = resolve("dqn", "CartPole-v1", {}, yaml_file(tmp_path, LAYERS))
    assert settings["batch_size"].value == 11


def test_a_section_counts_for_every_spelling_of_its_game(tmp_path):
    path = yaml_file(tmp_path, "PongNoFrameskip-v4: {n_timesteps: 5, batch_size: 3}")
    assert resolve("dqn", "ALE/Pong-v5", {}, path)["batch_size"].value == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("batch_size: sixteen", "CartPole-v1 batch_size: got str 'sixteen', expected an int"),
        ("batch_size: true", "batch_size: got bool True, expected an int"),
        ("batch_size: 32.0", "got float 32.0, expected an int; did you mean 32?"),
        ("buffer_size: 1e4", "did you mean 10000?"),
        ("gamma: yes", "gamma: got bool True, expected a number"),
        ("gamma: .nan", "gamma: got nan, expected a finite number"),
        ("prioritized: 1", "prioritized: got int 1, expected true or false"),
        ("learning_rate: cosine_1e-4", "unknown schedule 'cosine'"),
        ("learning_rate: fast", "got str 'fast', expected a number or a schedule"),
        ("learning_strats: 5", "unknown key 'learning_strats'; did you mean 'learning_starts'?"),
        ("frame_stak: 4", "unknown key 'frame_stak'; did you mean 'frame_stack'?"),
        ("n_timesteps: -300", "n_timesteps: got -300, expected an int >= 1"),
        ("n_timesteps: .nan", "n_timesteps: got float nan"),
        ("env_wrapper: 3", "env_wrapper: got int 3, expected an import path"),
        ("env_kwargs: 3", "env_kwargs: got int 3, expected a mapping of keyword arguments"),
        ("policy: MlpPolcy", "did you mean 'MlpPolicy'?"),
        ("policy: 3", "policy: got int 3, expected text"),
        ("policy_kwargs: 3", "policy_kwargs: got int 3, expected a mapping"),
        ("policy_kwargs: dict(activation_fn=nn.Relu)", "'nn.Relu' is not allowed"),
        ("policy_kwargs: {activation_fn: nn.Relu}", "did you mean 'nn.ReLU'?"),
        ("normalize: {norm_ops: true}", "did you mean 'norm_obs'?"),
        ("normalize: {gamma: 7}", "normalize gamma: got 7, expected a finite number in [0, 1]"),
        ("normalize: {clip_obs: -1}", "normalize clip_obs: got -1, expected a finite number in (0, inf]"),
        ("normalize: {epsilon: 0}", "normalize epsilon: got 0"),
        ("normalize: {norm_obs: 3}", "normalize norm_obs: got int 3, expected True or False"),
        ("replay_buffer_class: MyBuffer", "replay_buffer_class: got str 'MyBuffer'"),
        ("seed: 3", "'seed' is no hyperparameter; give it as --seed"),
        ("zzzz: 3", "unknown key 'zzzz'; the nearest of "),
    ],
)
def test_wrong_settings_name_file_section_key_and_remedy(tmp_path, line, message):
    path = yaml_file(
        tmp_path, f"CartPole-v1:\n  policy: MlpPolicy\n  {line}\n".replace("  policy: MlpPolicy\n  pol", "  pol")
    )
    text = sentence(resolve, "dqn", "CartPole-v1", {"n_timesteps": 10} if "n_timesteps" not in line else {}, path)
    assert message in text
    assert text.startswith(f"{path} CartPole-v1")


def test_a_section_that_is_no_mapping_and_a_missing_length_are_refused(tmp_path):
    assert "expected a mapping" in sentence(resolve, "dqn", "CartPole-v1", {}, yaml_file(tmp_path, "CartPole-v1: 3"))
    path = yaml_file(tmp_path, "CartPole-v1: {gamma: 0.9}")
    assert "missing key n_timesteps" in sentence(resolve, "dqn", "CartPole-v1", {}, path)
    assert "did you mean 'qrdqn'?" in sentence(resolve, "qrdnq", "CartPole-v1")


def test_a_file_of_which_nothing_counts_is_refused(tmp_path):
    """The class's defaults would train in silence."""
    path = yaml_file(tmp_path, "Cartpole-v1: {gamma: 0.9}")
    text = sentence(resolve, "dqn", "CartPole-v1", {"n_timesteps": 10}, path)
    assert text == f"{path}: no section is for CartPole-v1, so nothing in it counts; did you mean 'Cartpole-v1'?"
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
    assert values["policy_kwargs"]["activation_fn"] is nn.Tanh
    assert settings["normalize"].value == {"norm_obs": True, "norm_reward": False}
    assert explicit_values(settings)["learning_rate"] == "lin_2.3e-3"


def test_a_constructors_complaint_is_told_with_the_values_origin(tmp_path):
    settings = resolve("dqn", "CartPole-v1", {}, yaml_file(tmp_path, "CartPole-v1: {batch_size: 0, n_timesteps: 5}"))
    text = with_origin("batch_size: got 0, expected an int >= 1", settings)
    assert text.endswith("my.yml CartPole-v1 batch_size: got 0, expected an int >= 1")
    assert with_origin("gamma: got 2", settings) == "gamma: got 2"


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_every_packaged_file_resolves_and_holds_real_arguments_only(algo):
    for env_id in ("CartPole-v1", "ALE/Pong-v5"):
        settings = resolve(algo, env_id)
        known = keyword_arguments(config.require_algorithm(algo))
        assert set(constructor_values(settings)) <= set(known)
    assert resolve(algo, "ALE/Pong-v5", {"n_steps": 8})["n_steps"].value == 8


@pytest.mark.parametrize(
    ("algo", "initializer"), [("dqn", initializers.glorot_uniform), ("qrdqn", initializers.variance_scaling)]
)
def test_the_papers_protocol_starts_from_the_papers_weights(algo, initializer):
    assert resolve(algo, "ALE/Pong-v5")["policy_kwargs"].value["initializer"] is initializer


@pytest.mark.parametrize("algo", ["dqn", "qrdqn", "iqn", "rainbow", "compact_rainbow"])
def test_minatar_has_a_network_that_its_small_images_fit(algo):
    settings = resolve(algo, "MinAtar/Breakout-v1")
    assert settings["policy_kwargs"].value["features_extractor_class"] is MinAtarCNN
    assert settings["n_timesteps"].value == 1_000_000


class _Agent:
    def __init__(
        self, a: "int | tuple[int, str]" = 1, b: "dict[str, int] | None" = None, *, c: "bool" = True
    ) -> None: ...


def test_arguments_and_their_kinds_are_read_from_the_constructor():
    assert {name: argument.kinds for name, argument in keyword_arguments(_Agent).items()} == {
        "a": ("int", "tuple"),
        "b": ("dict", "None"),
        "c": ("bool",),
    }


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


@pytest.mark.parametrize("text", ["!!bool maybe", '!!int ""', '!!float ""', "{!!bool x: 1}"])
def test_a_value_that_does_not_fit_its_tag_is_one_sentence(text):
    assert "does not fit its tag" in sentence(parse_yaml, f"a: {text}", "my.yml")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("head:5", "head: got int 5, expected a name; known: expected, categorical, quantile, implicit"),
        ("bootstrap:null", "bootstrap: got NoneType None, expected a name; known: greedy, double, munchausen"),
        ("bootstrap:munchausen(alpha=2)", "command line bootstrap: alpha: got 2, expected"),
        ("seed:3", "command line: 'seed' is no hyperparameter; give it as --seed"),
    ],
)
def test_parts_and_flags_are_told_apart(word, message):
    assert message in sentence(resolve, "dqn", "CartPole-v1", read_parameters([word]))


def test_a_call_on_the_command_line_keeps_its_colons():
    assert read_parameters(["batch_size_callback:schedule({0: 8})"]) == {"batch_size_callback": "schedule({0: 8})"}
