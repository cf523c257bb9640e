"LossComparison with the real vision_learner, cut off and in pools, and the console command in a process of its own"
import json,os,signal,subprocess,sys,time,warnings
from pathlib import Path
import cloudpickle
import fastai.vision.learner
import fastai_losses.comparison as comparison_module
import numpy as np
import pandas as pd
import pytest
import torch,torchvision
from fastai.data.all import (CategoryBlock,DataBlock,DataLoaders,IndexSplitter,ItemGetter,
    Normalize,TransformBlock)
from fastai.callback.core import Callback
from fastai.callback.data import *  # weighted_dataloaders
from fastai.learner import Learner
from fastai.tabular.data import TabularDataLoaders
from fastai.text.data import TextDataLoaders
from fastai.torch_core import params
from torch import nn
from fastai_losses.all import *
from fastai_losses.records import item_errors
from fastai_losses.views import DatasetView,class_counts,long_tail,with_datasets

root = Path(__file__).parent.parent
two = {'cross-entropy': CrossEntropy(), 'inverse': InverseLoss()}

def without_times(comparison): return comparison.results.drop(columns='time').set_index(['loss', 'seed', 'phase', 'epoch']).sort_index()

# Processes of their own import the package that is tested
paths = os.pathsep.join([str(root), *filter(None, [os.environ.get('PYTHONPATH')])])
environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1'}

def in_python(code, *args, **kwargs):
    "A Python process that runs some code"
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)

@pytest.fixture(scope='module')
def dls():
    "Half of the digits, to be quick"
    whole = digits_dataloaders(size=8, bs=256)
    return with_datasets(whole, *(DatasetView(ds, range(0, len(ds), 2)) for ds in (whole.train_ds, whole.valid_ds)))

@pytest.mark.parametrize('special', ({'noise': 0.3}, {'imbalance': 2.}, {'losses': {'a': lambda dls: (CrossEntropy(), long_tail(dls, 2, 0))}}, {}))
def test_images_are_normalised_once(tmp_path, special):
    "As `vision_learner` does it: where the training set has no such step. Some runs have a training set of their own"
    seen = []
    def learner(dls, arch, **kwargs):
        if not dls.after_batch.fs.filter(lambda o: isinstance(o, Normalize)): dls.add_tfms([Normalize.from_stats([0.5]*3, [0.5]*3)], 'after_batch')
        seen.append([sum(isinstance(o, Normalize) for o in dl.after_batch.fs) for dl in dls.loaders])
        return small_learner(dls, arch, **kwargs)
    data = digits_dataloaders(size=8, bs=256)
    LossComparison(data, learner=learner, seeds=3, path=tmp_path, **{'losses': [CrossEntropy()], **special}).fine_tune(1, progress=False)
    assert seen == [[1, 1]]*3

@pytest.mark.parametrize('name', ('vision_learner', 'cnn_learner'))
def test_makes_vision_learners(name):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        comparison = LossComparison(digits_dataloaders(size=16), torchvision.models.resnet18, learner=getattr(fastai.vision.learner, name), pretrained=False)
        first,second = comparison.make_learner('cross-entropy'),comparison.make_learner('inverse')
    for a,b in zip(first.model.parameters(), second.model.parameters()): assert (a == b).all()
    assert first.model[-1][-1].out_features == 10 and repr(second.loss_func) == 'InverseLoss()'
    assert second.loss_func is not comparison.losses['inverse']

class Pair(CrossEntropy):
    "Cross-entropy of the sum of two outputs: a loss that wants a model of another width"
    n_out,n_classes = 2,10
    def evidence(self, x): return x.repeat(1, 5).log_softmax(-1)
    def activation(self, x): return self.evidence(x).exp()

def test_the_loss_says_how_wide_the_model_is_and_the_other_layers_are_the_same(dls):
    comparison = LossComparison(dls, losses=[Pair(), CrossEntropy()], pretrained=False)
    narrow,wide = (comparison.make_learner(name).model for name in ('Pair()', 'CrossEntropy()'))
    assert narrow[-1][-1].out_features == 2
    for a,b in list(zip(narrow.parameters(), wide.parameters()))[:-1]: assert (a == b).all()

