"Pictures and the report: names of any kind, many losses, unfinished runs, hostile text"
import re,warnings
from html.parser import HTMLParser
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from fastai_losses import pictures
from fastai_losses.pictures import bulk,comparison_figure,spread,text_columns,write_report

names = ['cross-entropy', 'Ba$$in', '_hidden', r'x\$^{2', '$\\frac{1}$', 'tab\tand\nline', ' ', 
         '%s{}', 'a'*200, 'a'*199 + 'b']

def runs_of(losses, seeds=3, epochs=3, phase='unfrozen'):
    "Results: the error of a loss falls to 0.2 and a little more for each further loss"
    rows = [dict(loss=loss, seed=s, phase='frozen' if e == 0 else phase, epoch=e, time=1.,
                 error_rate=0.2 + 0.01*i + 0.002*s + 0.3*0.5**e) for i,loss in enumerate(losses)
            for s in range(seeds) for e in range(epochs)]
    results = pd.DataFrame(rows)
    return results.assign(accuracy=1 - results.error_rate, nll_loss=4*results.error_rate)

def table_of(results, metric='error_rate', baseline='cross-entropy', margin=0.005):
    "The table of made-up results"
    last = results.groupby(['loss', 'seed'], sort=False)[metric].last()
    last = last.groupby('loss', sort=False).mean()
    table = pd.DataFrame({'loss': last.index, metric: last.values, 'ci95': margin,
        'difference': (last - last[baseline]).values, 'difference_ci95': 2*margin, 'valid_loss': 1.,
        'time': 1., 'seeds': results.seed.nunique(), 'status': 'finished'})
    table.loc[table.loss == baseline, ['difference', 'difference_ci95']] = np.nan
    return table.set_index(pd.RangeIndex(1, len(table) + 1, name='rank'))

def figure_of(losses, metric='error_rate', **kwargs):
    results = runs_of(losses, **kwargs)
    return comparison_figure(results, table_of(results, metric, losses[0]), metric, losses[0])

def labels(ax): return [t.get_text() for t in ax.get_yticklabels()]

def written(fig):
    "The texts of a picture, but for the numbers at the axes"
    fig.draw_without_rendering()
    texts = [t for ax in fig.axes for t in (*ax.texts, ax.xaxis.label, ax.yaxis.label)]
    texts += [ax._left_title for ax in fig.axes]
    texts += [t for ax in fig.axes[:-1] for t in ax.get_yticklabels()]
    return [t for t in texts if t.get_text()]

@pytest.fixture(autouse=True)
def strict():
    "No warning, and no figure left open"
    plt.close('all')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield
    assert plt.get_fignums() == []

# Names

def test_names_are_drawn_as_written():
    fig = figure_of(names)
    fig.draw_without_rendering()
    for ax in fig.axes[:2]:
        shown = labels(ax)
        assert shown[:5] == names[:5] and shown[5] == 'tab and line' and shown[7] == '%s{}'
        assert len(set(shown)) == len(names)
        assert not any(t.get_parse_math() for t in ax.get_yticklabels())
    last = fig.axes[-1]
    assert {'Ba$$in', '_hidden', r'x\$^{2'} <= {t.get_text() for t in last.texts}

def test_a_strange_baseline_and_title():
    results = runs_of(['$a', 'b$'])
    table = table_of(results, baseline='$a')
    fig = comparison_figure(results, table, 'error_rate', '$a', title='$t$_{')
    fig.draw_without_rendering()
    assert fig.axes[0].get_title('left') == 'Difference from $a'

def test_long_names_leave_room_for_the_picture():
    fig = figure_of(['cross-entropy', *(f'{i}' + 'Wide'*100 for i in range(5))])
    fig.draw_without_rendering()
    assert all(ax.get_position().width > 0.2 for ax in fig.axes)

# Size

