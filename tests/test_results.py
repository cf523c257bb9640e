"What records of a comparison say: ranking, differences, verdict, errors by class"
import math,time
from pathlib import Path
import numpy as np, pytest
from fastai_losses.intervals import corrected_level,interval
from fastai_losses.records import as_json,pack_items,write_record
from fastai_losses.results import ComparisonRecords,listed

kept = Path(__file__).parent.parent/'nbs'/'experiments'/'records'
luck = np.array([0.01, -0.01, 0.02, 0.0, -0.02])

def run(loss, seed, error=0.2, status='finished', metrics=(), lr=None, **kwargs):
    row = dict(phase='unfrozen', epoch=0, train_loss=1., valid_loss=1., error_rate=error, time=1.)
    return dict(loss=loss, status=status, started=f'{seed}{loss}', reason=None,
        epochs=[{**row, **dict(metrics)}], settings={'seed': seed, 'lr': lr}, **kwargs)

def runs(loss, errors, **kwargs):
    return [run(loss, s, float(e), **kwargs) for s,e in enumerate(errors)]

def with_items(loss, wrong, order=0, classes=None, **kwargs):
    "(S, N) outcomes"
    return [as_json(run(loss, s, float(w.mean()), order=order, items=pack_items(w, classes),
                        **kwargs)) for s,w in enumerate(wrong)]

def bits(mean, seeds=5, items=3000, seed=0):
    return (np.random.default_rng(seed).random((seeds, items)) < mean).astype(float)

def said(records, **kwargs): return ' '.join(ComparisonRecords(records).verdict(**kwargs).split())

# The baseline and the order

def test_baseline_is_not_the_one_that_started_first():
    "the baseline was the loss that had started first, and changed when a run was made again"
    records = [*runs('b', 0.2 + luck, order=1), *runs('a', 0.3 + luck, order=0)]
    assert ComparisonRecords(records).baseline() == 'a'
    assert ComparisonRecords(records).names == ['a', 'b']

def test_plain_cross_entropy_is_the_baseline_whatever_it_is_called():
    records = [*runs('a', luck, loss_repr='A()'), *runs('cross-entropy', luck, loss_repr='Other()'),
               *runs('mine', luck, loss_repr='CrossEntropy()'),
               *runs('s', luck, loss_repr='CrossEntropy(label_smoothing=0.1)')]
    assert ComparisonRecords(records).baseline() == 'mine'
    assert ComparisonRecords(records[:10]).baseline() == 'cross-entropy'
    assert ComparisonRecords(records[:5]).baseline() == 'a'

# Ranking

@pytest.mark.parametrize('metric, first', [('error_rate', 'a'), ('accuracy', 'a'), ('time', 'b'),
    ('perplexity', 'b'), ('f1', 'a'), ('valid_loss', 'b'), ('balanced_error', 'a')])
def test_direction_of_a_metric(metric, first):
    names = 'accuracy','time','perplexity','f1','valid_loss','balanced_error'
    values = {'a': dict(zip(names, (0.9, 2., 3., 0.9, 2., 0.1))),
              'b': dict(zip(names, (0.8, 1., 2., 0.8, 1., 0.2)))}
    records = [r for n,e in (('b', 0.2), ('a', 0.1))
               for r in runs(n, e + luck/100, metrics=values[n])]
    table = ComparisonRecords(records).table(metric)
    assert table.loss[1] == first and metric in table
    assert len(table.columns) == len(set(table.columns))

@pytest.mark.parametrize('late', [
    runs('lucky', [0.1, 0.1]), [run('lucky', s, 0.1 if s < 2 else math.nan) for s in range(5)],
    [run('lucky', s, 0.1, status='finished' if s < 2 else 'diverged') for s in range(5)],
    [run('lucky', s, 0.1, status='finished' if s < 2 else 'failed') for s in range(5)]])
def test_a_mean_over_luckier_seeds_ranks_last(late):
    "a loss with two of five seeds ranked first by the seeds that it had"
    table = ComparisonRecords([*runs('a', 0.2 + luck), *runs('b', 0.3 + luck), *late]).table()
    assert table.loss.tolist() == ['a', 'b', 'lucky'] and table.status[3] == '2 of 5 seeds'
    assert table.difference[3] == pytest.approx(0.1 - 0.2 - luck[:2].mean())

def test_all_runs_diverged():
    records = [r for n in 'ab' for r in runs(n, [0.5]*3, status='diverged')]
    assert ComparisonRecords(records).table().status.tolist() == ['diverged']*2
    assert 'nothing can be compared' in said(records)

def test_one_seed_has_the_intervals_of_the_items():
    wrong = bits(0.2, 1)
    table = ComparisonRecords([*with_items('a', wrong), *with_items('b', bits(0.4, 1), 1)]).table()
    assert table.ci95[1] == pytest.approx(interval(wrong).margin)
    assert table.difference_ci95[2] > 0 and 'nothing is claimed' in said([*with_items('a', wrong),
        *with_items('b', bits(0.4, 1), 1)])
    plain = ComparisonRecords([run('a', 1, 0.2), run('b', 1, 0.3)]).table()
    assert not {'ci95', 'difference_ci95'} & set(plain.columns)

