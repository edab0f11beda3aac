"""Augmentations: random changes of the images in a batch that leave their meaning as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
import torch as th

from sbbatch.arguments import Natural, Within, checked
from sbbatch.replay.batch import Observations, ReplayBatch

IntensityScale = Annotated[float, Within(0.0, 0.5)]  # so that the factor of an image stays at or above 0


@runtime_checkable
class Augmentation(Protocol):
    """Anything that turns a batch into one with other observations and next observations."""

    def __call__(self, batch: ReplayBatch, rng: np.random.Generator) -> ReplayBatch:
        """
        :param batch: as drawn from the replay buffer; the images in it are not written to
        :param rng: the agent's generator, which is saved with the model
        """


@dataclass(frozen=True)
class Identity:
    """No augmentation; draws nothing."""

    def __call__(self, batch: ReplayBatch, rng: np.random.Generator) -> ReplayBatch:
        """See :class:`Augmentation`."""
        return batch


class _OfImages:
    """
    One that changes images ``(batch, channels, height, width)`` and leaves vectors as they are; in a dictionary, all
    images in it. Observations and next observations have draws of their own, and so has each of those that follow.
    """

    def images(self, images: th.Tensor, rng: np.random.Generator) -> th.Tensor:
        """
        :param images: ``(batch, channels, height, width)``, uint8 or float
        :param rng: the generator to draw from
        """
        raise NotImplementedError

    def __call__(self, batch: ReplayBatch, rng: np.random.Generator) -> ReplayBatch:
        """See :class:`Augmentation`."""

        def changed(part: th.Tensor, n_outer: int) -> th.Tensor:
            if part.dim() != 3 + n_outer:
                return part
            if n_outer == 1:
                return self.images(part, rng)
            return self.images(part.flatten(0, 1), rng).unflatten(0, part.shape[:2])

        def of(observations: Observations, n_outer: int = 1) -> Observations:
            if isinstance(observations, dict):
                return {key: changed(part, n_outer) for key, part in observations.items()}
            return changed(observations, n_outer)

        new = replace(batch, observations=of(batch.observations), next_observations=of(batch.next_observations))
        if (later := batch.following) is None:
            return new
        return replace(new, following=later._replace(observations=of(later.observations, 2)))


@checked
@dataclass(frozen=True)
class Shift(_OfImages):
    """
    Each image is moved by whole pixels, up or down and left or right, and its edge repeated where nothing is known: a
    pad of ``pixels`` on every side and a random crop (Kostrikov et al. 2021). The frames of a stack move together.

    :param pixels: the largest shift; 0 for none
    :param last: whether the largest shift to the right and to the bottom of the padded image may be drawn. Dopamine's
        offsets, 0 to ``2 * pixels - 1``, miss it (-4 to 3 of +-4): ``last=False``
    """

    pixels: Natural = 4
    last: bool = True

    def images(self, images: th.Tensor, rng: np.random.Generator) -> th.Tensor:
        """See :class:`_OfImages`."""
        if self.pixels == 0:
            return images
        n, channels, height, width = images.shape
        down, right = rng.integers(-self.pixels, self.pixels + self.last, size=(2, n, 1))
        rows, columns = (
            np.clip(np.arange(height) + down, 0, height - 1),
            np.clip(np.arange(width) + right, 0, width - 1),
        )
        # One gather over flat images: a quarter of the time of indexing rows and columns.
        pixels = (rows[:, :, None] * width + columns[:, None, :]).reshape(n, 1, -1)
        where = th.from_numpy(pixels).to(images.device).expand(n, channels, -1)
        return images.reshape(n, channels, -1).gather(2, where).view(images.shape)


@checked
@dataclass(frozen=True)
class Intensity(_OfImages):
    """
    Each image is multiplied by ``1 + scale * clip(N(0, 1), -2, 2)``, one number for all frames of a stack (Kostrikov et
    al. 2021). The result is of floats, in the units of the image: the network divides it by 255 as usual,
    which is the same as doing so before.

    :param scale: 0 for no change
    """

    scale: IntensityScale = 0.05

    def images(self, images: th.Tensor, rng: np.random.Generator) -> th.Tensor:
        """See :class:`_OfImages`."""
        if self.scale == 0.0:
            return images
        factors = 1.0 + self.scale * rng.standard_normal((len(images), 1, 1, 1)).clip(-2.0, 2.0)
        return images * th.from_numpy(factors.astype(np.float32)).to(images.device)


@checked
@dataclass(frozen=True)
class ShiftAndIntensity(_OfImages):
    """
    :class:`Shift`, then :class:`Intensity`: the augmentation of Dopamine's DrQ and SPR.

    :param pixels: the largest shift; 0 for none
    :param scale: of the intensity; 0 for no change
    :param last: see :class:`Shift`
    """

    pixels: Natural = 4
    scale: IntensityScale = 0.05
    last: bool = True

    def images(self, images: th.Tensor, rng: np.random.Generator) -> th.Tensor:
        """See :class:`_OfImages`."""
        return Intensity(self.scale).images(Shift(self.pixels, self.last).images(images, rng), rng)


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "none": Identity,
    "shift": Shift,
    "intensity": Intensity,
    "shift_intensity": ShiftAndIntensity,
}
