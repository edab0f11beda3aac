"""Films of games: GIF and MP4."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file
from sbbatch.zoo.play.screen import RecordedGame

SUFFIXES = (".gif", ".mp4")
MAX_GIF_BYTES = 3_000_000
# Frames a GIF keeps while playing; beyond that every second one is dropped, so memory stays bounded in long games.
_MAX_FRAMES = 1200
_STEPS_PER_SECOND = 15
_SHORTER_SIDE = 320  # of an MP4, at least: H.264 keeps colours at half the size, which blurs single pixels


class Film(Protocol):
    """What pictures of a game go to."""

    def add(self, game: RecordedGame) -> None:
        """
        :param game: what has a new picture
        """

    def write(self) -> None:
        """Write the file; nothing may be added afterwards."""


def make_film(out: Path) -> Film:
    """
    A film of the kind that the file's name says.

    :param out: a ``.mp4`` or ``.gif`` file
    :raises InvalidValue: another suffix, or a package that is missing
    :raises UnwritableFile: the file cannot be written
    """
    out = output_file(out, *SUFFIXES)
    return Mp4(out) if out.suffix.lower() == ".mp4" else Gif(out)


class Mp4:
    """
    Every picture as H.264, which browsers and players show, in the game's own time.

    OpenCV, which is installed anyway, writes MPEG-4 part 2 only, which browsers do not play; hence ffmpeg.

    :param out: the file
    :raises InvalidValue: imageio-ffmpeg is missing
    """

    def __init__(self, out: Path) -> None:
        try:
            import imageio_ffmpeg
        except ImportError:
            raise InvalidValue("MP4 needs imageio-ffmpeg; run pip install 'sbbatch[record]', or write a .gif") from None
        self.out = out
        self._ffmpeg = imageio_ffmpeg
        self._writer: Any = None

    def add(self, game: RecordedGame) -> None:
        """See :class:`Film`."""
        picture = game.frame()
        factor = -(-_SHORTER_SIDE // min(picture.shape[:2]))
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        height, width = (size - size % 2 for size in picture.shape[:2])  # H.264 has no odd sizes
        if self._writer is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sbbatch-")  # ffmpeg wants a path, not an open file
            self._path = Path(self._folder.name) / "film.mp4"
            self._writer = self._ffmpeg.write_frames(
                str(self._path), (width, height), fps=game.steps_per_second, quality=7, macro_block_size=2
            )
            self._writer.send(None)
        self._writer.send(np.ascontiguousarray(picture[:height, :width]))

    def write(self) -> None:
        """See :class:`Film`."""
        self._writer.close()
        with self._folder, self._path.open("rb") as film, atomic_write(self.out) as file:
            shutil.copyfileobj(film, file)


class Gif:
    """
    At most 3 MB, for which a long game is thinned out.

    :param out: the file
    :raises InvalidValue: pillow is missing
    """

    def __init__(self, out: Path) -> None:
        try:
            import PIL  # noqa: F401
        except ImportError:
            raise InvalidValue("GIFs need pillow; run pip install 'sbbatch[plots]'") from None
        self.out = out
        self._frames = ThinningFrames(_MAX_FRAMES)
        self._steps_per_second = _STEPS_PER_SECOND

    def add(self, game: RecordedGame) -> None:
        """See :class:`Film`."""
        self._steps_per_second = game.steps_per_second
        self._frames.add(game)

    def write(self) -> None:
        """See :class:`Film`."""
        write_gif(self._frames.frames, self.out, self._frames.stride, self._steps_per_second)


class ThinningFrames:
    """
    At most ``limit`` frames, evenly spread over a game whose length is not known beforehand.

    :param limit: frames to keep
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stride = 1
        self.frames: list[np.ndarray] = []
        self._seen = 0

    def add(self, game: RecordedGame) -> None:
        """Keep the game's picture if its turn has come."""
        if self._seen % self.stride == 0:
            if len(self.frames) == self.limit:
                self.frames = self.frames[::2]
                self.stride *= 2
            if self._seen % self.stride == 0:
                self.frames.append(game.frame())
        self._seen += 1


def write_gif(frames: list[np.ndarray], out: Path, stride: int = 1, steps_per_second: int = _STEPS_PER_SECOND) -> None:
    """
    Write frames as a GIF below 3 MB; what does not fit is thinned out.

    A thinned GIF plays faster than the game, at most four times, and then skips.

    :param frames: ``(height, width, 3)`` uint8 each
    :param out: the file
    :param stride: agent steps from one frame to the next
    :param steps_per_second: agent steps in a second of the game
    :raises UnwritableFile: the file cannot be written
    """
    for data in _encodings(frames, stride, steps_per_second):
        if len(data) <= MAX_GIF_BYTES:
            break
    with atomic_write(out) as file:
        file.write(data)


def _encodings(frames: list[np.ndarray], stride: int, steps_per_second: int) -> Iterator[bytes]:
    """The GIF with all frames, with every second one, every fourth, ... until one frame is left."""
    while True:
        yield _encode(frames, stride, steps_per_second)
        if len(frames) == 1:
            return
        frames, stride = frames[::2], stride * 2


def _encode(frames: list[np.ndarray], stride: int, steps_per_second: int) -> bytes:
    from PIL import Image

    # One palette for the whole game, without dithering: pixels that do not change then cost nothing.
    sample = np.concatenate(frames[:: max(len(frames) // 8, 1)])
    palette = Image.fromarray(sample).quantize(colors=128)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = max(1000 * stride // steps_per_second // min(stride, 4), 20)
    buffer = io.BytesIO()
    images[0].save(
        buffer, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=False
    )
    return buffer.getvalue()
