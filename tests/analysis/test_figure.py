"""One style: plain numbers, one legend, and the map of a study's trials."""

import pandas as pd
import pytest

from sbbatch.analysis.figure import curve_style, legend_below, log_axis, new_figure, picture, plain_number
from sbbatch.analysis.trials import draw_history, draw_importances, draw_map


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"), (2000, "2,000"), (1e-5, "0.00001"), (0.0023, "0.0023"), (0, "0"), (-1.5, "-1.5"),
        (12_345_678_901, "12,345,678,901"), (1e15, "1,000,000,000,000,000"), (2**62 + 1, "4,611,686,018,427,387,905"),
        (0.1 + 0.2, "0.3"), (2000 * (1 + 1e-15), "2,000"), (float("nan"), "nan"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_numbers_are_plain(value, text):
    assert plain_number(value) == text


@pytest.mark.parametrize(("base", "ends", "ticks"), [
    (2, (7, 140), ["8", "16", "32", "64", "128"]),
    (10, (2e-5, 0.02), ["0.0001", "0.001", "0.01"]),
    (10, (0.0015, 0.03), ["0.002", "0.005", "0.01", "0.02"]),
])  # fmt: skip
def test_logarithmic_axes_have_plain_ticks(base, ends, ticks):
    axis = (axes := new_figure(4, 3).subplots()).yaxis
    axes.set_ylim(*ends)
    log_axis(axis, base)
    shown = zip(axis.get_majorticklocs(), (label.get_text() for label in axis.get_ticklabels()), strict=True)
    assert [text for place, text in shown if ends[0] <= place <= ends[1]] == ticks


@pytest.mark.parametrize("length", range(60, 90))
def test_a_legend_does_not_break_the_number_of_runs(length):
    figure = new_figure(6.4, 4)
    figure.subplots().plot([0, 1], [0, 1], label=f"{'word ' * (length // 5)}{'x' * (length % 5)} (12 runs)")
    legend_below(figure)
    assert "(12 runs)" in figure.legends[0].get_texts()[0].get_text()


@pytest.mark.parametrize(("zero", "top"), [(1, 300), (0.1, 3), (0.0001, 0.1)])
def test_an_axis_with_zeros_has_ticks_from_there_on(zero, top):
    axis = (axes := new_figure(4, 3).subplots()).yaxis
    axes.set_ylim(0, top)
    log_axis(axis, zero=zero)
    ticks = [tick for tick in axis.get_majorticklocs() if 0 <= tick <= top]
    assert {0, zero} <= set(ticks)
    assert len(ticks) >= 3


def test_one_legend_tells_each_curve_once(tmp_path):
    """Also of more curves than there are colors."""
    figure = new_figure(6, 4)
    for axes in figure.subplots(1, 2):
        for i in range(9):
            axes.plot([0, 1], [0, i], label=f"agent {i}", **curve_style(i))
    legend_below(figure, "means")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"agent {i}" for i in range(9)]
    assert len({(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}) == 9


TRIALS = pd.DataFrame(
    {
        "trial": [0, 1, 2, 3],
        "outcome": ["complete", "pruned", "complete", "refused"],
        "score": [1.0, 0.5, 3.0, None],
        "batch_size": [8, 64, 512, 1],
        "learning_rate": [1e-4, 1e-3, 1e-2, 1e-5],
        "net_arch": ["[64]", "[256]", "[64]", "[64]"],
    }
)


def test_trials_stand_on_axes_that_suit_their_settings(tmp_path):
    with picture([tmp_path / "a.png"], 6, 4) as figure:
        draw_map(figure, TRIALS, "batch_size", "learning_rate")
    axes, _ = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch size", "learning rate")
    assert [axis.get_scale() for axis in (axes.xaxis, axes.yaxis)] == ["log", "log"]
    assert [len(marks.get_offsets()) for marks in axes.collections] == [2, 1]  # complete, stopped early
    with picture([], 6, 4) as figure:
        draw_map(figure, TRIALS, "net_arch", "batch_size")
        figure.canvas.draw()
    assert {tick.get_text() for tick in figure.axes[0].get_xticklabels()} == {"[256]", "[64]"}


def test_what_is_null_has_a_place_and_numbers_come_in_their_order():
    table = TRIALS.assign(
        score=[1.0, 0.5, 3.0, 2.0], grad_norm=[10.0, None, 0.5, None], buffer_size=[10, 100, 1000, 10]
    )
    with picture([], 6, 4) as figure:
        draw_map(figure, table[table["outcome"] == "complete"], "buffer_size", "grad_norm")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["complete trial"]
    with picture([], 6, 4) as figure:
        draw_map(figure, table, "buffer_size", "grad_norm")
        figure.canvas.draw()
    axes = figure.axes[0]
    assert sum(len(marks.get_offsets()) for marks in axes.collections) == 4
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0.5", "10", "null"]
    shown = [tick.get_text() for tick in axes.get_xticklabels()]
    assert {"10", "100", "1,000"} <= {*shown}
    assert "64" not in shown


def test_history_and_importances_show_what_is_in_the_table():
    with picture([], 6, 4) as figure:
        draw_history(figure, TRIALS)
    (line,) = [line for line in figure.axes[0].get_lines() if "best" in line.get_label()]
    assert line.get_ydata().tolist() == [1, 3]
    with picture([], 6, 2) as figure:
        draw_importances(figure, {"gamma": 0.25, "policy_kwargs.net_arch": 0.75}, 10)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.25, 0.75]
    assert "of 10 trials, too few" in figure.axes[0].get_xlabel()