# Differences

def test_differences_are_paired_over_common_seeds_and_items():
    ours,theirs = bits(0.2, seed=1),bits(0.22, seed=2)
    d = ComparisonRecords([*with_items('a', theirs), *with_items('b', ours[:3], 1),
                           *with_items('c', ours, 2)]).differences()
    expected = interval(ours[:3] - theirs[:3], corrected_level(3))
    assert d.low[0] == pytest.approx(expected.low, abs=1e-6)
    assert d.seeds.tolist() == [3, 5] and set(d.covers) == {'seeds and items'}

def test_looks_of_a_race_widen_the_intervals():
    records = lambda looks: ComparisonRecords([r for i,n in enumerate('ab')
        for r in with_items(n, bits(0.2, seed=i), i, looks=looks)])
    assert np.diff([records(looks).differences().high[0] for looks in (1, 8)]) > 0

def test_records_with_and_without_items_give_the_intervals_of_the_seeds():
    records = [*with_items('a', bits(0.2)), *runs('b', 0.2 + luck)]
    assert set(ComparisonRecords(records).differences().covers) == {'seeds'}
    assert 'not that of the validation items' in said(records)

def test_ignored_items_and_shares():
    "segmentation: the items have shares, and the score is that of all pixels"
    rng = np.random.default_rng(0)
    shares = [rng.beta(2, 8, (3, 500)) for _ in range(2)]
    shares[1][:, :7] = np.nan
    records = [run(n, s, 0.2 + 0.1*i, order=i, items=pack_items(e))
               for i,(n,errors) in enumerate(zip('ab', shares)) for s,e in enumerate(errors)]
    d = ComparisonRecords(records).differences()
    assert d.difference[0] == pytest.approx(0.1, abs=0.01) and d.covers[0] == 'seeds and items'
    assert d.claim[0] == 'worse'

def test_equal_losses_are_rarely_told_apart():
    "sixteen equal losses, three seeds: at most 5 % of the comparisons make a claim"
    rng = np.random.default_rng(0)
    def claims():
        hard = rng.normal(size=300)
        wrong = hard + 0.3*rng.normal(size=(16, 1, 300)) + rng.normal(size=(16, 3, 300)) > 1.2
        records = [r for i,w in enumerate(wrong) for r in with_items(f'l{i}', w.astype(float), i)]
        return (ComparisonRecords(records).differences().claim != '').any()
    assert sum(claims() for _ in range(60)) <= 3

# The verdict

def test_verdict_claims_what_the_differences_claim():
    records = [r for i,(n,m) in enumerate(dict(base=0.3, good=0.2, same=0.3, bad=0.5).items())
               for r in with_items(n, bits(m, seed=i), i)]
    text = said(records)
    assert 'Better than base in error rate (95 % intervals, all together): good by' in text
    assert 'good is the best, with' in text and 'Clearly worse than base: bad.' in text
    assert 'No loss is surely better than good' in said(records, baseline='good')

def test_verdict_of_two_equal_losses_says_what_would_tell():
    records = [*with_items('a', bits(0.2, seed=1)), *with_items('b', bits(0.21, seed=2), 1)]
    text = said(records)
    assert 'No loss is surely better than a' in text and 'To tell ' in text

def test_verdict_asks_for_items_where_more_seeds_do_not_help():
    "all seeds get the same items wrong"
    wrong = bits(0.2, 1, 1000)
    other = wrong.copy()
    other[0, np.flatnonzero(wrong[0])[:18]] = 0
    other[0, np.flatnonzero(wrong[0] == 0)[:22]] = 1
    first,second = np.tile(wrong, (5, 1)),np.tile(other, (5, 1))
    text = said([*with_items('a', first), *with_items('b', second, 1)])
    assert 'more validation items: about' in text and 'in place of 1,000' in text

@pytest.mark.parametrize('noise, answer', [(0.015, 'about ten'), (0.03, 'tens'), (0.3, 'hundreds')])
def test_verdict_asks_for_a_class_of_seeds(noise, answer):
    more = 0.2 + 0.01 + noise*np.array([1, -1, 0.5, -0.5, 0])
    assert answer in said([*runs('a', [0.2]*5), *runs('b', more)])

def test_verdict_names_what_is_missing():
    records = [*runs('a', 0.2 + luck), *runs('b', 0.3 + luck/2),
               *(run('c', s, 0.1, status='failed') for s in range(5))]
    assert 'Not judged, since runs did not finish: c (failed)' in said(records)
    told = [{**r, 'reason': 'ValueError: too\n  wide'} if r['loss'] == 'c' else r for r in records]
    assert 'did not finish: c (failed: ValueError: too wide)' in said(told)
    failed_base = [{**r, 'order': 'cab'.index(r['loss'])} for r in records]
    assert 'No run of c finished, so nothing can be compared with it.' in said(failed_base)