def test_same_batches_for_losses_of_one_seed(dls, tmp_path):
    seen = {}
    def spy(name, seed):
        class Spy(Callback):
            def before_batch(self): seen.setdefault((name, seed), []).append(self.x.sum().item())
        return [Spy()]
    LossComparison(dls, losses={'pair': Pair(), **two}, learner=small_learner, seeds=[1, 2], cbs=spy, path=tmp_path).fine_tune(1, progress=False)
    for seed in (1, 2): assert seen['pair', seed] == seen['cross-entropy', seed] == seen['inverse', seed] and len(seen['pair', seed]) == 2*(len(dls.train) + len(dls.valid))
    assert seen['pair', 1] != seen['pair', 2]

def test_records_of_the_first_experiments_still_load():
    for name in ('pets', 'pets_official'):
        pets = ComparisonRecords.load(root/'nbs'/'experiments'/'records'/name)
        assert list(pets.table().loss) == ['cross-entropy', 'tuned inverse', 'dot product', 'inverse'] and pets.seeds == [42]
        assert {'loss', 'error_rate', 'frozen_error_rate'} <= set(pets.table().columns) and pets.results.shape[0] == 8

# Cut off

_comparing = """
import sys
from fastai_losses.all import *
from fastai_losses.views import DatasetView,with_datasets
whole = digits_dataloaders(size=8, bs=256)
dls = with_datasets(whole, *(DatasetView(ds, range(0, len(ds), 2)) for ds in (whole.train_ds, whole.valid_ds)))
LossComparison(dls, losses={'cross-entropy': CrossEntropy(), 'inverse': InverseLoss(), 'tuned inverse': InverseLoss(0.2)}, learner=small_learner, seeds=int(sys.argv[2]), path=sys.argv[1]).fine_tune(1, progress=False)
"""

@pytest.mark.slow
def test_killed_at_any_moment(tmp_path, dls):
    "kill -9 twice: each time at most the run in flight is lost, and what comes out in the end is what an undisturbed comparison gives"
    folder = tmp_path/'killed'
    for wanted in (1, 4):
        process = in_python(_comparing, folder, 2)
        deadline = time.time() + 120
        while len(list(folder.glob('*.json'))) < wanted and time.time() < deadline and process.poll() is None: time.sleep(0.01)
        process.send_signal(signal.SIGKILL); process.communicate()
        files = list(folder.glob('*.json'))
        assert len(files) >= wanted and all(json.loads(f.read_text())['status'] == 'finished' for f in files)
    kept = {f: f.read_bytes() for f in folder.glob('*.json')}
    assert len(kept) < 6
    losses = {**two, 'tuned inverse': InverseLoss(0.2)}
    resumed = LossComparison(dls, losses=losses, learner=small_learner, seeds=2, path=folder).fine_tune(1, progress=False)
    whole = LossComparison(dls, losses=losses, learner=small_learner, seeds=2, path=tmp_path/'whole').fine_tune(1, progress=False)
    assert all(f.read_bytes() == data for f,data in kept.items())
    pd.testing.assert_frame_equal(without_times(resumed), without_times(whole))

@pytest.mark.slow
def test_two_processes_on_one_folder(tmp_path):
    processes = [in_python(_comparing, tmp_path/'both', 2) for _ in range(2)]
    for p in processes:
        out,err = p.communicate(timeout=240)
        assert p.returncode == 0, err
    both = ComparisonRecords.load(tmp_path/'both')
    assert len(both.records) == 6 and set(both.table().status) == {'finished'}
    assert not list((tmp_path/'both').glob('.*'))

def test_stale_partial_files_are_swept(dls, tmp_path):
    old,new = tmp_path/'.a.json.1.partial',tmp_path/'.b.json.2.partial'
    for f in (old, new): f.write_text('{')
    os.utime(old, (1, 1))
    LossComparison(dls, losses=[CrossEntropy()], learner=small_learner, path=tmp_path).fine_tune(0, progress=False)
    assert not old.exists() and new.exists()

# Pools

class Deadly(CrossEntropy):
    "Kills the process that computes it, as running out of memory would"
    def forward(self, outputs, targets): os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.slow