@pytest.mark.parametrize('n', (1, 2, 8, 9, 16, 64))
def test_every_loss_can_be_found_and_read(n):
    losses = ['cross-entropy', *(f'loss {i}' for i in range(1, n))]
    fig = figure_of(losses)
    assert len(fig.axes) == (2 if n == 1 else 3)
    for ax in fig.axes[:-1]: assert labels(ax) == losses
    texts = written(fig)
    width,height = fig.get_size_inches()*fig.dpi
    assert width <= 785 and all(t.get_size()*fig.dpi/72 >= 10 for t in texts)
    for t in texts:
        box = Text.get_window_extent(t)  # without the line to the end of a curve
        assert box.x0 > -1 and box.x1 < width + 1, t.get_text()
        assert box.y0 > -1 and box.y1 < height + 1, t.get_text()

@pytest.mark.parametrize('n', (8, 16))
def test_no_text_covers_another(n):
    fig = figure_of(['cross-entropy', *(f'GeneralizedCrossEntropy({i})' for i in range(1, n))])
    texts = written(fig)
    boxes = [Text.get_window_extent(t) for t in texts]
    for i,a in enumerate(boxes):
        for j,b in enumerate(boxes[:i]):
            over = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(over) < 2, (texts[i].get_text(), texts[j].get_text())

def test_losses_differ_without_colour():
    fig = figure_of(['cross-entropy', *'bcdefgh'])
    lines = [l for l in fig.axes[-1].lines if len(l.get_xdata()) == 3]
    assert len({(l.get_marker(), l.get_linestyle()) for l in lines}) == 8
    assert {t.get_text() for t in fig.axes[-1].texts} == {'cross-entropy', *'bcdefgh'}

# What is drawn

def test_an_outlier_does_not_flatten_the_rest():
    results = runs_of(['cross-entropy', *'bcdefg'])
    results.loc[results.loss == 'g', 'error_rate'] = 0.95
    fig = comparison_figure(results, table_of(results), 'error_rate', 'cross-entropy')
    differences,ends,curves = fig.axes
    assert differences.get_xlim()[1] < 0.1 and ends.get_xlim()[1] < 0.35
    assert curves.get_ylim()[1] < 0.6
    assert differences.texts[-1].get_text().startswith('+67.30')
    assert ends.texts[-1].get_text().startswith('95.00')
    assert any(l.get_marker() == '>' for l in differences.lines)
    assert '↑ g' in [t.get_text() for t in curves.texts]

def test_intervals_stay_where_values_can_be():
    results = runs_of(['cross-entropy', 'b', 'c'])
    table = table_of(results, margin=3.)
    fig = comparison_figure(results, table, 'error_rate', 'cross-entropy')
    drawn = np.concatenate([l.get_xdata() for l in fig.axes[1].lines])
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert '[−100.00 to +100.00]' in fig.axes[0].texts[1].get_text()
    bands = [p.vertices[:, 1] for c in fig.axes[2].collections for p in c.get_paths()]
    assert min(b.min() for b in bands) >= 0

def test_a_metric_that_is_no_share_is_not_cut():
    results = runs_of(['cross-entropy', 'b'])
    table = table_of(results, 'nll_loss', margin=9.)
    fig = comparison_figure(results, table, 'nll_loss', 'cross-entropy')
    assert '[−7.89 to' in fig.axes[1].texts[0].get_text()
    assert 'percent' not in fig.axes[1].get_xlabel()

def test_filled_marks_are_claims():
    def filled(**kwargs):
        results = runs_of(['cross-entropy', 'b', 'c'], **kwargs)
        table = table_of(results, margin=0.0075)  # b is 0.01 away, c 0.02; the interval is 0.015
        fig = comparison_figure(results, table, 'error_rate', 'cross-entropy')
        marks = [l for l in fig.axes[0].lines if l.get_marker() == 'o']
        return [l.get_markerfacecolor() for l in marks if np.isfinite(l.get_xdata()).all()]
    assert filled() == ['white', 'black']
    assert filled(seeds=1) == ['white', 'white']  # one seed claims nothing

def test_higher_is_better():
    fig = figure_of(['cross-entropy', 'b'], 'accuracy')
    assert 'better is to the right' in fig.axes[0].get_xlabel()
    assert fig.axes[0].texts[1].get_text().startswith('−1.00')

# Runs that did not finish

