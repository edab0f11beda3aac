"""Pictures are drawn from the files of runs alone: one run, several seeds, several agents."""

import numpy as np
import pytest
import yaml

from sbbatch.errors import UserError
from sbbatch.zoo.commands.plot import main
from sbbatch.zoo.commands.train import main as train
from sbbatch.zoo.plot.comparison import draw_comparisons, read_runs, read_training, report_runs
from sbbatch.zoo.plot.curves import plot_run
from sbbatch.zoo.plot.runs import group_runs, read_run


def write_run(logs, agent, number, episodes=(), evaluations=None, arguments=None, **settings):
    """Episodes of ten steps each."""
    run = logs / agent / f"Game-v1_{number}"
    (run / "Game-v1").mkdir(parents=True)
    (run / "Game-v1" / "config.yml").write_text(yaml.safe_dump(settings))
    (run / "Game-v1" / "args.yml").write_text(yaml.safe_dump({"seed": number, **(arguments or {})}))
    rows = [f"{score},10,{i}.0,{10 * i}" for i, score in enumerate(episodes, 1)]
    (run / "0.monitor.csv").write_text("\n".join(["#{}", "r,l,t,steps", *rows, ""]))
    if evaluations is not None:
        steps = 10 * np.arange(1, len(evaluations) + 1)
        np.savez(run / "evaluations.npz", timesteps=steps, results=np.array(evaluations, float))
    return run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, "dqn", 1, [1, 2, 3, 4, 5], [[1, 3], [2, 6]], batch_size=8)


@pytest.fixture
def seeds(tmp_path):
    return [
        write_run(tmp_path, "dqn", 1, [0, 2, 4, 6], [[0, 2], [4, 6]], batch_size=8),
        write_run(tmp_path, "dqn", 2, [4, 6, 8], [[3, 3], [7, 7]], batch_size=8),
    ]


def test_a_curve_is_read_against_agent_steps(run):
    with (run / "0.monitor.csv").open("a") as file:
        file.write("6.0,1")  # half-written: the run is going on
    steps, returns = read_run(run).episodes
    assert steps.tolist() == [10, 20, 30, 40, 50]
    assert returns.tolist() == [1, 2, 3, 4, 5]
    steps, returns = read_run(run).evaluations
    assert steps.tolist() == [10, 20]
    assert returns.tolist() == [[1, 3], [2, 6]]


def test_monitor_files_of_sb3_are_read_too(run):
    (run / "0.monitor.csv").write_text('#{"t_start": 1}\nr,l,t\n1.0,10,0.1\n2.0,20,0.3\n')
    (run / "1.monitor.csv").write_text('#{"t_start": 1}\nr,l,t\n9.0,5,0.2\n')
    steps, returns = read_run(run).episodes
    assert returns.tolist() == [1, 9, 2]
    assert steps.tolist() == [10, 15, 35]


@pytest.mark.parametrize(
    ("name", "starts"),
    [(None, {".png": b"\x89PNG", ".pdf": b"%PDF"}), ("a", {".png": b"\x89PNG", ".pdf": b"%PDF"}),
     ("a.pdf", {".pdf": b"%PDF"}), ("a.SVG", {".SVG": b"<?xml"})],
)  # fmt: skip
def test_a_picture_is_what_its_name_says(run, tmp_path, name, starts):
    files = plot_run(run, None if name is None else tmp_path / name, title=r"$\nosuch$")  # a title is no formula
    assert {file.suffix: file.read_bytes()[: len(starts[file.suffix])] for file in files} == starts
    assert {file.with_suffix("") for file in files} == {run / "learning_curve" if name is None else tmp_path / "a"}


def test_a_title_has_no_seed_that_nobody_chose(tmp_path):
    seeds = {1: 7, 2: 1845939512, 3: 404040}
    names = [read_run(write_run(tmp_path, "dqn", n, arguments={"seed": seed})).name for n, seed in seeds.items()]
    assert names == ["seed 7", "run 2", "seed 404040"]