def test_a_pool_gives_what_one_process_gives_and_survives_a_death(dls, tmp_path):
    "A loss defined here, which no worker can import, one that kills its worker, and losses of the package; by-value pickling takes them all along"
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        losses = {'deadly': Deadly(), 'pair': Pair(), **two}
        pooled = LossComparison(dls, losses=losses, learner=small_learner, seeds=[1, 2], path=tmp_path/'pool').fine_tune(1, lr=1e-2, progress=False, executor=spawn_pool(2))
    finally: cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    dead = [r for r in pooled.records if r['status'] == 'failed']
    assert [r['loss'] for r in dead] == ['deadly', 'deadly'] and all('its worker died: BrokenProcessPool' in r['reason'] for r in dead)
    del losses['deadly']
    here = LossComparison(dls, losses=losses, learner=small_learner, seeds=[1, 2], path=tmp_path/'here').fine_tune(1, lr=1e-2, progress=False)
    pd.testing.assert_frame_equal(without_times(pooled), without_times(here))
    known = lambda comparison: {(r['loss'], r['loss_repr']) for r in comparison.records}
    assert known(here) < known(pooled), 'a worker knows a loss by another name'

@pytest.mark.slow
def test_a_real_dask_cluster(dls, tmp_path):
    distributed = pytest.importorskip('distributed')
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, distributed.Client(cluster) as client:
        on_dask = LossComparison(dls, losses=two, learner=small_learner, seeds=2, path=tmp_path/'dask').fine_tune(1, progress=False, executor=client.get_executor)
    here = LossComparison(dls, losses=two, learner=small_learner, seeds=2, path=tmp_path/'here').fine_tune(1, progress=False)
    pd.testing.assert_frame_equal(without_times(on_dask), without_times(here))

@pytest.mark.slow
def test_a_worker_that_cannot_load_the_comparison_fails_its_runs(dls, tmp_path):
    "What the worker raises is in the records of the runs, and the error names it"
    class Here(CrossEntropy):
        def __setstate__(self, state): raise ImportError('no such module on this machine')
    with pytest.raises(RuntimeError, match='not one of 1 runs .* could not load the comparison: ImportError: no such module'):
        LossComparison(dls, losses={'here': Here()}, learner=small_learner, path=tmp_path).fine_tune(1, progress=False, executor=spawn_pool(1))

# Faults that the first edition had, one test for each kind

def quick(dls, path, losses=None, **kwargs):
    "A comparison of small networks"
    own = {'learner': small_learner, **kwargs}
    return LossComparison(dls, losses=losses or two, path=path, **own)

def train(*args, lr=1e-2, epochs=1, **kwargs):
    return quick(*args, **kwargs).fine_tune(epochs, lr=lr, progress=False)

def weighted(wgts=None, **kwargs):
    "Random vectors of two classes, drawn evenly or by weight"
    block = DataBlock((TransformBlock, CategoryBlock), get_x=ItemGetter(0), get_y=ItemGetter(1),
                      splitter=IndexSplitter(range(20)))
    g = torch.Generator().manual_seed(0)
    items = [(torch.randn(4, generator=g), str(i%2)) for i in range(120)]
    own = {'bs': 8, 'num_workers': 0, **kwargs}
    if wgts is None: return block.dataloaders(items, **own)
    return block.weighted_dataloaders(items, wgts=wgts, **own)

def linear(dls, arch, n_out, **kwargs):
    return Learner(dls, nn.Sequential(nn.Linear(4, 8), nn.Linear(8, n_out)), splitter=halves, **kwargs)
def halves(model): return [params(model[0]), params(model[1])]

@pytest.mark.parametrize('other', (
    dict(wgts=[1.]*60 + [2.]*60), dict(shuffle=False), dict(drop_last=False)),
    ids=lambda o: ', '.join(o))
def test_other_drawing_of_batches_is_another_run(tmp_path, other):
    train(weighted(), tmp_path, learner=linear)
    with pytest.raises(ValueError, match='data.loaders differ'):
        train(weighted(**other), tmp_path, learner=linear)

