"""The one style of all pictures, and the files they become."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file

# Okabe and Ito's colors, which color-blind readers tell apart; their yellow is too pale on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")  # of the curves after the last color
GRAY, INK = "#8C8C8C", "#333333"  # what belongs to no run in particular; text
STEPS, RETURN = "agent steps", "return per episode"
_STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **{"font.size": 10, "axes.titlesize": 11, "figure.titlesize": 12, "legend.fontsize": 9.5},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True},
    **{"grid.color": "#E3E3E3", "grid.linewidth": 0.8, "legend.frameon": False, "lines.linewidth": 1.8},
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "pdf.fonttype": 42,  # text that can be searched and edited, which journals ask for
    "svg.hashsalt": "sbbatch",  # the same file for the same picture
}


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


@contextmanager
def picture(files: Sequence[Path], width: float, height: float, title: str | None = None) -> Iterator[Any]:
    """
    A figure in our style, to draw into; it is written when the block ends.

    :param files: see :func:`picture_files`
    :param width: in inches
    :param height: likewise
    :param title: above the picture
    :raises UserError: matplotlib is missing, or a file cannot be written
    """
    figure = new_figure(width, height)
    from matplotlib import rc_context

    with rc_context(_STYLE):
        if title:
            figure.suptitle(title)
        yield figure
        for path in files:
            kind = path.suffix[1:].lower()
            undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
            with atomic_write(path) as file:
                figure.savefig(file, dpi=150, format=kind, metadata=undated)


def picture_files(path: Path) -> list[Path]:
    """The files to write for a path: that one, or PNG and PDF if it has no suffix; ``InvalidValue`` for another."""
    suffixes = [""] if path.suffix else [".png", ".pdf"]
    return [output_file(path.with_name(path.name + suffix), ".png", ".pdf", ".svg") for suffix in suffixes]


def curve_style(number: int) -> dict[str, Any]:
    """Color and dashes of a picture's curve number 0, 1, 2 ..."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": _DASHES[number // len(COLORS) % len(_DASHES)]}


def plain_number(value: float, _: Any = None) -> str:
    """As people write it: 0.00001, 0.25, 32, 2,000; whole numbers exactly, others to ten digits."""
    for known in (value, float(f"{value:.10g}")):
        if np.isfinite(known) and known == int(known):
            return f"{int(known):,}"
    return f"{known:,.10g}" if abs(known) >= 1 else np.format_float_positional(known, trim="-")


def counted(numbers: Sequence[int], of: str) -> str:
    """1 run, 2 runs, or 1 to 3 runs."""
    low, high = min(numbers), max(numbers)
    return f"{low} to {high} {of}s" if low < high else f"{low} {of}{'s' if low > 1 else ''}"


def setting_name(key: str) -> str:
    """A setting in words: ``"policy_kwargs.net_arch"`` as policy net arch."""
    return key.replace("_kwargs.", " ").replace("_", " ")


def number_axes(axes: Any, x: str, y: str) -> None:
    """Name both axes; plain numbers at y, agent steps as 20k or 1.5M so that they fit beside each other."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set(xlabel=x, ylabel=y)
    axes.yaxis.set_major_formatter(plain_number)
    if x == STEPS:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def log_axis(axis: Any, base: int = 10, zero: float = 0.0) -> None:
    """
    Make ``axes.xaxis`` or ``axes.yaxis`` logarithmic, with plain numbers at the powers of the base.

    :param base: 2 for 8, 16, 32; 10 for 0.001, 0.01 and what lies between if that is all
    :param zero: there may be zeros: linear below this number; 0: there are none
    """
    from matplotlib.ticker import LogLocator, NullLocator, SymmetricalLogLocator

    kind = {"value": "symlog", "linthresh": zero} if zero else {"value": "log"}
    getattr(axis.axes, f"set_{axis.axis_name}scale")(**kind, base=base)
    low, high = axis.get_view_interval()
    subs = (1, 2, 5) if base == 10 and high < 50 * max(low, zero) else (1,)
    if zero:
        axis.set_major_locator(SymmetricalLogLocator(linthresh=zero, base=base, subs=subs))
    else:
        axis.set_major_locator(LogLocator(base, subs, numticks=99))
    axis.set_major_formatter(plain_number)
    axis.set_minor_locator(NullLocator())


def legend_below(figure: Any, title: str | None = None) -> None:
    """The one legend of a figure, which grows by it: each label of any axes once, in as many columns as fit."""
    marks: dict[str, Any] = {}
    for axes in figure.axes:
        for mark, label in zip(*axes.get_legend_handles_labels(), strict=True):
            marks.setdefault(label, mark)
    letters = int(figure.get_figwidth() / 0.068)  # in a line
    # What stands in brackets at the end, such as (3 runs), stays together.
    whole = [re.sub(r"\([^()]*\)$", lambda end: end[0].replace(" ", "\xa0"), label) for label in marks]
    labels = [textwrap.fill(label, letters - 8).replace("\xa0", " ") for label in whole]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(letters // (longest + 8), len(labels)))
    title = title and textwrap.fill(title, letters)
    n_lines = sum(text.count("\n") + 1 for text in labels) / columns + (title.count("\n") + 1 if title else 0)
    figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(n_lines) + 0.1)
    figure.legend(marks.values(), labels, title=title, title_fontsize=9, loc="outside lower center", ncols=columns)