def test_what_cannot_be_drawn_is_one_sentence(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "0.monitor.csv").touch()
    late = write_run(tmp_path, "iqn", 1, [1])
    for words, told in (
        ([run, "-o", tmp_path / "x.foo"], "expected .png or .pdf or .svg"),
        ([tmp_path], "not the folder of a run"),  # the folder of all runs, say
        ([tmp_path / "none"], "no such run folder"),
        ([tmp_path / "empty"], "nothing to draw"),
        (["train", tmp_path / "empty"], "no training episode has ended"),
        (["train", late], "nothing at common agent steps"),
        (["compare", late], "no evaluation has ended"),
        (["compare", run, run.parent / ".." / "dqn" / run.name], "would count as two seeds"),
        (["train", run, "--by", "gamma"], "none of the runs sets gamma"),
    ):
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize("damage", ["torn", "no steps", "an array"])
def test_damaged_evaluations_are_told(run, damage):
    path = run / "evaluations.npz"
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "no steps":
        np.savez(path, timesteps=[1, 2], results=[[1.0, 2.0]])
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"evaluations.npz: damaged"):
        plot_run(run)


def test_a_missing_matplotlib_names_the_extra(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'sbbatch\[plots\]'"):
        plot_run(run)


def test_evaluations_are_compared_where_all_runs_have_them(tmp_path, seeds):
    dqn, iqn = read_runs([*seeds, write_run(tmp_path, "iqn", 1, [], [[9, 9]])])
    assert (dqn.group.label, iqn.group.label, dqn.group.environment) == ("DQN", "IQN", "Game-v1")
    assert dqn.returns.tolist() == [[1, 5], [3, 7]]  # means of the episodes
    assert dqn.final().tolist() == [3, 5]  # of the evaluations, here fewer than three
    assert report_runs([dqn, iqn])[1].endswith("runs: 3.0, 5.0")
    curve = dqn.curve
    assert (curve.middle.tolist(), curve.low.tolist(), curve.high.tolist()) == ([2, 6], [1, 5], [3, 7])


def test_a_longer_run_goes_on_alone_and_that_is_said(tmp_path, seeds):
    short = write_run(tmp_path, "dqn", 3, [], [[5, 5]], batch_size=8)
    (one,) = read_runs([*seeds, short])
    assert one.timesteps.tolist() == [10]
    assert [[points.tolist() for points in tail] for tail in one.tails] == [[[10, 20], [1, 5]], [[10, 20], [3, 7]]]
    assert "2 of 3 runs go on after 10 agent steps" in report_runs([one])[1]
    long = write_run(tmp_path, "dqn", 4, range(9), batch_size=8)
    (one,) = read_training([*seeds, long])
    assert (one.timesteps[-1], [tail[0][-1] for tail in one.tails]) == (30, [40, 90])


def test_a_tail_begins_where_the_common_curve_ends_and_what_is_cut_is_said(tmp_path):
    runs = [write_run(tmp_path, "dqn", n, [], [[0.0]] * 20) for n in range(1, 4)]
    np.savez(runs[1] / "evaluations.npz", timesteps=[10, 205], results=[[0.0], [1.0]])
    np.savez(runs[2] / "evaluations.npz", timesteps=[10, 150, 250], results=[[0.0], [0.0], [10.0]])
    (one,) = read_runs(runs)
    assert [[points.tolist() for points in tail] for tail in one.tails] == [[[200, 250], [5, 10]]]
    notes = report_runs([one])[1:]
    assert "up to 5 agent steps after 200, where the shortest run ends, are not drawn" in notes[1]
    assert "1 of 3 runs go on after 200 agent steps" in notes[2]


def test_all_runs_of_a_curve_have_one_window_which_the_picture_names(tmp_path, monkeypatch):
    runs = [write_run(tmp_path, "dqn", 1, range(10)), write_run(tmp_path, "dqn", 2, [3.0] * 2000)]
    drawn = read_training(runs)
    assert drawn[0].window == 2
    told = []
    monkeypatch.setattr("sbbatch.zoo.plot.comparison.draw_curves", lambda *words: told.append(words[-1]))
    draw_comparisons(drawn, tmp_path / "a")
    draw_comparisons(read_training(runs[1:]), tmp_path / "b")
    assert told[0].startswith("running means of 2 training episodes, mean over runs")
    assert told[1] == "running means of 50 training episodes of single runs, without intervals"


def test_a_single_run_has_no_band(run):
    (one,) = read_runs([run])
    assert np.isnan([one.curve.low, one.curve.high]).all()
    assert one.curve.middle.tolist() == [2, 4]


def test_evaluations_at_other_steps_are_interpolated_and_that_is_said(tmp_path, seeds):
    last = write_run(tmp_path, "dqn", 3, [], batch_size=8)
    np.savez(last / "evaluations.npz", timesteps=[10, 16], results=[[0.0], [6.0]])  # an adaptive rollout ended there
    (one,) = read_runs([*seeds, last])
    assert one.timesteps.tolist() == [10, 16]
    np.testing.assert_allclose(one.returns[:, 1], [1 + 0.6 * 4, 3 + 0.6 * 4, 6])
    assert any("interpolated" in line for line in report_runs([one]))


def test_training_is_the_mean_over_runs_up_to_the_end_of_the_shortest(seeds):
    (one,) = read_training(seeds)
    assert (one.timesteps[0], one.timesteps[-1]) == (10, 30)
    curve = one.curve
    assert (curve.middle[0], curve.middle[-1]) == (2, 6)  # of 0 and 4, of 4 and 8
    assert (curve.low[0], curve.high[0]) == (0, 4)
    np.testing.assert_allclose(np.diff(curve.middle), np.diff(curve.middle)[0])


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        ({"learning_rate": 0.0023, "batch_size": 64}, {"learning_rate": 1e-05, "batch_size": 8},
         ["batch size 8, learning rate 0.00001", "batch size 64, learning rate 0.0023"]),
        ({"policy_kwargs": {"net_arch": [64], "tau": 8}}, {"policy_kwargs": {"net_arch": [256], "tau": 8}},
         ["policy net arch [256]", "policy net arch [64]"]),
        ({"seed_env": None}, {"seed_env": None}, [""]),
        ({"gamma": 0.9}, {}, ["gamma 0.9", "gamma 0.99"]),  # the default, as a number
        ({"gamma": 0.99, "n_envs": 1}, {}, [""]),
        ({"policy_kwargs": {"net_arch": [8]}}, {}, ["policy net arch [8]", "policy net arch default"]),
        ({"arguments": {"truncate_last_trajectory": True}}, {"arguments": {"truncate_last_trajectory": False}},
         ["truncate last trajectory False", "truncate last trajectory True"]),
        ({"n_timesteps": 1000}, {"n_timesteps": 20000}, ["n timesteps 1,000", "n timesteps 20,000"]),
        ({"arguments": {"trained_agent": "a.zip"}}, {}, ["trained agent a.zip", "trained agent default"]),
        ({"arguments": {"seed": 5, "num_threads": 2}}, {"arguments": {"seed": 6, "num_threads": 1}}, [""]),
        ({"batch_size": 8}, {"batch_size": 8.0}, [""]),
        ({"policy_kwargs": {"net_arch": [64], "n_quantiles": 8}},
         {"policy_kwargs": "dict(n_quantiles=8, net_arch=[64])"}, [""]),
        ({"policy_kwargs": "dict(activation_fn=nn.ReLU, net_arch=[8])"},
         {"policy_kwargs": {"net_arch": [64], "activation_fn": "nn.ReLU"}},
         ["policy net arch [64]", "policy net arch [8]"]),
        ({"batch_size_callback": "abs(8,64)"}, {"batch_size_callback": "abs(8, 64)"}, [""]),
        ({"learning_rate": "lin_1e-3"}, {"learning_rate": "nonsense("},
         ["learning rate lin_1e-3", "learning rate nonsense("]),
    ],
)  # fmt: skip
def test_runs_that_differ_in_anything_but_the_seed_are_curves_of_their_own(tmp_path, first, second, labels):
    runs = [write_run(tmp_path, "qrdqn", 1, **first), write_run(tmp_path, "qrdqn", 2, **second)]
    groups = group_runs(list(map(read_run, runs)))
    assert [group.details for group in groups] == labels
    assert all(group.agent == "QRDQN" and not group.pooled() for group in groups)