def test_an_edited_helper_is_another_run(dls, tmp_path):
    def learner_with(width):
        scope = {'small_learner': small_learner, 'width': width}
        exec('def helper(kwargs): return {**kwargs, "wd": width}\n'
             'def own(dls, arch, **kwargs): return small_learner(dls, arch, **helper(kwargs))', scope)
        return scope['own']
    train(dls, tmp_path, learner=learner_with(0.1))
    train(dls, tmp_path, learner=learner_with(0.1))
    with pytest.raises(ValueError, match='learner.function was .own'):
        train(dls, tmp_path, learner=learner_with(0.2))

def test_what_cannot_be_compared_is_on_record_and_on_the_screen(dls, tmp_path):
    def maker(numbers):
        def own(dls, arch, **kwargs): return small_learner(dls, arch, **kwargs)
        own.__defaults__ = None
        own.__kwdefaults__ = {'given': numbers}
        return own
    first = train(dls, tmp_path, learner=maker(i for i in range(3)))
    assert first.records[0]['unknown'] == ['a generator in the model']
    with pytest.warns(UserWarning, match='it cannot be told .* a generator in the model'):
        train(dls, tmp_path, learner=maker(i for i in range(3)))

def test_a_record_of_another_job_is_not_taken_over(dls, tmp_path):
    "Another process writes a run with another rate into the folder while this one is at work"
    foreign = train(dls, tmp_path/'elsewhere', lr=1e-3, seeds=[2]).folder/'inverse.seed2.json'
    def intrude(name, seed):
        (tmp_path/'here').joinpath(foreign.name).write_bytes(foreign.read_bytes())
        return []
    with pytest.raises(ValueError, match='lr was 0.001 there and is 0.01 here'):
        train(dls, tmp_path/'here', lr=1e-2, seeds=[2], cbs=intrude)
    assert (tmp_path/'here'/foreign.name).read_bytes() == foreign.read_bytes()

def test_names_that_are_one_file_somewhere(dls, tmp_path):
    for names in (('Focal', 'focal'), ('a:b', 'a?b'), ('\u00c5', 'A\u030a')):
        with pytest.raises(ValueError, match='two losses with one name'):
            quick(dls, tmp_path, {name: CrossEntropy() for name in names})
    with pytest.raises(ValueError, match='is too long'): quick(dls, tmp_path, {'é'*120: CrossEntropy()})

def test_noise_keeps_the_weights_of_the_items():
    wgts = [0.]*20 + [1.]*50 + [0.]*50
    comparison = quick(weighted(wgts), None, learner=linear, noise=0.3)
    drawn = comparison.make_learner('inverse').dls.train.get_idxs()
    assert len(drawn) == 100 and max(drawn) < 50

def test_rates_are_tried_on_texts(tmp_path):
    "Batches of texts are sorted by length: those of a part by the lengths of that part"
    words = 'a b c d e f'.split()
    rng = np.random.default_rng(0)
    texts = [' '.join(rng.choice(words, rng.integers(3, 30))) for _ in range(80)]
    frame = pd.DataFrame({'text': texts, 'label': ['few' if len(t) < 30 else 'many' for t in texts]})
    dls = TextDataLoaders.from_df(frame, text_col='text', label_col='label', bs=8, seq_len=20)
    seen = []
    class Lengths(Callback):
        def before_batch(self): seen.append(self.x.shape)
    def bag(dls, arch, n_out, loss_func, metrics):
        model = nn.Sequential(nn.EmbeddingBag(len(dls.vocab[0]), 8), nn.Linear(8, n_out))
        return Learner(dls, model, loss_func=loss_func, metrics=metrics, splitter=halves)
    tried = LossComparison(dls, losses=[CrossEntropy()], learner=bag, path=tmp_path)
    tried.fine_tune(1, lr=[1e-3, 1e-1], progress=False)
    assert tried.records[0]['status'] == 'finished' and tried.records[0]['lr']['lr'] in (1e-3, 1e-1)

def test_nothing_trained_is_not_finished(tmp_path):
    few = digits_dataloaders(size=8, bs=64)
    few = with_datasets(few, DatasetView(few.train_ds, range(73)))
    with pytest.raises(RuntimeError, match='tried on 58 of the 73 training items, which is no batch'):
        train(few, tmp_path, lr=[1e-6, 1e-1])

