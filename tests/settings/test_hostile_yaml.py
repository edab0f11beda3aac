"""Hyperparameter files made to do harm, through the command as a user runs it: one sentence, nothing executed."""

import pytest

from sbbatch.zoo.run import train

CANARY = "canary"
TOUCH = f"touch {CANARY}"
SMALL_BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))


@pytest.fixture
def attack(tmp_path, monkeypatch, capsys):
    """Show the configuration, then train, with a hostile file; what both say, which is the same."""
    monkeypatch.chdir(tmp_path)

    def run(text):
        (tmp_path / "mine.yml").write_text(text)
        told = []
        for more in (["--show-config"], ["-f", "logs"]):
            assert train.main(["--algo", "dqn", "--env", "CartPole-v1", "-conf", "mine.yml", *more]) == 2
            captured = capsys.readouterr()
            assert captured.out == ""
            assert captured.err.startswith("sbbatch: error: ")
            assert captured.err.count("\n") == 1
            assert len(captured.err) < 400
            told.append(captured.err)
        assert {path.name for path in tmp_path.iterdir()} == {"mine.yml"}, "something ran or was written"
        assert told[0] == told[1]
        return told[0]

    return run


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"CartPole-v1: !!python/object/apply:os.system ['{TOUCH}']", "tag '!!python/object/apply:os.system' is not"),
        (f"CartPole-v1: !!python/object/new:os.system ['{TOUCH}']", "is not allowed; write plain values"),
        (f"x: !!python/object:subprocess.Popen {{args: '{TOUCH}'}}", "is not allowed; write plain values"),
        ("x: !!python/module:os", "is not allowed; write plain values"),
        (f"? !!python/object/apply:os.system ['{TOUCH}']\n: 1", "is not allowed; write plain values"),
        (SMALL_BOMB, "more than 20000 values once its aliases are written out"),
        (SMALL_BOMB + "#" * 1_000_000, "larger than 256 kB"),
        ("x: &x\n  y: *x\n", "an alias contains itself"),
        ("CartPole-v1:\n\tn_timesteps: 5\n", "mine.yml:2:1: tab used for indentation"),
        (
            "CartPole-v1: {n_timesteps: 5}\nCartPole-v1: {n_timesteps: 6}\n",
            "duplicate key CartPole-v1 at lines 1 and 2",
        ),
        ("CartPole-v1:\n  gamma: 0.9\n  gamma: 0.8\n", "duplicate key gamma at lines 2 and 3"),
        ("CartPole-v1: {n_timesteps: 5}\n---\nCartPole-v1: {n_timesteps: 6}\n", "another document"),
        ("", "mine.yml is empty"),
        ("- CartPole-v1\n", "got a list at the top level"),
    ],
)
def test_a_hostile_file_is_refused(attack, text, message):
    assert message in attack(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"policy_kwargs: \"__import__('os').system('{TOUCH}')\"", "policy_kwargs: "),
        (f"policy_kwargs: \"dict(net_arch=[__import__('os').system('{TOUCH}')])\"", "is not allowed; known: numbers"),
        (f"policy_kwargs: \"dict(net_arch=[open('{CANARY}', 'w')])\"", "is not allowed; known: numbers"),
        (f"policy_kwargs: \"[open('{CANARY}', 'w') for _ in (1,)]\"", "policy_kwargs: "),
        (f"bootstrap: \"munchausen(alpha=open('{CANARY}', 'w'))\"", "bootstrap: cannot read"),
        (f"batch_size_callback: \"abs(open('{CANARY}', 'w'), 8)\"", "batch_size_callback: cannot read"),
        (f"normalize: \"__import__('os').system('{TOUCH}')\"", "normalize: "),
        ("policy_kwargs: {features_extractor_class: os.system}", "unknown features_extractor_class 'os.system'"),
        ("replay_buffer_class: subprocess.Popen", "replay_buffer_class: got str 'subprocess.Popen'"),
        ("learning_rate: fast", "learning_rate: got str 'fast', expected a number or a schedule"),
        ('n_timesteps: "1e7"', "n_timesteps: got str '1e7', expected an int >= 1"),
        ('batch_size: "64"', "batch_size: got str '64', expected an int"),
        ('gamma: "0.9"', "gamma: got str '0.9', expected a number"),
        ("gamma: [0.9]", "gamma: got list [0.9], expected a number"),
        ("batch_size: 6_4.0", "batch_size: got float 64.0, expected an int; did you mean 64?"),
    ],
)
def test_a_hostile_value_is_refused(attack, line, message):
    n_timesteps = "" if line.startswith("n_timesteps") else "  n_timesteps: 2000\n"
    assert message in attack(f"CartPole-v1:\n{n_timesteps}  {line}\n")


def test_the_name_of_a_class_stays_text(tmp_path, capsys):
    path = tmp_path / "mine.yml"
    path.write_text("CartPole-v1: {n_timesteps: 2000, policy_kwargs: {optimizer_class: subprocess.Popen}}")
    assert train.main(["--algo", "dqn", "--env", "CartPole-v1", "-conf", str(path), "-f", str(tmp_path / "logs")]) == 2
    assert "optimizer_class: got str 'subprocess.Popen', expected a subclass of Optimizer" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("n_timesteps: 1e7", "n_timesteps", "10000000"),
        ("n_timesteps: !!float 1e7", "n_timesteps", "10000000"),
        ("learning_rate: 1e-4", "learning_rate", "0.0001"),
        ('learning_rate: "1e-4"', "learning_rate", "0.0001"),
        ("gamma: 1", "gamma", "1"),
        ("buffer_size: 1_000", "buffer_size", "1000"),
    ],
)
def test_numbers_as_people_write_them_are_read(tmp_path, capsys, line, key, value):
    path = tmp_path / "mine.yml"
    path.write_text(f"default: {{n_timesteps: 2000}}\nCartPole-v1:\n  {line}\n")
    assert train.main(["--algo", "dqn", "--env", "CartPole-v1", "-conf", str(path), "--show-config"]) == 0
    shown = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert shown[key] == value
