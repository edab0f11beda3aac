"""Hyperparameter files made to do harm, through the command as a user runs it: one sentence, nothing executed."""

import pytest

from sbbatch.zoo.commands.cli import main

CANARY = "canary"
TOUCH = f"touch {CANARY}"
SMALL_BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
WORDS = ["train", "--algo", "dqn", "--env", "CartPole-v1", "-conf", "mine.yml"]


@pytest.fixture
def attack(tmp_path, monkeypatch, capsys):
    """Show the configuration, then train, with a hostile file; what both say, which is the same."""
    monkeypatch.chdir(tmp_path)

    def run(text):
        (tmp_path / "mine.yml").write_text(text)
        told = []
        for more in (["--show-config"], ["-f", "logs"]):
            assert main([*WORDS, *more]) == 2
            captured = capsys.readouterr()
            assert captured.out == ""
            assert captured.err.startswith("sbbatch: error: mine.yml")
            assert captured.err.count("\n") == 1
            assert len(captured.err) < 400
            told.append(captured.err)
        assert {path.name for path in tmp_path.iterdir()} == {"mine.yml"}, "something ran or was written"
        assert told[0] == told[1]
        return told[0]

    return run


@pytest.mark.parametrize(
    "text",
    [
        f"CartPole-v1: !!python/object/apply:os.system ['{TOUCH}']",
        f"CartPole-v1: !!python/object/new:os.system ['{TOUCH}']",
        f"x: !!python/object:subprocess.Popen {{args: '{TOUCH}'}}",
        "x: !!python/module:os",
        f"? !!python/object/apply:os.system ['{TOUCH}']\n: 1",
        SMALL_BOMB,
        SMALL_BOMB + "#" * 1_000_000,
        "x: &x\n  y: *x\n",
    ],
)
def test_a_hostile_file_is_refused(attack, text):
    attack(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"policy_kwargs: \"__import__('os').system('{TOUCH}')\"", "is not allowed"),
        (f"policy_kwargs: \"dict(net_arch=[open('{CANARY}', 'w')])\"", "is not allowed"),
        (f"policy_kwargs: \"[open('{CANARY}', 'w') for _ in (1,)]\"", "is not allowed"),
        (f"bootstrap: \"munchausen(alpha=open('{CANARY}', 'w'))\"", "bootstrap: cannot read"),
        (f"batch_size_callback: \"abs(open('{CANARY}', 'w'), 8)\"", "batch_size_callback: cannot read"),
        (f"normalize: \"__import__('os').system('{TOUCH}')\"", "normalize: "),
        ("policy_kwargs: {features_extractor_class: os.system}", "unknown features_extractor_class 'os.system'"),
        ("policy_kwargs: {optimizer_class: subprocess.Popen}", None),
        ("replay_buffer_class: subprocess.Popen", "replay_buffer_class: got str 'subprocess.Popen'"),
        ('batch_size: "64"', "batch_size: got str '64', expected an int"),
        ("gamma: [0.9]", "gamma: got list [0.9], expected a finite number"),
    ],
)
def test_a_hostile_value_is_refused(attack, tmp_path, capsys, line, message):
    text = f"CartPole-v1:\n  n_timesteps: 2000\n  {line}\n"
    if message is not None:
        assert message in attack(text)
        return
    (tmp_path / "mine.yml").write_text(text)  # the name of a class stays text, which the agent refuses
    assert main([*WORDS, "-f", "logs"]) == 2
    assert "optimizer_class: got str 'subprocess.Popen', expected a subclass of Optimizer" in capsys.readouterr().err


def test_numbers_as_people_write_them_are_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["n_timesteps: !!float 1e7", 'learning_rate: "1e-4"', "gamma: 1", "buffer_size: 1_000"]
    (tmp_path / "mine.yml").write_text("CartPole-v1:\n  " + "\n  ".join(lines) + "\n")
    assert main([*WORDS, "--show-config"]) == 0
    shown = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines())
    assert [shown[line.partition(":")[0]] for line in lines] == ["10000000", "0.0001", "1", "1000"]
