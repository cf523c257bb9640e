"LossComparison with the real vision_learner, cut off and in pools, and the console command in a process of its own"
import json,os,signal,subprocess,sys,time,warnings
from pathlib import Path
import cloudpickle
import fastai.callback.core,fastai.vision.learner
import pandas as pd
import pytest
import torch,torchvision
from fastai_losses.all import *
from fastai_losses.views import DatasetView,with_training_set

compare = Path(sys.executable).parent/'compare_losses'
root = Path(__file__).parent.parent
two = {'cross-entropy': CrossEntropy(), 'inverse': InverseLoss()}

def without_times(comparison): return comparison.results.drop(columns='time').set_index(['loss', 'seed', 'phase', 'epoch']).sort_index()

# Processes of their own import the package that is tested
environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), *filter(None, [os.environ.get('PYTHONPATH')])]), 'OMP_NUM_THREADS': '1'}

def in_python(code, *args, **kwargs):
    "A Python process that runs some code"
    return subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)

@pytest.fixture(scope='module')
def dls():
    "Half of the digits, to be quick"
    whole = digits_dataloaders(size=8, bs=256)
    return with_training_set(whole, *(DatasetView(ds, range(0, len(ds), 2)) for ds in (whole.train_ds, whole.valid_ds)))

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
        class Spy(fastai.callback.core.Callback):
            def before_batch(self): seen.setdefault((name, seed), []).append(self.x.sum().item())
        return [Spy()]
    LossComparison(dls, losses={'pair': Pair(), **two}, learner=small_learner, seeds=[1, 2], cbs=spy, path=tmp_path).fine_tune(1, progress=False)
    for seed in (1, 2): assert seen['pair', seed] == seen['cross-entropy', seed] == seen['inverse', seed] and len(seen['pair', seed]) == 2*(len(dls.train) + len(dls.valid))
    assert seen['pair', 1] != seen['pair', 2]

def test_views_of_runs_that_did_not_finish():
    run = dict(loss='a', status='diverged', epochs=[], started='1', settings={'seed': 1})
    with pytest.raises(ValueError, match='no run finished an epoch'): ComparisonRecords([run]).plot()
    row = dict(phase='frozen', epoch=0, train_loss=1., valid_loss=1., error_rate=0.5, time=1.)
    both = ComparisonRecords([dict(run, epochs=[row]), dict(run, loss='b', status='finished', epochs=[row, dict(row, phase='unfrozen', error_rate=0.6)])])
    assert list(both.table().loss) == ['b', 'a']
    assert [t.get_text() for t in both.plot().axes[1].get_yticklabels()] == ['b']

def test_records_of_the_first_experiments_still_load():
    for name in ('pets', 'pets_official'):
        pets = ComparisonRecords.load(root/'nbs'/'experiments'/'records'/name)
        assert list(pets.table().loss) == ['cross-entropy', 'tuned inverse', 'dot product', 'inverse'] and pets.seeds == [42]
        assert {'loss', 'error_rate', 'frozen_error_rate'} <= set(pets.table().columns) and pets.results.shape[0] == 8

# Cut off

_comparing = """
import sys
from fastai_losses.all import *
from fastai_losses.views import DatasetView,with_training_set
whole = digits_dataloaders(size=8, bs=256)
dls = with_training_set(whole, *(DatasetView(ds, range(0, len(ds), 2)) for ds in (whole.train_ds, whole.valid_ds)))
LossComparison(dls, losses={'cross-entropy': CrossEntropy(), 'inverse': InverseLoss(), 'tuned inverse': InverseLoss(0.2)}, learner=small_learner, seeds=int(sys.argv[2]), path=sys.argv[1]).fine_tune(1, progress=False)
"""

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

# The console

def console(*args, **kwargs):
    return subprocess.run([compare, *map(str, args)], capture_output=True, text=True, env=environment, **kwargs)

def test_console_command(tmp_path):
    out = tmp_path/'out'
    short = ('--losses', 'seeds', '--epochs', 1, '--bs', 256, '--out', out)
    done = console(*short, '--seeds', 1, '--workers', 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in first_losses(): assert name in done.stdout
    records = [json.loads(f.read_text()) for f in out.glob('*.json')]
    assert len(records) == 4 and all(r['status'] == 'finished' and [e['phase'] for e in r['epochs']] == ['frozen', 'unfrozen'] for r in records)
    assert (out/'plot.png').stat().st_size > 10_000 and (out/'report.html').stat().st_size > 20_000 and str(out) in done.stdout
    assert '[8/8 ' in done.stdout, 'no progress line'
    again = console(*short, cwd=tmp_path)
    assert again.returncode != 0 and 'holds records already: add --resume' in again.stderr and 'Traceback' not in again.stderr

@pytest.mark.slow
def test_console_goes_on_in_a_pool(tmp_path):
    out = tmp_path/'out'
    short = ('--losses', 'inverse,InverseLoss(0.5)', '--epochs', 1, '--bs', 256, '--out', out)
    assert console(*short, '--seeds', 1, '--workers', 1, cwd=tmp_path).returncode == 0
    before = {f: f.read_bytes() for f in out.glob('*.json')}
    more = console(*short, '--seeds', 2, '--workers', 2, '--resume', cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert len(list(out.glob('*.json'))) == 4 and len(before) == 2 and all(f.read_bytes() == data for f,data in before.items())

def test_console_errors(tmp_path):
    done = console('--data', 'pets', '--path', tmp_path)
    assert done.returncode != 0 and f'No images in {tmp_path}/images: expected a folder with images/*.jpg' in done.stderr and 'Traceback' not in done.stderr

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

def test_runs_take_the_gpus_in_turn(monkeypatch):
    "Run number i goes to GPU i modulo their number; this machine need not have any"
    from types import SimpleNamespace
    from fastai_losses import comparison
    moved = []
    one = SimpleNamespace(dls=SimpleNamespace(device=torch.device('cuda'), to=moved.append), run=lambda name, seed, **training: (name, seed, training))
    monkeypatch.setattr(comparison, '_unpacked', lambda packed: one)
    for name,does in dict(is_available=lambda: True, device_count=lambda: 3, set_device=moved.append).items(): monkeypatch.setattr(torch.cuda, name, does)
    assert comparison._work(b'', 4, 'run', 'cross-entropy', 42, {'lr': 0.1}) == ('cross-entropy', 42, {'lr': 0.1})
    comparison._work(b'', 5, 'run', 'cross-entropy', 42, {})
    assert moved == [torch.device('cuda', 1)]*2 + [torch.device('cuda', 2)]*2
    one.dls.device = torch.device('cpu')  # data that were put on the CPU stay there
    comparison._work(b'', 6, 'run', 'cross-entropy', 42, {})
    assert len(moved) == 4