def test_balanced_gradients_of_pixels(tmp_path):
    "The reference has the class axis and the ignored label of the loss"
    g = torch.Generator().manual_seed(0)
    def items(n): return [(torch.randn(3, 6, 6, generator=g), mask(g)) for _ in range(n)]
    def mask(g):
        labels = torch.randint(0, 4, (6, 6), generator=g)
        labels[0] = 255
        return labels
    dls = DataLoaders.from_dsets(items(16), items(8), bs=4, num_workers=0)
    dls.c = 4
    def pixels(dls, arch, n_out, **kwargs): return Learner(dls, nn.Conv2d(3, n_out, 1), **kwargs)
    losses = [CrossEntropy(axis=1, ignore_index=255), InverseLoss(axis=1, ignore_index=255)]
    done = LossComparison(dls, losses=losses, learner=pixels, balance_gradients=True, path=tmp_path)
    done.fine_tune(1, progress=False)
    assert done.records[0]['scale'] == pytest.approx(1) and done.records[1]['scale'] < 1
    errors = item_errors(done.records[0])
    assert errors.shape == (8,) and len(set(errors)) > 2, 'the share of wrong pixels'
    assert errors.mean() == pytest.approx(done.table().error_rate[1], abs=1e-4)

def test_the_home_folder_and_a_folder_that_holds_runs(dls, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    train(dls, '~/runs')
    assert (tmp_path/'runs'/'inverse.seed42.json').exists()
    assert list(quick(dls, '~/runs').table().loss) == list(LossComparison.load('~/runs').table().loss)

def test_other_metrics_and_names_that_matplotlib_reads(dls, tmp_path):
    done = train(dls, tmp_path, {'Ba$$in': CrossEntropy(), '_hidden': InverseLoss()}, seeds=2)
    done.plot()
    assert 'Ba$$in' in done.report(tmp_path/'report.html').read_text()

def test_the_trained_learner(dls, tmp_path):
    "Trained again, or from the weights that were kept: the same to the last bit"
    kept = train(dls, tmp_path/'kept', seeds=2, keep='all')
    again = train(dls, tmp_path/'not', seeds=2)
    assert len(list((tmp_path/'kept'/'weights').iterdir())) == 4
    for seed in (42, 43):
        a,b = (c.learner('inverse', seed).model.state_dict() for c in (kept, again))
        assert all((a[k] == b[k]).all() for k in a)
    losses = kept.runs().set_index(['loss', 'seed']).valid_loss
    assert again.learner('inverse', 43).validate()[0] == pytest.approx(losses['inverse', 43], rel=1e-6)
    with pytest.raises(ValueError, match='no finished run of .focal.: there are runs of'):
        kept.learner('focal')

def test_a_race_that_was_stopped_goes_on(dls, tmp_path):
    "Also where one loss has no run yet"
    train(dls, tmp_path, {'cross-entropy': CrossEntropy()})
    raced = quick(dls, tmp_path, seeds=3).fine_tune(1, lr=1e-2, race=True, progress=False)
    assert len(raced.records) == 6 and raced.records[-1]['looks'] == 1

def test_weights_of_another_training_are_not_loaded(dls, tmp_path):
    train(dls, tmp_path, keep='all')
    for record in tmp_path.glob('*.json'): record.unlink()
    again = train(dls, tmp_path, epochs=2)
    assert not list((tmp_path/'weights').glob('*.pth'))
    loss = again.runs().set_index('loss').valid_loss['inverse']
    assert again.learner('inverse').validate()[0] == pytest.approx(loss, rel=1e-6)

def test_screening_does_not_forget_the_weights_of_items(tmp_path):
    with pytest.raises(ValueError, match='screening draws all training items alike'):
        quick(weighted([1.]*120), tmp_path, learner=linear).screen(1, progress=False)

def test_models_for_images_are_refused_for_tables_and_texts(tmp_path):
    frame = pd.DataFrame({'x': range(60), 'label': list('ab')*30, 'text': ['a b c']*60})
    table = TabularDataLoaders.from_df(frame, cont_names=['x'], y_names='label', valid_idx=range(12),
                                       y_block=CategoryBlock(), bs=8)
    with pytest.raises(ValueError, match='pass learner=table_learner'): LossComparison(table)
    texts = TextDataLoaders.from_df(frame, text_col='text', label_col='label', bs=8, seq_len=20)
    with pytest.raises(ValueError, match='pass learner=small_text_learner'): LossComparison(texts)

def test_questions_before_there_is_an_answer(dls, tmp_path):
    fresh = quick(dls, tmp_path/'none')
    for ask in (fresh.table, fresh.verdict, fresh.differences, fresh.baseline):
        with pytest.raises(ValueError, match='no runs yet'): ask()
    done = train(dls, tmp_path/'some')
    for ask in (done.table, done.verdict, done.differences, done.candidates):
        with pytest.raises(ValueError, match="no metric 'acuracy'"): ask('acuracy')

# Ended from outside

_in_a_pool = _comparing.replace('.fine_tune(1, progress=False)', '.fine_tune(50, progress=False, executor=spawn_pool(2))')
def _guarded(code):
    "The same, as a script that processes can read"
    lines = code.strip().splitlines()
    body = '\n'.join(f'    {line}' for line in lines if not line.startswith(('import', 'from')))
    return '\n'.join([l for l in lines if l.startswith(('import', 'from'))]) + f"\nif __name__ == '__main__':\n{body}\n"

def heeds_ctrl_c():
    "A shell makes what it runs in the background deaf to Ctrl-C"
    signal.signal(signal.SIGINT, signal.default_int_handler)

def children(pid):
    "Ids of the processes that a process has started"
    found = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(pid)], capture_output=True, text=True)
    return [int(p) for p in found.stdout.split()]