def test_a_loss_that_never_finished_an_epoch():
    results = runs_of(['cross-entropy', 'b'])
    table = table_of(results)
    table.loc[3] = {'loss': 'c', 'seeds': 3, 'status': 'diverged'}
    fig = comparison_figure(results, table, 'error_rate', 'cross-entropy')
    assert labels(fig.axes[1]) == ['cross-entropy', 'b', 'c']
    assert [ax.texts[2].get_text() for ax in fig.axes[:2]] == ['diverged', 'diverged']
    assert len(fig.axes[2].texts) == 2

def test_a_curve_ends_where_a_seed_did():
    results = runs_of(['cross-entropy', 'b'])
    cut = results[~((results.loss == 'b') & (results.seed == 1) & (results.epoch == 2))]
    fig = comparison_figure(cut, table_of(cut), 'error_rate', 'cross-entropy')
    assert sorted(len(l.get_xdata()) for l in fig.axes[2].lines if l.get_ls() != ':') == [2, 3]

def test_the_baseline_never_finished():
    results = runs_of(['b', 'c'])
    table = table_of(results, baseline='b').assign(difference=np.nan, difference_ci95=np.nan)
    table.loc[3] = {'loss': 'cross-entropy', 'seeds': 3, 'status': 'failed'}
    assert len(comparison_figure(results, table, 'error_rate', 'cross-entropy').axes) == 2

def test_one_epoch_one_seed_without_intervals():
    results = runs_of(['cross-entropy', 'b'], seeds=1, epochs=1)
    table = table_of(results).drop(columns=['ci95', 'difference', 'difference_ci95'])
    fig = comparison_figure(results, table, 'error_rate', 'cross-entropy')
    fig.draw_without_rendering()
    assert fig.axes[0].texts[0].get_text() == '50.00'

@pytest.mark.parametrize('value', (np.nan, np.inf))
def test_nothing_to_draw(value):
    results = runs_of(['cross-entropy', 'b'])
    table = table_of(results).assign(error_rate=value)
    with pytest.raises(ValueError, match="no run finished an epoch with a value of 'error_rate'"):
        comparison_figure(results.assign(error_rate=value), table, 'error_rate', 'cross-entropy')

@pytest.mark.parametrize('metric,ahead', (('error_rate', 0.05), ('accuracy', 0.95)))
def test_the_best_is_never_beyond_the_picture(metric, ahead):
    results = runs_of(['cross-entropy', *'abcdefg'])
    results.loc[(results.loss == 'd') & (results.epoch == 2), metric] = ahead
    table = table_of(results, metric).sort_values(metric, ascending=metric == 'error_rate')
    differences,ends,curves = comparison_figure(results, table, metric, 'cross-entropy').axes
    best = table.iloc[0]
    assert best.loss == 'd'
    for value,(low,high) in ((best.difference, differences.get_xlim()), (best[metric], ends.get_xlim()),
                             (best[metric], curves.get_ylim())): assert low < value < high

def test_infinite_values_are_left_out():
    results = runs_of(['cross-entropy', 'b'])
    results.loc[results.loss == 'b', 'nll_loss'] = np.inf
    table = table_of(results, 'nll_loss')
    fig = comparison_figure(results, table, 'nll_loss', 'cross-entropy')
    fig.draw_without_rendering()
    assert len(fig.axes) == 3 and len(fig.axes[2].texts) == 1

def test_many_pictures_leave_nothing_open():
    for _ in range(21): figure_of(['cross-entropy', 'b'])  # matplotlib warns from 20 open ones on

# Numbers

def test_limits_and_labels_of_any_values():
    rng = np.random.default_rng(0)
    for scale in (1e-9, 1., 1e9):
        values = rng.standard_cauchy(50)*scale
        low,high = bulk(values)
        assert low < np.median(values) < high
    for n in range(12):
        moved = spread(rng.uniform(0, 1, n), 0.08)
        assert (np.diff(np.sort(moved)) > 0.08 - 1e-9).all() and (moved <= 1 + 1e-9).all()

# The report

class Tags(HTMLParser):
    "The tags of a page, and the text of its cells"
    def __init__(self, page):
        super().__init__()
        self.tags,self.data = [],[]
        self.feed(page)
    def handle_starttag(self, tag, attrs): self.tags.append((tag, dict(attrs)))
    def handle_data(self, data): self.data.append(data)

