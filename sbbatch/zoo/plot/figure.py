"""Figures, and the files they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file

# Okabe and Ito's colours, which colour-blind readers tell apart; yellow is too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8B4513")


def picture_file(path: Path) -> Path:
    """The file to write for what the user wrote, or ``InvalidValue`` if it is neither PNG, PDF nor SVG."""
    return output_file(path, ".png", ".pdf", ".svg")


def new_figure(width: float, height: float) -> Any:
    """
    An empty matplotlib figure, sizes in inches.

    :raises InvalidValue: matplotlib is missing
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InvalidValue("plots need matplotlib; run pip install 'sbbatch[plots]'") from None
    # No pyplot: it would pick a window system and keep every figure alive.
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path, dpi: int = 120) -> Path:
    """Write a figure, whole or not at all, and return ``path``."""
    with atomic_write(path) as file:
        figure.savefig(file, dpi=dpi, format=path.suffix[1:].lower())
    return path