def test_verdict_knows_the_learning_rates():
    pair = lambda lr: [*runs('a', 0.2 + luck, lr=lr), *runs('b', 0.3 + luck, lr=lr)]
    assert all('same learning rate' in said(pair(lr)) for lr in (None, 0.1))
    assert all('learning rate' not in said(pair(lr)) for lr in ('find', [0.1, 0.2]))

def test_names_with_commas_are_quoted_and_long_lists_cut():
    records = [r for i in range(12) for r in runs(f'loss, {i}', 0.2 + luck*(1 + i))]
    text = said(records)
    assert "'loss, 0'" in text and 'more' in text
    assert listed('abcdefghij') == 'a, b, c, d, e, f and 4 more'

@pytest.mark.parametrize('metric', ['valid_loss', 'time'])
def test_verdict_by_other_metrics(metric):
    records = [run(n, s, metrics=[(metric, 10. + s + 3*(n == 'b') + 0.1*s*(n == 'b'))])
               for n in 'ab' for s in range(4)]
    text = said(records, metric=metric)
    assert 'Clearly worse than a: b.' in text and '%' not in text.replace('95 %', '')

def test_verdict_says_when_all_losses_only_guess():
    "Compared item by item with always answering the most frequent class"
    classes = np.repeat([0, 1, 2], [1000, 1500, 500])
    def pair(rate): return [r for i,n in enumerate('ab') for r in with_items(n, bits(rate, seed=i), i, classes)]
    assert said(pair(0.52)).startswith("No loss is surely better than always answering '1', the most "
        "frequent class, which has an error rate of 50.00 %")
    assert 'always answering' not in said(pair(0.4)) and 'always answering' not in said(runs('a', 0.6 + luck))
    one = [r for r in pair(0.52) if r['settings']['seed'] == 0]
    assert said(one).startswith('No loss is surely better than always answering')
    alone = said(with_items('a', bits(0.52), 0, classes))
    assert alone.startswith('No loss is surely better than always answering') and 'nothing to compare it with: a' in alone
    two = [r for r in pair(0.4) if r['settings']['seed'] < 2]
    assert 'always answering' not in said(two), 'the intervals of the table are below it, each alone'
    even = said(with_items('a', bits(0.667), 0, np.repeat([0, 1, 2], 1000)))
    assert "always answering '0', no rarer than another, which has an error rate of 66.67 %" in even
    half = [*pair(0.52)[:5], *pair(0.4)[5:]]
    assert 'always answering' not in said(half), 'one of them has learnt something'

def test_verdict_and_table_write_numbers_alike():
    records = ComparisonRecords([*runs('base', 0.3 + luck), *runs('b', 0.2 + luck/2)])
    gap = records.table().set_index('loss').difference['b']
    assert f'b by {-100*gap:.2f} points' in said(records.records) and f'−{-100*gap:.2f}' in repr(records)
    worse = said([*runs('base', 0.3 + luck), *runs('b', 0.299 + luck*2)])
    assert 'is −' in worse and '-0' not in worse

# Classes, tables, folders

def test_errors_by_class():
    classes,wrong = np.array([1, 0, 1, 0, 2, 0]),np.array([[1, 0, 0, 1, 1, 1], [1, 0, 1, 1, 0, 0.]])
    table = ComparisonRecords(with_items('a', wrong, classes=classes)).by_class()
    assert table['items'].tolist() == [3, 2, 1]
    assert table['a'].tolist() == pytest.approx([0.5, 0.75, 0.5])
    with pytest.raises(ValueError, match='do not say which items of which class'):
        ComparisonRecords(with_items('a', wrong)).by_class()
    with pytest.raises(ValueError, match='no run has finished yet'): ComparisonRecords([]).by_class()

def test_table_for_people():
    records = ComparisonRecords([*runs('base', 0.3 + luck), *runs('<b>', 0.2 + luck/2)])
    shown = repr(records)
    assert 'difference (points)' in shown and 'In brackets: 95 % intervals' in shown
    assert 'difference from base (points)' in records._repr_html_()
    assert '<b>' not in records._repr_html_() and 'Better than' in shown

@pytest.mark.parametrize('folder', ['pets', 'pets_seeds', 'pets_official', 'pets_warped',
    'pets_heads_resnet18_own_rate', 'pets_heads_efficientnet', 'pets_fine_tuned_own_rate'])
def test_records_of_the_first_edition(folder):
    old = ComparisonRecords.load(kept/folder)
    assert set(old.differences().covers) <= {'seeds', 'nothing'}
    if len(old.seeds) > 1: assert 'not that of the validation items' in said(old.records)
    repr(old)

def test_a_thousand_runs_are_quick(tmp_path):
    rng = np.random.default_rng(0)
    classes = np.sort(rng.integers(0, 37, 5000))
    for i in range(100):
        for r in with_items(f'l{i}', bits(0.2 + i/1000, 10, 5000, i), i, classes):
            write_record(tmp_path/f"{i}.{r['settings']['seed']}.json", r)
    start = time.perf_counter()
    ComparisonRecords.load(tmp_path).table()
    assert time.perf_counter() - start < 5
