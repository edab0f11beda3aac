"""What studies have in common: grids of arms, the comparison of a small batch with a large one, and usual budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from sbbatch.studies.games import ATARI_20, ATARI_THREE, MINATAR_PAIR
from sbbatch.studies.rules import Compare, Interaction
from sbbatch.studies.study import Scale, Settings

# The small-batch paper names 8, 16 and 32; its legends could not be read. 64 is ours.
BATCHES = (8, 16, 32, 64)
PAPER_SEEDS = 3
MINATAR_SPEED = 500.0  # agent steps per second of QR-DQN with a batch of 32, an update every fourth step
ATARI_SPEED = 118.0  # the same on two cores (docs/speed.md)
SMOKE = Scale(300, 1, MINATAR_PAIR[:1], MINATAR_SPEED, {"learning_starts": 100})
# Policies' arguments replace those of hyperparams/<agent>.yml, so that studies that give some repeat the others.
ATARI_QRDQN = "initializer='variance_scaling', n_quantiles=200, optimizer_kwargs=dict(eps=3.125e-4)"
MINATAR_QRDQN = "n_quantiles=50"


def axis(key: str, values: Iterable[Any], name: str = "{}") -> dict[str, Settings]:
    """
    One setting in several values.

    :param key: of the setting
    :param values: that it takes
    :param name: of each arm, around the value
    """
    return {name.format(value): {key: value} for value in values}


def grid(*axes: Mapping[str, Settings]) -> dict[str, Settings]:
    """
    Every combination, named by the names of its parts.

    :param axes: settings by name, see :func:`axis`
    """
    arms: dict[str, Settings] = {}
    for chosen in product(*(axis.items() for axis in axes)):
        settings: dict[str, Any] = {}
        for _, part in chosen:
            settings |= part
        arms[" ".join(name for name, _ in chosen)] = settings
    return arms


def small_against_large(names: Iterable[str], small: int = 8, large: int = 32, **options: Any) -> tuple[Compare, ...]:
    """
    Rules that ask of each row of a grid whether it gains from the small batch.

    :param names: of the rows; arms are ``"<name> <batch size>"``
    :param small: batch size that the claim speaks for
    :param large: its rival
    :param options: further arguments of the rules
    """
    return tuple(
        Compare(
            f"{name} {small}",
            f"{name} {large}",
            better=f"{name} gains from the small batch",
            worse=f"{name} loses with the small batch",
            equal=f"the batch size makes no difference to {name}",
            **{"min_seeds": PAPER_SEEDS} | options,
        )
        for name in names
    )


def gains_more(first: str, second: str, small: int = 8, large: int = 32, **options: Any) -> Interaction:
    """
    A rule that asks whether one row of a grid gains more from the small batch than another.

    :param first: row that the claim speaks for
    :param second: the other
    :param small: batch size that the claim speaks for
    :param large: its rival
    :param options: further arguments of the rule
    """
    return Interaction(
        (f"{first} {small}", f"{first} {large}"),
        (f"{second} {small}", f"{second} {large}"),
        larger=f"{first} gains more from the small batch than {second}",
        smaller=f"{first} gains less from the small batch than {second}",
        **{"min_seeds": PAPER_SEEDS} | options,
    )


def versus(first: str, rivals: Iterable[str], **options: Any) -> tuple[Compare, ...]:
    """
    Rules that compare one arm with others.

    :param first: arm that the claim speaks for
    :param rivals: the others
    :param options: further arguments of the rules
    """
    return tuple(
        Compare(
            first,
            rival,
            better=f"{first} is better than {rival}",
            worse=f"{first} is worse than {rival}",
            equal=f"{first} is as good as {rival}",
            **options,
        )
        for rival in rivals
    )


def usual_scales(frames: float = 100e6, games: tuple[str, ...] = ATARI_20) -> dict[str, Scale]:
    """
    MinAtar for smoke and laptop, three Atari games for lab, and what the small-batch paper ran.

    :param frames: of each run of the paper; 4 are an agent step
    :param games: of the paper
    """
    return {
        "smoke": SMOKE,
        "laptop": Scale(200_000, 5, MINATAR_PAIR, MINATAR_SPEED),
        "lab": Scale(2_500_000, 3, ATARI_THREE, ATARI_SPEED),
        "paper": Scale(int(frames / 4), PAPER_SEEDS, games, ATARI_SPEED),
    }