@pytest.mark.slow
@pytest.mark.parametrize('sent', (signal.SIGINT, signal.SIGKILL), ids=lambda s: s.name)
def test_a_pool_ends_with_its_parent(tmp_path, sent):
    "Within ten seconds, and no process is left"
    script = tmp_path/'script.py'
    script.write_text(_guarded(_in_a_pool))
    parent = subprocess.Popen([sys.executable, '-W', 'ignore', script, tmp_path/'runs', '2'],
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              preexec_fn=heeds_ctrl_c)
    deadline,workers = time.time() + 120,[]
    while len(workers) < 3 and time.time() < deadline: time.sleep(0.2); workers = children(parent.pid)
    time.sleep(4)  # they are at work
    start = time.time()
    parent.send_signal(sent)
    parent.communicate(timeout=30)
    def alive(): return [p for p in workers if Path(f'/proc/{p}').exists()]
    while alive() and time.time() < start + 10: time.sleep(0.1)
    assert not alive() and time.time() - start < 10

@pytest.mark.slow
def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path/'script.py'
    script.write_text(_in_a_pool)
    start = time.time()
    done = subprocess.run([sys.executable, '-W', 'ignore', script, tmp_path/'runs', '2'],
                          env=environment, capture_output=True, text=True)
    assert "needs the line `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]
    assert not list((tmp_path/'runs').glob('*.json'))

@pytest.mark.parametrize('pool, said', (
    (False, 'about 17 seconds for 4 runs'), (True, 'at most 40 seconds for 4 runs')))
def test_the_time_is_estimated_without_the_first_epoch(pool, said, monkeypatch, capsys):
    "The first epoch takes 10 seconds, all others one; a pool only knows when the first run is over"
    now = [0.]
    monkeypatch.setattr(comparison_module.time, 'perf_counter', lambda: now[0])
    shown = comparison_module._Progress(n_runs=4, epochs=2, shown=True)
    for epoch in range(8):
        now[0] += 1 if epoch else 10
        if not pool: shown.tick()
        elif epoch == 0: shown.finished({'status': 'finished', 'loss': 'a'})
    assert [line for line in capsys.readouterr().out.splitlines() if ' seconds for ' in line] == [said]

# Rare classes, and losses that depend on the data

def third():
    "A third of the digits, in small batches"
    whole = digits_dataloaders(size=8, bs=16)
    return with_datasets(whole, DatasetView(whole.train_ds, range(0, len(whole.train_ds), 3)),
                         DatasetView(whole.valid_ds, range(0, len(whole.valid_ds), 3)))

