"""A recorded game shows the agent what it was trained on."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from sbbatch import DQN
from sbbatch.envs.ale import make_ale_vec_env
from sbbatch.envs.atari import get_protocol
from sbbatch.envs.minatar import CELL, draw_maps
from sbbatch.errors import UserError
from sbbatch.persistence.normalization import statistics_of
from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.record import main
from sbbatch.zoo.play import film
from sbbatch.zoo.play.film import ThinningFrames
from sbbatch.zoo.play.record import record
from sbbatch.zoo.play.scores import RandomPolicy
from sbbatch.zoo.play.screen import RenderedEnv


@pytest.mark.parametrize("name", ["dopamine", "sb3"])  # the second presses FIRE before the first screen
def test_the_screens_are_those_of_training(name):
    protocol = replace(get_protocol(name), sticky_actions=0.0, noop_max=0)
    vector = make_ale_vec_env("Breakout", 1, protocol=protocol, training=False)
    game = RenderedEnv("ALE/Breakout-v5", None, protocol)
    np.testing.assert_array_equal(game.reset(), vector.reset()[0])
    for action in np.random.default_rng(0).integers(4, size=60):
        observation, reward, _ = game.step(int(action))
        observations, rewards, _, _ = vector.step(np.array([action]))
        np.testing.assert_array_equal(observation, observations[0])
        assert reward == rewards[0]


def test_no_window_system_is_sought_where_there_is_none(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    game = RenderedEnv("CartPole-v1", 0, "dopamine")
    drivers = []

    def render():
        drivers.append(os.environ.get("SDL_VIDEODRIVER"))
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(game.env, "render", render)
    game.frame()
    assert drivers == ["dummy"]
    assert "SDL_VIDEODRIVER" not in os.environ


def test_a_recorded_game_begins_with_up_to_noop_max_no_ops_and_maybe_none():
    protocol = replace(get_protocol("atari100k"), noop_max=1)
    frames = set()
    for seed in (0, 1, 2, 3):
        game = RenderedEnv("ALE/Breakout-v5", seed, protocol)
        game.reset()
        frames.add(game.env.unwrapped.ale.getEpisodeFrameNumber())
    assert frames == {0, 1}


def test_a_game_becomes_a_gif(tmp_path):
    vector = make_ale_vec_env("Pong")
    out = tmp_path / "sub" / "game.gif"
    _, steps = record(RandomPolicy(vector.action_space, 1, 0), "Pong", out, max_steps=20)
    assert steps == 20
    with Image.open(out) as image:
        assert image.size == (160, 210)
        assert image.n_frames > 1


def test_frames_thin_out_evenly_in_a_long_episode():
    frames = ThinningFrames(4)
    for number in range(20):
        frames.add(number)
    assert frames.frames == [0, 8, 16]
    assert frames.stride == 8


def test_a_gif_that_would_be_too_large_is_thinned(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(film, "MAX_GIF_BYTES", 20_000)
    assert len(film._gif(list(noise), 1, 15)) <= 20_000


def test_a_gif_has_the_name_of_one(tmp_path):
    with pytest.raises(UserError, match=r"a\.avi: got the suffix '.avi', expected \.gif or \.mp4"):
        record(None, "Pong", tmp_path / "a.avi")


def test_a_model_of_another_game_is_refused(tmp_path):
    class Model(RandomPolicy):
        observation_space = make_ale_vec_env("Pong").observation_space

        def __init__(self):
            self.action_space = make_ale_vec_env("Pong").action_space

    with pytest.raises(UserError, match="the model has the actions"):
        record(Model(), "Breakout", tmp_path / "a.gif")


def test_a_normalized_run_is_recorded_as_it_was_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RenderedEnv, "frame", lambda self: np.zeros((4, 4, 3), np.uint8))  # it would need pygame
    params = ["-params", "learning_starts:100", "normalize:True", "policy_kwargs:dict(net_arch=[16])"]
    seen = []
    predict = DQN.predict
    monkeypatch.setattr(DQN, "predict", lambda self, seeing, **kwargs: seen.append(seeing) or predict(self, seeing))
    common = ["--algo", "dqn", "--env", "CartPole-v1", "--seed", "3"]
    limits = ["-n", "300", "--eval-freq", "-1", "--num-threads", "1", "-f", str(tmp_path)]
    assert train.main([*common, *limits, *params]) == 0
    model = tmp_path / "dqn/CartPole-v1_1/CartPole-v1.zip"
    seen.clear()
    assert main([*common, "-i", str(model), "-o", str(tmp_path / "a.gif")]) == 0
    first, _ = gym.make("CartPole-v1").reset(seed=3)
    with np.load(statistics_of(model)) as arrays:
        expected = (first - arrays["obs..mean"]) / np.sqrt(arrays["obs..var"] + 1e-8)
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5)
    for path in (model, statistics_of(model)):
        shutil.copy(path, tmp_path / path.name)
    assert main([*common, "-i", str(tmp_path / model.name)]) == 2
    assert "leave it in its run folder" in capsys.readouterr().err


def test_an_environment_without_pictures_is_refused(tmp_path):
    class Unseen(gym.Env):
        metadata = {"render_modes": []}
        observation_space = action_space = gym.spaces.Discrete(2)

        def __init__(self):
            pass

    gym.register("Unseen-v0", Unseen)
    with pytest.raises(UserError, match="Unseen-v0 cannot be drawn"):
        record(None, "Unseen-v0", tmp_path / "g.gif")
    del gym.registry["Unseen-v0"]


def test_a_game_becomes_an_mp4_that_is_h264_with_every_picture(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    cv2 = pytest.importorskip("cv2")
    out = tmp_path / "game.mp4"
    vector = make_ale_vec_env("Pong")
    record(RandomPolicy(vector.action_space, 1, 0), "Pong", out, max_steps=20)
    video = cv2.VideoCapture(str(out))
    assert int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") == b"h264"
    assert video.get(cv2.CAP_PROP_FPS) == 15  # agent steps in a second of the game
    game = RenderedEnv("ALE/Pong-v5", 0, "dopamine")
    game.reset()
    pictures = [video.read()[1] for _ in range(21)]
    assert not video.read()[0]
    first = game.frame().repeat(2, axis=0).repeat(2, axis=1)[..., ::-1]
    assert np.abs(pictures[0].astype(int) - first).mean() < 4
    assert list(tmp_path.iterdir()) == [out]


def test_an_mp4_without_ffmpeg_is_refused_before_anything_is_played(tmp_path, monkeypatch):
    monkeypatch.setattr(film.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"MP4 needs imageio-ffmpeg; run pip install 'sbbatch\[record\]', or write a"):
        record(None, "Pong", tmp_path / "a.mp4")


def test_pictures_of_minatar_show_every_kind_of_thing_in_its_colour():
    maps = np.zeros((10, 10, 10), dtype=bool)
    for kind in range(10):
        maps[kind, 3, kind] = True
    maps[2, 3, 7] = True  # of two things in one place the last one is seen
    picture = draw_maps(maps)
    assert picture.shape == (10 * CELL, 10 * CELL, 3)
    middles = picture[CELL // 2 :: CELL, CELL // 2 :: CELL]
    colors = [tuple(color) for color in middles[:, 3]]
    assert colors[2] == colors[7]
    assert len(set(colors)) == 9
    empty = {tuple(color) for color in np.delete(middles, 3, axis=1).reshape(-1, 3)}
    assert len(empty) == 1
    assert not empty & set(colors)


def test_a_game_of_minatar_gives_pictures_if_it_is_asked_for_them():
    pytest.importorskip("minatar")
    env = gym.make("MinAtar/Breakout-v1", render_mode="rgb_array")
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), draw_maps(env.unwrapped._game.state()))
    silent = gym.make("MinAtar/Breakout-v1")
    silent.reset()
    assert silent.unwrapped.render() is None


@pytest.mark.parametrize("game", ["Breakout", "Seaquest"])
def test_a_game_of_minatar_is_recorded(tmp_path, game):
    pytest.importorskip("minatar")
    env = gym.make(f"MinAtar/{game}-v1")
    out = tmp_path / "game.gif"
    record(RandomPolicy(env.action_space, 1, 0), f"MinAtar/{game}-v1", out, max_steps=15)
    with Image.open(out) as image:
        assert image.size == (320, 320)


def test_sigterm_ends_a_recording_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(RenderedEnv, "frame", lambda self: np.zeros((4, 4, 3), np.uint8))  # it would need pygame
    DQN("MlpPolicy", "CartPole-v1").save(tmp_path / "m.zip")
    shown = []

    predict = DQN.predict

    def interrupted(self, seeing, **kwargs):
        shown.append(seeing)
        if len(shown) == 3:
            signal.raise_signal(signal.SIGTERM)
        return predict(self, seeing, **kwargs)

    monkeypatch.setattr(DQN, "predict", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(["-i", str(tmp_path / "m.zip"), "-o", str(tmp_path / "a.mp4")])
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    del ended
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["m.zip"]