def test_training_episodes_do_not_depend_on_how_evaluations_are_played(tmp_path):
    runs = [
        write_run(tmp_path, "dqn", i, [1, 2], [[i]], arguments={"eval_episodes": i, "stuck_steps": i}, **more)
        for i, more in enumerate([{}, {"eval_env_kwargs": {"x": 1}}, {"gamma": 0.5}])
    ]
    assert [len(one.returns) for one in read_training(runs)] == [1, 2]
    assert len(read_runs(runs)) == 3


def test_by_says_what_tells_runs_apart_and_the_rest_is_pooled(tmp_path):
    pairs = [(64, 0.1), (64, 0.2), (8, 0.1), (8, 0.1)]
    runs = [write_run(tmp_path, "dqn", i, batch_size=b, gamma=g) for i, (b, g) in enumerate(pairs)]
    small, large = group_runs(list(map(read_run, runs)), ["batch_size"])
    assert (small.label, len(small.runs), small.pooled()) == ("DQN, batch size 8", 2, [])
    assert (large.label, large.pooled()) == ("DQN, batch size 64", ["pooled over gamma: 0.1, 0.2"])
    (all_runs,) = group_runs(list(map(read_run, runs)), ["algo"])
    assert (all_runs.label, len(all_runs.runs), len(all_runs.pooled())) == ("DQN", 4, 2)
    assert [group.details for group in group_runs(list(map(read_run, runs)), ["seed"])] == [
        "seed 0",
        "seed 1",
        "seed 2",
        "seed 3",
    ]