def of_rarity(dls): return CrossEntropy(weight=1/torch.tensor(class_counts(dls)))
def drawn_alike(dls): return CrossEntropy(), oversampled(dls)

def test_a_long_tail_is_the_same_for_all_losses_and_another_for_each_seed(tmp_path):
    seen = {}
    def spy(name, seed):
        class Spy(Callback):
            def before_fit(self): seen[name, seed] = self.dls.train_ds.index
        return [Spy()]
    done = quick(third(), tmp_path, imbalance=10, seeds=2, cbs=spy).fine_tune(0, progress=False)
    assert seen['cross-entropy', 42] == seen['inverse', 42] != seen['inverse', 43]
    by_seed = {r['settings']['seed']: r['train_classes'] for r in done.records}
    names,counts = zip(*by_seed[42])
    assert names == tuple('0123456789') and sum(counts) == len(seen['inverse', 42])
    assert max(counts)/min(counts) >= 7 and by_seed[42] != by_seed[43]
    assert done.records[0]['items']['n'] == len(third().valid_ds), 'validation stays as it is'

def test_imbalance_is_a_setting_and_old_records_have_none(tmp_path):
    data = third()
    old = train(data, tmp_path/'old')
    assert 'imbalance' not in old.records[0]['settings'] and 'train_classes' not in old.records[0]
    assert len(train(data, tmp_path/'old').records) == 2
    with pytest.raises(ValueError, match='imbalance was None there and is 10.0 here'):
        train(data, tmp_path/'old', imbalance=10)
    thin = train(data, tmp_path/'thin', imbalance=np.int64(10))
    assert train(data, tmp_path/'thin', imbalance=10.).records == thin.records
    with pytest.raises(ValueError, match='imbalance was 10.0 there and is 20.0 here'):
        train(data, tmp_path/'thin', imbalance=20)
    with pytest.raises(ValueError, match='imbalance was 10.0 there and is None here'):
        train(data, tmp_path/'thin')
    again = quick(data, tmp_path/'thin', imbalance=10).learner('inverse')
    assert again.validate()[0] == pytest.approx(thin.runs().set_index('loss').valid_loss['inverse'], rel=1e-6)
    assert len(again.dls.train_ds) == sum(n for _,n in thin.records[0]['train_classes'])

def test_losses_and_batches_that_depend_on_the_thinned_data(tmp_path):
    "Weights of the classes, and oversampling, with wrong labels and a rate for each"
    losses = {'cross-entropy': CrossEntropy(), 'weighted': of_rarity, 'oversampled': drawn_alike}
    drawn = {}
    def spy(name, seed):
        class Spy(Callback):
            def before_epoch(self): drawn.setdefault(name, []).append(len(self.dls.train_ds))
        return [Spy()]
    own = dict(losses=losses, imbalance=10, noise=0.2, seeds=2, cbs=spy)
    done = train(third(), tmp_path, lr=[1e-3, 1e-2], **own)
    assert {r['status'] for r in done.records} == {'finished'}
    assert drawn['cross-entropy'] == drawn['weighted'] == drawn['oversampled']
    tried = json.loads((tmp_path/'rates'/'oversampled.json').read_text())['tried']
    assert all(0 <= t['balanced_error'] <= 1 for t in tried)
    made = {(r['loss'], r['settings']['seed']): r for r in done.records}
    plain,first,second = made['cross-entropy', 42],made['weighted', 42],made['weighted', 43]
    assert 'made' not in plain and made['oversampled', 42]['made'] == 'CrossEntropy()'
    assert first['loss_repr'] == second['loss_repr'] != first['made'] != second['made']
    dls = done.make_learner('weighted', 43).dls
    assert done.make_learner('weighted', 43).loss_func.weight.tolist() == (1/torch.tensor(class_counts(dls))).tolist()
    assert class_counts(dls).tolist() == [n for _,n in second['train_classes']], 'with the wrong labels'
    batches = [np.bincount(torch.cat([y for _,y in done.make_learner(name).dls.train]).cpu(), minlength=10)
               for name in losses]
    assert (batches[0] == batches[1]).all() and batches[2].std() < batches[0].std()/2
    assert train(third(), tmp_path, lr=[1e-3, 1e-2], **own).records == done.records

