"""All studies: they can be planned, agents take their settings, their rules can be decided; and they run."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sbbatch.settings.resolution import constructor_values, read_parameters, require_algorithm, resolve, run_value
from sbbatch.studies import command
from sbbatch.studies.catalogue import STUDIES
from sbbatch.studies.command import Command
from sbbatch.studies.engines import LocalPool
from sbbatch.studies.report import write_report
from sbbatch.studies.rules import NOT_DECIDED
from sbbatch.studies.runner import plan, run_missing, stated_seconds
from sbbatch.zoo.commands import cli, train
from sbbatch.zoo.run.build import run_env

PAGE = Path(__file__).parents[2] / "docs" / "studies.md"
SUITE = ("--suite", "atari100k")
every_study = pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
# Values of which one is built for all: what they are has been checked when they were read.
NUMBERS = ("batch_size:", "learning_rate:", "n_steps:", "train_freq:", "target_noise:", "exploration_final_eps:")


def params_of(run):
    return run.words[run.words.index("-params") + 1 :] if "-params" in run.words else ()


def settings_of(run):
    suite = "atari100k" if SUITE[0] in run.words else None
    return resolve(run.words[2], run.game, read_parameters(params_of(run)), suite=suite)


def distinct(studies, ignored=()):
    """Some runs that together have every value of every setting, for each agent and family of games."""
    seen, chosen = set(), []
    for study in studies:
        for run in (run for scale in study.scales for run in study.runs(scale) if run.needs is None):
            kind = run.words[2], run.game.partition("/")[0], SUITE[0] in run.words
            new = {kind, *((*kind, param) for param in params_of(run) if not param.startswith(ignored or ("\0",)))}
            if not new <= seen:
                seen |= new
                chosen.append(run)
    return chosen


@every_study
def test_a_study_is_planned_at_every_scale(study, tmp_path):
    assert "smoke" in study.scales
    assert study.rules
    for scale in study.scales:
        runs = study.runs(scale)
        assert len({run.id for run in runs}) == len({run.id.rpartition("_")[0] for run in runs}) == len(runs)
        assert plan(study, scale, [Command(run, tmp_path) for run in runs]).startswith(f"{len(runs):,} runs, ")


@every_study
def test_rules_are_about_the_arms_and_speak_before_and_after_the_runs(study):
    assert {arm for rule in study.rules for arm in rule.arms} <= set(study.arms)
    rng = np.random.default_rng(0)
    results = {arm: rng.normal(1.0, 0.1, (5, 2)) for arm in study.arms}
    verdicts = [rule.decide(lambda arm, score: results[arm]) for rule in study.rules]
    assert len(set(verdicts)) == len(verdicts)
    assert all(NOT_DECIDED in rule.decide(lambda arm, score: np.zeros((0, 2))) for rule in study.rules)


def test_every_setting_is_one_that_its_agent_has():
    pytest.importorskip("minatar", reason="MinAtar's games are an extra")
    for run in distinct(STUDIES.values()):
        settings_of(run)


def test_agents_are_made_of_the_settings():
    pytest.importorskip("minatar", reason="MinAtar's games are an extra")
    envs = {}
    for run in distinct(STUDIES.values(), NUMBERS):
        algo, settings = run.words[2], settings_of(run)
        kind = algo, run.game.partition("/")[0]
        if kind not in envs:
            envs[kind] = run_env(run.game, require_algorithm(algo), settings, seed=0, training=True, n_envs=1)
        given = constructor_values(settings)
        if "buffer_size" in given or algo not in ("pqn", "ppo"):
            given |= {"buffer_size": 1_000}
        else:
            given |= {"n_steps": 2048}
        require_algorithm(algo)(run_value(settings, "policy"), envs[kind], device="cpu", **given)


def test_the_paper_grid_is_1140_runs():
    grid = STUDIES["small_batch/paper_grid"]
    runs = grid.runs("paper")
    assert (len(runs), len({run.game for run in runs}), len({run.seed for run in runs})) == (1140, 57, 5)
    assert [run.arm for run in runs[:4]] == list(grid.arms)


def table():
    """The studies as docs/studies.md has them."""
    rows = ["| study | figure | question | core hours: laptop, lab, paper |", "|---|---|---|---|"]
    for study in STUDIES.values():
        hours = {
            name: study.n_runs(name) * stated_seconds(study, name) / 3600 for name in study.scales if name != "smoke"
        }
        costs = [f"{hours[name]:,.0f}" if name in hours else "-" for name in ("laptop", "lab", "paper")]
        name = f"`{study.id}`" + (" (blocked)" if study.blocked else "")
        rows.append(f"| {name} | {study.figure} | {study.question} | {', '.join(costs)} |")
    return "\n".join(rows)


def test_the_page_has_the_table_of_all_studies():
    assert table() in PAGE.read_text(encoding="utf-8"), "put it into docs/studies.md:\n" + table()


@pytest.mark.slow
@every_study
def test_a_study_runs_at_smoke_scale(study, tmp_path, monkeypatch):
    pytest.importorskip("minatar", reason="MinAtar's games are an extra")

    def run(program, **kwargs):  # in this process: importing takes longer than training
        return SimpleNamespace(returncode=cli.main(program[3:]))

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run, STDOUT=None))
    monkeypatch.setattr(train, "draw_pictures", lambda folder: None)
    commands = [Command(run, tmp_path) for run in study.runs("smoke")]
    failed = [shlex.join(one.words) for one, state in run_missing(commands, LocalPool()) if state != "done"]
    assert not failed
    assert all(one.state == "done" for one in commands)
    assert "**Verdict**\n" in write_report(study, "smoke", commands, tmp_path / "report")