evil = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', '{{7*7}}',
        "' onload='alert(1)", '</style><b>', '{% include "x" %}', '&lt;i&gt;',
        '\udc80', 'Übung 猫']

def report_of(path, losses, **kwargs):
    "A report in which every text is one of the losses"
    results = runs_of(losses)
    table = table_of(results, baseline=losses[0]).assign(status=losses, reason=losses)
    classes = pd.DataFrame({'items': 5, **dict.fromkeys(losses, 0.1)}, index=losses)
    rates = [dict(loss=n, lr=0.1, policy=[0.1, 1.], tried=[dict(lr=0.1, status=n, error_rate=0.5)])
             for n in losses]
    parts = dict(title=losses[0], verdict='\n\n'.join(losses), table=table, by_class=classes,
                 rates=rates, runs=table, settings=[(n, n) for n in losses], figures=[],
                 baseline=losses[0])
    return write_report(path, **{**parts, **kwargs})

def test_hostile_text_is_inert(tmp_path):
    text = report_of(tmp_path/'report.html', evil[:7]).read_text(encoding='utf-8')
    page = Tags(text)
    known = ('html head meta title style body main h1 h2 p div table thead tbody tr th td details '
             'summary img')
    assert {tag for tag,_ in page.tags} == set(known.split())
    assert not [a for _,attrs in page.tags for a in attrs if a.startswith('on')]
    sources = [attrs['src'] for tag,attrs in page.tags if tag == 'img']
    assert all(s.startswith('data:image/png;base64,') for s in sources)
    for name in evil[:7]: assert name in page.data, name

def test_hostile_headings_of_pictures(tmp_path):
    fig = figure_of(['cross-entropy', 'b'])
    figures = [(name, fig) for name in evil[:7]]
    text = report_of(tmp_path/'report.html', ['a', 'b'], figures=figures).read_text()
    pictures = [attrs for tag,attrs in Tags(text).tags if tag == 'img']
    assert len(pictures) == 8
    assert all(set(a) == {'src', 'alt'} and len(a['alt']) > 20 for a in pictures)

def test_any_encoding(tmp_path):
    path = report_of(tmp_path/'Übung.html', ['a', evil[-1]], rates=None, verdict='\udc80 ≤ 猫')
    text = path.read_bytes().decode('utf-8')
    assert 'Übung 猫' in text and '\\udc80 ≤ 猫' in text

def test_a_page_for_one_and_for_many(tmp_path):
    for n in (1, 20):
        text = report_of(tmp_path/'report.html', [f'loss {i}' for i in range(n)]).read_text()
        assert text.count('<tr>') == 1 + n + 1 + n + 1 + n + 1 + n + 1 + n  # five tables

def test_parts_that_are_missing_are_left_out(tmp_path):
    text = report_of(tmp_path/'report.html', ['a', 'b'], by_class=None, rates=None).read_text()
    assert 'Error by class' not in text and 'Learning rates' not in text and '<img' not in text

def test_columns_without_values_are_left_out():
    results = runs_of(['cross-entropy', 'b'], seeds=1)
    empty = dict.fromkeys(['ci95', 'difference', 'difference_ci95', 'reason'], np.nan)
    table = table_of(results).assign(**empty)
    assert [h for h,_ in text_columns(table)] == ['loss', 'error rate (%)', 'validation loss',
                                                  'seconds a run', 'seeds', 'status']

def test_the_report_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='missing.*Choose a file in a folder that exists'):
        report_of(tmp_path/'missing'/'report.html', ['a', 'b'])
    with pytest.raises(IsADirectoryError, match='cannot write the report'):
        report_of(tmp_path, ['a', 'b'])
    def full(self, data): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(pictures.Path, 'write_bytes', full)
    with pytest.raises(OSError, match='report.html.*No space left on device.*has room'):
        report_of(tmp_path/'report.html', ['a', 'b'])

def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert report_of('~/report.html', ['a', 'b']) == tmp_path/'report.html'

def test_no_network(tmp_path):
    text = report_of(tmp_path/'report.html', ['a', 'b']).read_text()
    text = re.sub(r'base64,[^"]*', '', text)
    assert not re.search(r'https?:|//|@import|url\(|<link|<script', text)