def test_an_agent_has_one_name_in_all_environments(tmp_path):
    runs = [write_run(tmp_path, "dqn", 1, gamma=0.1), write_run(tmp_path, "dqn", 2, gamma=0.2)]
    runs.append(write_run(tmp_path, "dqn", 3, arguments={"env": "Other-v0"}, gamma=0.1))
    labels = [(group.environment, group.label) for group in group_runs(list(map(read_run, runs)))]
    assert labels == [("Game-v1", "DQN, gamma 0.1"), ("Game-v1", "DQN, gamma 0.2"), ("Other-v0", "DQN, gamma 0.1")]
    # Also where each environment has settings of its own.
    labels = [group.label for group in group_runs(list(map(read_run, runs[1:])))]
    assert labels == ["DQN, gamma 0.2", "DQN, gamma 0.1"]
    assert {group.label for group in group_runs(list(map(read_run, runs[1:])), ["env"])} == {"DQN"}


@pytest.mark.parametrize(
    ("kind", "name", "statistic", "first"),
    [("train", "training", "mean", "0.0,4.0"), ("compare", "comparison", "iqm", "1.0,3.0")],
)
def test_picture_and_table_are_written_beside_the_runs(
    seeds, tmp_path, capsys, monkeypatch, kind, name, statistic, first
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main([kind, *map(str, seeds), "--title", "Two seeds"]) == 0
    out = tmp_path / "dqn" / f"{name}.png"
    assert out.stat().st_size > 10_000
    lines = out.with_suffix(".csv").read_text().splitlines()
    assert lines[0] == f"environment,agent,timesteps,runs,{statistic},low,high"
    assert lines[1] == f"Game-v1,DQN,10,2,2.0,{first}"
    assert capsys.readouterr().out.endswith(f"{out}\n{out.with_suffix('.pdf')}\n")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert main([kind, *map(str, sorted((tmp_path / "dqn").iterdir()))]) == 0  # the pictures are no runs


# --------------------------------------------------------------------------------------------------------- metrics


def write_metrics(run, *rows):
    text = "\n".join(["timesteps,updates,srank,noise_scale", *rows, ""])
    (run / "metrics.csv").write_text(text)


def test_metrics_of_seeds_are_drawn_together(seeds, tmp_path, capsys):
    write_metrics(seeds[0], "10,0,4,", "20,10,6,", "30,20,8,")
    write_metrics(seeds[1], "10,0,2,", "20,10,4,3.5")
    assert main(["metrics", *map(str, seeds), "-o", str(tmp_path / "m.png")]) == 0
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()


def test_a_run_without_metrics_is_refused_in_one_line(seeds, capsys):
    assert main(["metrics", str(seeds[0])]) == 2
    assert "no metrics.csv" in capsys.readouterr().err


def test_a_run_with_the_callback_from_yaml_leaves_table_and_picture(tmp_path, capsys):
    callback = "{sbbatch.analysis.AnalysisMetrics: {every: 10, n_states: 32}}"
    (tmp_path / "my.yml").write_text(
        "CartPole-v1: {policy: MlpPolicy, n_timesteps: 300, learning_starts: 50, target_update_interval: 20, "
        f"callback: {callback}}}"
    )
    words = ["--algo", "dqn", "--env", "CartPole-v1", "-conf", str(tmp_path / "my.yml"), "-f", str(tmp_path)]
    assert train([*words, "--eval-freq", "-1", "--no-progress", "--seed", "0"]) == 0
    (table,) = tmp_path.rglob("metrics.csv")
    assert table.with_name("metrics.png").exists()
    assert "metrics picture" in capsys.readouterr().out
    assert "metrics/srank" in (table.with_name("progress.csv")).read_text()
