"""Settings of the whole suite."""

import pytest
import torch as th


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread():
    """Small networks are ten times slower when several threads share a busy core."""
    th.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_windows(monkeypatch):
    """Tests are the same with and without a display."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