def test_a_function_that_makes_another_loss_is_another_loss(tmp_path):
    def maker(power): return lambda dls: InverseLoss(power)
    train(third(), tmp_path, losses={'own': maker(1)})
    assert len(train(third(), tmp_path, losses={'own': maker(1)}).records) == 1
    with pytest.raises(ValueError, match='loss was .<lambda>'):
        train(third(), tmp_path, losses={'own': maker(2)})

def test_class_vectors_from_the_means_of_the_training_set(tmp_path):
    def flat(x): return x.flatten(1)
    losses = {'warped': lambda dls: WarpedCrossEntropy.from_dls(dls, 4, features=flat)}
    done = train(third(), tmp_path, losses=losses, imbalance=4)
    assert done.records[0]['status'] == 'finished' and done.make_learner('warped').loss_func.n_out == 4

def test_screening_thins_and_oversamples(tmp_path):
    whole = digits_dataloaders(size=32, bs=32)
    part = with_datasets(whole, *(DatasetView(ds, range(0, len(ds), 6)) for ds in (whole.train_ds, whole.valid_ds)))
    losses = {'weighted': of_rarity, 'oversampled': drawn_alike}
    done = quick(part, tmp_path, losses, learner=fastai.vision.learner.vision_learner,
                 pretrained=False, imbalance=5)
    heads = done.screen(1, [1e-3, 1e-2], progress=False)
    assert {r['status'] for r in heads.records} == {'finished'}
    assert heads.records[0]['settings']['imbalance'] == 5
    counts = [n for _,n in heads.records[0]['train_classes']]
    assert sum(counts) < len(part.train_ds)/1.5 and max(counts) == max(class_counts(long_tail(part, 5, 42)))

def test_long_tails_of_tables_and_texts(tmp_path):
    frame = pd.DataFrame({'x': np.arange(90.), 'label': list('aab')*30, 'text': ['a b c']*90})
    table = TabularDataLoaders.from_df(frame, cont_names=['x'], y_names='label', valid_idx=range(18),
                                       y_block=CategoryBlock(), bs=8)
    own = {'cross-entropy': CrossEntropy(), 'oversampled': drawn_alike}
    done = train(table, tmp_path/'table', own, learner=table_learner, imbalance=4, lr=[1e-3, 1e-2])
    assert {r['status'] for r in done.records} == {'finished'}
    a,b = (n for _,n in done.records[0]['train_classes'])
    assert (a, b) in ((48, 12), (12, 24)), 'the largest class has 48'
    texts = TextDataLoaders.from_df(frame, text_col='text', label_col='label', bs=8, seq_len=20, valid_pct=0.2, seed=1)
    done = train(texts, tmp_path/'text', learner=small_text_learner, imbalance=4)
    assert [name for name,_ in done.records[0]['train_classes']] == ['a', 'b']
    with pytest.raises(TypeError, match='a SortedDL cannot'):
        quick(texts, None, {'own': drawn_alike}, learner=small_text_learner)

def test_a_long_tail_of_masks_or_several_labels_is_refused(tmp_path):
    g = torch.Generator().manual_seed(0)
    items = [(torch.randn(3, 6, 6), torch.randint(0, 4, (6, 6), generator=g)) for _ in range(16)]
    pixels = DataLoaders.from_dsets(items, items, bs=4, num_workers=0)
    pixels.c = 4
    with pytest.raises(ValueError, match='needs one class index for each item'):
        quick(pixels, None, [CrossEntropy(axis=1)], imbalance=10)

@pytest.mark.slow
def test_functions_that_make_losses_go_to_other_processes(tmp_path):
    losses = {'weighted': lambda dls: CrossEntropy(weight=1/torch.tensor(class_counts(dls))),
              'oversampled': lambda dls: (CrossEntropy(), oversampled(dls))}
    here = train(third(), tmp_path/'here', losses=losses, imbalance=10)
    pooled = quick(third(), tmp_path/'pool', losses, imbalance=10)
    pooled.fine_tune(1, lr=1e-2, progress=False, executor=spawn_pool(2))
    pd.testing.assert_frame_equal(without_times(pooled), without_times(here))
