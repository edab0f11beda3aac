"""Films: MP4 and GIF."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file

SUFFIXES = (".gif", ".mp4")
MAX_GIF_BYTES = 3_000_000
_SHORTER_SIDE = 320  # of an MP4, at least: H.264 keeps colours at half the size, which blurs single pixels


def film_file(out: Path) -> Path:
    """The file to write for what the user wrote; ``InvalidValue``: another suffix, or a package is missing."""
    out = output_file(out, *SUFFIXES)
    if out.suffix.lower() == ".mp4" and not all(map(importlib.util.find_spec, ("imageio", "imageio_ffmpeg"))):
        raise InvalidValue("MP4 needs imageio-ffmpeg; run pip install 'sbbatch[record]', or write a .gif")
    if not importlib.util.find_spec("PIL"):
        raise InvalidValue("GIFs need pillow; run pip install 'sbbatch[plots]'")
    return out


@contextmanager
def film(out: Path, frames_per_second: int) -> Iterator[Callable[[np.ndarray], Any]]:
    """
    A film, written whole when the block ends; a GIF has at most 3 MB, for which a long episode is thinned out.

    :return: a function that takes the next picture, ``(height, width, 3)`` uint8
    """
    out = film_file(out)
    if out.suffix.lower() == ".mp4":
        import imageio.v2 as imageio

        data = io.BytesIO()
        # H.264, which browsers play, and not OpenCV's MPEG-4 part 2; it has no odd sizes.
        options: dict[str, Any] = {"fps": frames_per_second, "quality": 7, "macro_block_size": 2}
        with imageio.get_writer(data, format="mp4", **options) as writer:
            yield lambda picture: writer.append_data(_enlarged(picture))  # type: ignore[attr-defined]
        content = data.getvalue()
    else:
        frames = ThinningFrames()
        yield frames.add
        content = _gif(frames.frames, frames.stride, frames_per_second)
    with atomic_write(out) as file:
        file.write(content)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    factor = -(-_SHORTER_SIDE // min(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


class ThinningFrames:
    """At most so many frames, evenly spread over an episode whose length is not known beforehand."""

    def __init__(self, limit: int = 1200) -> None:
        self.limit, self.stride, self.frames, self._seen = limit, 1, list[np.ndarray](), 0

    def add(self, frame: np.ndarray) -> None:
        """Keep a frame if its turn has come; every second one goes when there are too many."""
        if self._seen % self.stride == 0:
            self.frames.append(frame)
            if len(self.frames) > self.limit:
                self.frames, self.stride = self.frames[::2], 2 * self.stride
        self._seen += 1


def _gif(frames: list[np.ndarray], stride: int, steps_per_second: int) -> bytes:
    """Of frames ``stride`` agent steps apart; a thinned GIF plays faster, at most four times, and then skips."""
    from PIL import Image

    # One palette for the whole film, without dithering: pixels that do not change then cost nothing. (Through imageio
    # every frame would have its own, which takes ten times as long and is no smaller.)
    palette = Image.fromarray(np.concatenate(frames[:: max(len(frames) // 8, 1)])).quantize(colors=128)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = max(1000 * stride // steps_per_second // min(stride, 4), 20)
    data = io.BytesIO()
    images[0].save(data, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
    if data.tell() <= MAX_GIF_BYTES or len(frames) == 1:
        return data.getvalue()
    return _gif(frames[::2], 2 * stride, steps_per_second)
