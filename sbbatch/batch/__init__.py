"""The batch size as a quantity that adapts: what agents offer, the signals' controller, and the callbacks."""

from sbbatch.batch.abs import ABS
from sbbatch.batch.callback import BatchSizeCallback
from sbbatch.batch.controls import ReversedABS, Yoked
from sbbatch.batch.noise_scale import GradientNoiseScale
from sbbatch.batch.protocol import BatchScalable, BatchScaling
from sbbatch.batch.schedule import BatchSizeSchedule
from sbbatch.batch.scheduler import AdaptiveBatchScheduler

__all__ = [
    "ABS",
    "AdaptiveBatchScheduler",
    "BatchScalable",
    "BatchScaling",
    "BatchSizeCallback",
    "BatchSizeSchedule",
    "GradientNoiseScale",
    "ReversedABS",
    "Yoked",
]
