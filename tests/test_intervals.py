"Intervals over seeds and items keep their promise, and a race keeps the best loss"
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pytest
import nbformat
from scipy import stats
from fastai_losses import intervals
from fastai_losses.intervals import (balanced,corrected_level,interval,number_of_looks,race,replay,
    ruled_out)

nbs = Path(__file__).parent.parent/'nbs'
records = nbs/'experiments'/'records'/'intervals'

def _simulation():
    "The functions of the simulation, which the notebook does not export"
    cells = nbformat.read(nbs/'09f_intervals.ipynb', as_version=4).cells
    defined = {**vars(intervals), 'Sequence': Sequence}
    for cell in cells:
        if cell.source.startswith('# simulation'): exec(cell.source, defined)
    return SimpleNamespace(**defined)

simulated = _simulation()
beta_outcomes,probit_outcomes = simulated.beta_outcomes,simulated.probit_outcomes
misses,races,simulation = simulated.misses,simulated.races,simulated.simulation
race_settings,settings = simulated.race_settings,simulated.settings

def kept_promise(rows):
    "Those of the settings that miss too often, or next to never"
    return [r for r in rows if not (0.005 <= r['95'] <= 0.075 and r['99.67'] <= 0.006)]

def test_the_formula():
    "Against the formula written out for one array"
    d = np.random.default_rng(0).normal(0.1, 1, (4, 50)) + np.array([[0.3], [-0.2], [0], [0.1]])
    rows,columns,mean = d.mean(1),d.mean(0),d.mean()
    rest = d - rows[:, None] - columns + mean
    v_s,v_i = rows.var(ddof=1)/4,columns.var(ddof=1)/50
    v_e = (rest**2).sum()/(3*49)/200
    t_s,t_i = stats.t.isf(0.025, 3),stats.t.isf(0.025, 50/stats.kurtosis(columns, fisher=False))
    expected = np.sqrt(max(t_s**2*v_s + t_i**2*max(v_i - v_e, 0), t_i**2*v_i))
    assert interval(d).margin == pytest.approx(expected)

@pytest.mark.parametrize('values, covers', [
    (np.zeros((3, 100)), 'seeds and items'), (np.ones((3, 100)), 'seeds and items'),
    (np.zeros((1, 100)), 'items'), (np.ones(3), 'seeds'), (np.ones((3, 1)), 'seeds'),
    ([0.5], 'nothing'), ([[0.5]], 'nothing'), (np.zeros((0, 5)), 'nothing')])
def test_nothing_varies(values, covers):
    i = interval(values)
    assert i.covers == covers
    assert np.isnan(i.margin) == (covers in ('seeds', 'nothing'))

def test_the_complement_has_the_same_interval():
    wrong = (np.random.default_rng(0).random((3, 200)) < 0.03).astype(float)
    assert interval(wrong).margin == pytest.approx(interval(1 - wrong).margin)

def test_balanced_with_ignored_items():
    values = np.array([[1., 0, 0, np.nan, 1], [1, 0, 1, 0, 1]])
    weighted = balanced(values, np.array([0, 0, 0, 1, 1]))
    assert np.nanmean(weighted[0]) == pytest.approx((1/3 + 1)/2)
    assert interval(weighted).items == 4

def test_one_seed_rules_nothing_out():
    errors = {'a': np.zeros((1, 500)), 'b': np.ones((1, 500))}
    assert ruled_out(errors, 0.95) == [] and race(errors, 2, 3).out == ()

def test_race_ends_with_equal_losses():
    rng = np.random.default_rng(0)
    wrong = (rng.random(20_000) < 0.1).astype(float)
    same = {name: np.abs(wrong - (rng.random((4, 20_000)) < 0.001)) for name in 'abc'}
    assert race(same, 3, 1, margin=0.01).over and not race(same, 3, 1, margin=1e-5).over
    assert race({'a': same['a']}, 3, 1).over
    assert replay(same, margin=0.01).saved == pytest.approx(0.25)

def test_race_with_scores_only():
    "Records without items have the scores of the seeds"
    rng = np.random.default_rng(0)
    scores = {n: m + 0.002*rng.standard_normal(8) for n,m in (('a', 0.1), ('b', 0.1), ('c', 0.3))}
    assert replay(scores).left == ('a', 'b')

def test_corrections():
    assert corrected_level(1) == corrected_level(2) == 0.95
    assert 1 - corrected_level(16, 8) == pytest.approx(0.05/15/8)
    assert [number_of_looks(s) for s in (1, 3, 10)] == [1, 1, 8]

def test_models_have_the_rates_they_are_given():
    for model,effects in ((probit_outcomes, (0.3, 1, 1.5)), (beta_outcomes, (0.1, 0.2, 2))):
        rates = model(np.random.default_rng(0), (4000, 3, 60), (0.3, 0.1), *effects).mean((1, 2, 3))
        assert rates == pytest.approx((0.3, 0.1), abs=0.006)

def test_kept_simulations():
    kept = json.loads((records/'misses.json').read_text())
    assert kept['comparisons'] >= 2000 and len(kept['settings']) == 108
    assert kept_promise(kept['settings']) == []
    kept = json.loads((records/'races.json').read_text())
    assert kept['races'] >= 1000
    assert [r['setting'] for r in kept['settings']] == list(race_settings)
    assert max(r['best dropped'] for r in kept['settings']) <= 0.05

def test_seeds_only_intervals_do_not_keep_it():
    model,cases = settings['probit']
    missed = misses(model, cases['small seeds, losses unlike'], 10, 300, n=500)
    assert missed['95 seeds only'] > 0.3 and missed['95'] < 0.075

@pytest.mark.slow
def test_intervals_cover_the_truth():
    assert kept_promise(simulation(2000, seed=1)) == []

@pytest.mark.slow
@pytest.mark.parametrize('name', race_settings)
def test_races_keep_the_best(name):
    assert races(*race_settings[name], n=300, seed=1)['best dropped'] <= 0.05
