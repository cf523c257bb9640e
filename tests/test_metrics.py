"Scores as fastai metrics, and the callbacks: what a Learner shows, keeps and trains"
import json,math,pickle,warnings
from copy import deepcopy
from functools import partial
import matplotlib.pyplot as plt
import numpy as np
import pytest,torch
import torch.multiprocessing
import fastai.callback.progress
from fastai.callback.core import Callback,FetchPredsCallback
from fastai.callback.mixup import MixUp
from fastai.callback.schedule import *
from fastai.callback.tracker import EarlyStoppingCallback,ReduceLROnPlateau,SaveModelCallback
from fastai.callback.training import GradientClip
from fastai.data.all import CategoryBlock,DataBlock,DataLoaders,IndexSplitter,ItemGetter,TransformBlock,noop,set_seed
from fastai.learner import Learner,load_learner
from fastai.losses import BCEWithLogitsLossFlat,CrossEntropyLossFlat
from fastai.metrics import F1Score,accuracy,error_rate
from fastai.torch_core import TensorBase,TensorCategory
from fastai.vision.core import TensorMask
from sklearn.metrics import balanced_accuracy_score,log_loss
from torch import nn
from torch.nn import functional as F
from fastai_losses.all import *
from fastai_losses.metrics import Score,scores
from fastai_losses.records import read_record
from two_processes import distributed_dl

C,N = 5,90
nan = float('nan')
names = tuple(scores)
reported = tuple(ReportScores.names)
of_classes = [n for n in names if n != 'mean_angle_error']

class RanksOnly(CrossEntropy):
    "A loss whose activation is no probability"
    gives_probabilities = False

def metric(name, loss=None): return type(decoded_error_rate())(scores[name], loss)

def data(n=N):
    "Training and validation set of `n` items each: the label is where an output is largest, more often than not"
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2*n, 8, generator=g)
    y = (x[:, :C] + torch.randn(2*n, C, generator=g)/2).argmax(-1)
    block = DataBlock((TransformBlock, CategoryBlock(vocab=list(range(C)))), get_x=[ItemGetter(0)], get_y=ItemGetter(1), splitter=IndexSplitter(range(n, 2*n)))
    return block.dataloaders(list(zip(x, y.tolist())), bs=16, num_workers=0, drop_last=False)

def learner(loss, width=C, dls=None, **kwargs):
    set_seed(0, True)
    learn = Learner(dls or data(), nn.Linear(8, width), loss_func=loss, **kwargs)
    learn.remove_cb(learn.progress)
    learn.logger = noop
    return learn

def row(learn, which=-1): return dict(zip(learn.recorder.metric_names[1:], learn.recorder.values[which]))

def by_definition(loss, x, y):
    "All scores but the angle, of items that all count"
    p = loss.activation(x).double()
    q,own,said = p/p.sum(-1, keepdim=True),p[range(len(y)), y],p.amax(-1)
    right = loss.decodes(p) == y
    bins = (said*15).long().clamp(0, 14)
    gaps = [((said - right.double())[bins == b]).sum().abs() for b in range(15)]
    return {'error_rate': 1 - right.double().mean().item(), 'accuracy': right.double().mean().item(),
        'balanced_error': 1 - balanced_accuracy_score(y, loss.decodes(p)),
        'top_5_error_rate': ((p > own[:, None]).sum(-1) >= 5).double().mean().item(),
        'nll_loss': -q[range(len(y)), y].clamp(min=torch.finfo(torch.float32).tiny).log().mean().item(),
        'brier_loss': ((p - F.one_hot(y, p.shape[-1]))**2).sum(-1).mean().item(),
        'calibration_error': (sum(gaps)/len(y)).item()}

def seen(learn, ds_idx=1):
    "What the scores should be on a set, from outputs and labels of all items at once"
    x,y = learn.get_preds(ds_idx, act=noop)
    return by_definition(learn.loss_func, x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor))

def check(found, expected):
    for name,value in expected.items():
        if name in found: assert found[name] == pytest.approx(value, abs=2e-6), name

# Values

@pytest.mark.parametrize('each', [CrossEntropy(), InverseLoss(), OneVsAllCrossEntropy(), BrierLoss(), CrossEntropyLossFlat()], ids=repr)
def test_values(each):
    loss = each
    x,y = torch.randn(200, 7)*2,torch.randint(0, 7, (200,))
    expected = by_definition(loss, x, y)
    for name in of_classes: assert metric(name, loss)(x, y) == pytest.approx(expected[name], abs=2e-6), name
    if isinstance(loss, CrossEntropy): assert nll_loss(loss)(x, y) == pytest.approx(log_loss(y, x.double().softmax(-1)), abs=1e-6)

@pytest.mark.parametrize('name', of_classes)
def test_every_form_of_outputs_and_targets(name):
    ask = metric(name, CrossEntropy())
    x,y = torch.randn(60, 7)*2,torch.randint(0, 7, (60,))
    expected = ask(x, y)
    for targets in (y[:, None], y.to(torch.int8), y.to(torch.uint8)[:, None], F.one_hot(y, 7).float(), F.one_hot(y, 7)*0.9 + 0.1/7,
                    F.one_hot(y, 7).half(), TensorCategory(y)): assert ask(x, targets) == pytest.approx(expected, abs=1e-6)
    assert ask(TensorBase(x), TensorCategory(y)) == pytest.approx(expected, abs=1e-6)
    halved = x.half()
    assert ask(halved, y) == pytest.approx(ask(halved.float(), y), abs=1e-6)
    pixels,masks = x.view(3, 4, 5, 7).movedim(-1, 1),y.view(3, 4, 5)
    of_pixels = metric(name, CrossEntropy(axis=1))
    for targets in (masks, masks[:, None], TensorMask(masks)): assert of_pixels(pixels, targets) == pytest.approx(expected, abs=1e-6)
    assert metric(name, CrossEntropyLossFlat(axis=1))(pixels, masks) == pytest.approx(expected, abs=1e-6)
    ignored = torch.cat([y, torch.full((9,), 255)])
    for loss in (CrossEntropy(ignore_index=255), CrossEntropyLossFlat(ignore_index=255)):
        assert metric(name, loss)(torch.cat([x, torch.randn(9, 7)]), ignored) == pytest.approx(expected, abs=1e-6)

@pytest.mark.parametrize('bad', (nan, math.inf, -math.inf))
def test_nan_is_never_right(bad):
    for loss in (CrossEntropy(), CrossEntropyLossFlat(), OneVsAllCrossEntropy()):
        for y in range(3):
            x = torch.full((1, 3), bad)
            if loss.activation(x).isnan().any():
                for name in ('error_rate', 'balanced_error'): assert metric(name, loss)(x, torch.tensor([y])) == 1
                assert decoded_accuracy(loss)(x, torch.tensor([y])) == decoded_top_k_accuracy(loss, 2)(x, torch.tensor([y])) == 0
    x = torch.full((1, 3), nan)
    assert decoded_error_rate(OneVsAllCrossEntropy(multi_hot=True))(x, torch.zeros(1, 3)) == 1  # no "no" either
    assert decoded_error_rate(CrossEntropy())(torch.tensor([[math.inf, 0., 0.]]), torch.tensor([0])) == 1  # its softmax is NaN
    assert decoded_error_rate(CrossEntropy())(torch.tensor([[-math.inf, 0., 1.]]), torch.tensor([2])) == 0

def test_several_labels_an_item():
    x,y = torch.tensor([[3., -3., 2.], [1., 1., -1.]]),torch.tensor([[1., 0., 0.], [1., 1., 1.]])
    for loss in (OneVsAllCrossEntropy(multi_hot=True), BCEWithLogitsLossFlat()):
        assert decoded_error_rate(loss)(x, y) == pytest.approx(2/6) and decoded_accuracy(loss)(x, y) == pytest.approx(4/6)
        for name in set(of_classes) - {'error_rate', 'accuracy'}: assert math.isnan(metric(name, loss)(x, y)), name
        assert math.isnan(decoded_top_k_accuracy(loss, 2)(x, y))

def test_several_labels_are_not_taken_for_probabilities():
    x,y = torch.tensor([[0., 2, 3, 0]]),torch.tensor([[0., 1, 1, 0]])
    for name in of_classes:
        for loss in (CrossEntropy(), CrossEntropyLossFlat()):
            with pytest.raises(ValueError, match='multi_hot=True'): metric(name, loss)(x, y)
    with pytest.raises(ValueError, match='multi_hot=True'): decoded_error_rate(CrossEntropy())(x, torch.zeros(1, 4))
    assert decoded_error_rate(CrossEntropy())(x, torch.tensor([[0., .4, .6, 0]])) == 0
    with pytest.raises(ValueError, match='two kinds: many for several labels an item'):
        LossComparison(digits_dataloaders(size=8), losses={'many': OneVsAllCrossEntropy(multi_hot=True), 'one': CrossEntropy()}, learner=small_learner)
    LossComparison(digits_dataloaders(size=8), losses={'many': OneVsAllCrossEntropy(multi_hot=True), 'more': BCEWithLogitsLossFlat()}, learner=small_learner)

def test_no_probabilities():
    x,y = torch.randn(20, 7),torch.randint(0, 7, (20,))
    for name in of_classes:
        value = metric(name, RanksOnly())(x, y)
        if scores[name].needs == 'probabilities': assert math.isnan(value), name
        else: assert value == metric(name, CrossEntropy())(x, y)
    learn = learner(RanksOnly(), cbs=ReportScores())
    learn.fit(1)
    assert {n for n,v in row(learn).items() if math.isnan(v)} == {'nll_loss', 'brier_loss', 'calibration_error'}

def test_wrong_labels():
    x = torch.randn(2, 3)
    for name in ('balanced_error', 'nll_loss', 'brier_loss', 'top_5_error_rate'):
        with pytest.raises(ValueError, match=r'label 3 is outside \[0, 3\)'): metric(name, CrossEntropy())(x, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r'label -1 is outside \[0, 3\)'): mean_angle(WarpedCrossEntropy(torch.eye(3)))(x, torch.tensor([0, -1]))
    for y in (torch.tensor([0., 1.]), torch.tensor([[0, 1], [1, 0]]), torch.tensor([0])):
        with pytest.raises(ValueError, match='decodes outputs of shape'): decoded_error_rate(CrossEntropy())(x, y)

# In a Learner

@pytest.mark.parametrize('name', [*names, 'top_2_accuracy'])
def test_trackers_go_the_right_way(name, tmp_path):
    "fastai reads the direction from the name; nll was kept at its largest"
    loss = WarpedCrossEntropy(class_vectors(C, 3), scale=10)
    ask = decoded_top_k_accuracy(k=2) if name == 'top_2_accuracy' else metric(name)
    keep = SaveModelCallback(monitor=name)
    learn = learner(loss, 3, metrics=ask, path=tmp_path, cbs=keep)
    with learn.no_logging(): learn.fit(4, 0.5)
    values = [row(learn, i)[name] for i in range(4)]
    best = max if 'accuracy' in name else min
    assert keep.best == best(values) and (len(set(values)) > 1 or name == 'top_5_error_rate')
    assert keep.comp == (np.less if best is min else np.greater)
    for tracker in (EarlyStoppingCallback, ReduceLROnPlateau): assert tracker(monitor=name).comp == keep.comp

def test_every_lower_is_better_has_a_name_that_fastai_reads_so():
    with pytest.raises(ValueError, match="fastai's trackers would follow it the other way"): Score('ece', len, len)
    with pytest.raises(ValueError, match="fastai's trackers would follow it the other way"): Score('error_free', len, len, lower_is_better=False)

def test_nothing_is_stale(tmp_path):
    learn = learner(InverseLoss(0.2), metrics=[decoded_accuracy()], cbs=ReportScores(), path=tmp_path)
    columns = ['train_loss', 'valid_loss', *reported, 'accuracy', 'time']
    learn.fit(2, 1e-2)
    assert list(learn.recorder.metric_names[1:]) == columns
    check(row(learn), first_fit := seen(learn))
    learn.fit(1, 0.3)
    assert list(learn.recorder.metric_names[1:]) == columns
    check(row(learn), second_fit := seen(learn))
    assert first_fit['nll_loss'] != pytest.approx(second_fit['nll_loss'], abs=1e-3)
    validated = dict(zip(columns[1:-1], learn.validate()))
    check(validated, second_fit)
    on_training = dict(zip(columns[1:-1], learn.validate(ds_idx=0)))
    check(on_training, seen(learn, 0))
    learn.get_preds(0)
    check(dict(zip(columns[1:-1], learn.validate())), second_fit)
    learn.export('whole.pkl')
    again = load_learner(tmp_path/'whole.pkl')
    again.logger = noop
    again.remove_cbs([cb for cb in again.cbs if type(cb).__name__ == 'ProgressCallback'])
    check(dict(zip(columns[1:-1], again.validate(dl=learn.dls.valid))), second_fit)
    again.dls = learn.dls
    again.create_opt()
    again.fit(1, 1e-2)
    assert list(again.recorder.metric_names[1:]) == columns
    check(row(again), seen(again))

def test_scores_before_any_fit_and_added_for_one_fit():
    learn = learner(CrossEntropy(), cbs=ReportScores())
    check(dict(zip(('valid_loss', *reported), learn.validate())), seen(learn))
    plain = learner(CrossEntropy())
    for _ in range(2): plain.fit(1, 1e-2, cbs=ReportScores())
    assert list(plain.recorder.metric_names[3:-1]) == list(reported)
    check(row(plain), seen(plain))

def test_predictions_fetched_on_another_set():
    "The validation score was that of the training set"
    learn = learner(CrossEntropy(), cbs=[ReportScores(), FetchPredsCallback(ds_idx=0)])
    learn.fit(2, 1e-2)
    learn.remove_cb(FetchPredsCallback)
    check(row(learn), expected := seen(learn))
    assert expected['nll_loss'] != pytest.approx(seen(learn, 0)['nll_loss'], abs=1e-3)

@pytest.mark.parametrize('cbs', ([], [MixUp()]), ids=('plain', 'MixUp'))
def test_training_scores_are_those_of_this_epoch(cbs):
    learn = learner(CrossEntropy(), cbs=[ReportScores(), *cbs])
    learn.recorder.train_metrics = True
    learn.fit(2, 0.)  # the model stays, so the scores are those of the whole set
    found = row(learn, 0)
    check({n: found[f'valid_{n}'] for n in reported}, seen(learn))
    assert all(math.isfinite(found[f'train_{n}']) for n in reported)
    if not cbs: check({n: found[f'train_{n}'] for n in reported}, seen(learn, 0))

def test_the_loss_of_the_learner_is_the_one_that_counts():
    loss = WarpedCrossEntropy(class_vectors(C, 3))
    learn = learner(loss, 3, metrics=[decoded_top_k_accuracy(CrossEntropy(), 1), decoded_error_rate(CrossEntropy()), mean_angle()])
    learn.fit(2, 1e-2)
    found,error = row(learn),seen(learn)['error_rate']
    assert found['top_1_accuracy'] == pytest.approx(1 - error) and found['error_rate'] == pytest.approx(error)
    assert 0 < found['mean_angle_error'] < 90

def test_a_loss_of_ones_own_where_the_learners_cannot_decode():
    learn = learner(F.cross_entropy, metrics=[decoded_error_rate(CrossEntropy()), nll_loss(CrossEntropy())])
    learn.fit(1, 1e-2)
    assert row(learn)['nll_loss'] == pytest.approx(float(row(learn)['valid_loss']), abs=1e-6)
    with pytest.raises(TypeError, match=r'cross_entropy has no activation\(x\).*give the metric one'):
        learner(F.cross_entropy, metrics=decoded_error_rate()).fit(1)
    with pytest.raises(TypeError, match=r'MSELoss has no activation\(x\)'): learner(nn.MSELoss(), cbs=ReportScores())

def test_no_items_are_nan_and_a_tracker_bears_them(tmp_path):
    "None under a tracker is a TypeError"
    unlabelled = [(torch.randn(8), torch.tensor(-100)) for _ in range(20)]
    learn = learner(CrossEntropy(), dls=DataLoaders.from_dsets(unlabelled, unlabelled, bs=8, num_workers=0), path=tmp_path, cbs=[ReportScores(), ReduceLROnPlateau(monitor='error_rate')])
    learn.fit(1)
    assert all(math.isnan(row(learn)[n]) for n in reported)
    for name in names: assert math.isnan(metric(name).value)

def test_losses_that_are_not_reduced():
    learn = learner(CrossEntropy(), cbs=ReportScores())
    learn.fit(1, 1e-2)
    learn.get_preds(with_loss=True)
    learner(F.cross_entropy, metrics=decoded_error_rate(CrossEntropy())).get_preds(with_loss=True, act=noop)

def test_two_targets():
    x,y = torch.randn(8, 3),torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    with pytest.raises(TypeError, match='got 2 targets, expected one tensor'): decoded_error_rate(CrossEntropy())(x, (y, y))
    def both(x, y, z): return CrossEntropy()(x, y) + CrossEntropy()(x, z)
    two = [(x[i], y[i], y[i]) for i in range(8)]
    dls = DataLoaders.from_dsets(two, two, bs=4, num_workers=0)
    dls.n_inp = 1
    learn = Learner(dls, nn.Linear(3, 3), loss_func=both, metrics=decoded_error_rate(CrossEntropy()))
    learn.remove_cb(learn.progress)
    with pytest.raises(TypeError, match='got 2 targets, expected one tensor.*targets'): learn.fit(1)

def test_pickled_and_copied():
    x,y = torch.randn(20, 3),torch.randint(0, 3, (20,))
    loss = WarpedCrossEntropy(class_vectors(3, 3), scale=5)
    asked = [*(metric(name, loss) for name in names), decoded_top_k_accuracy(loss, 2), *ReportScores().columns]
    for m in asked:
        for again in (pickle.loads(pickle.dumps(m)), deepcopy(m)):
            assert again.name == m.name
            if m.loss_func is not None: assert again(x, y) == m(x, y)
    learn = learner(CrossEntropy(), cbs=ReportScores(), metrics=decoded_accuracy())
    learn.fit(1)
    assert [m.name for m in pickle.loads(pickle.dumps(learn.metrics))] == [*reported, 'accuracy']

def test_a_call_leaves_an_epoch_alone():
    m = decoded_error_rate(CrossEntropy())
    m._add(torch.tensor([1., 0.]), torch.tensor([0, 0]))
    m(torch.eye(3), torch.arange(3))
    assert m.value == 0.5

def sum_of_squares(batch): return (batch.outputs**2).sum(-1)
def mean(sums, counts): return sums.sum()/counts.sum()

def test_a_new_score_is_one_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(scores, 'size_loss', Score('size_loss', sum_of_squares, mean))
    learn = learner(CrossEntropy(), cbs=ReportScores())
    learn.fit(1)
    assert row(learn)['size_loss'] > 0 and 'size_loss' in ReportScores.names
    drawn = []
    monkeypatch.setattr(ComparisonRecords, 'plot', lambda self, metric, baseline=None: drawn.append(metric) or plt.figure())
    done = LossComparison(digits_dataloaders(size=8, bs=256), losses=[CrossEntropy()], learner=small_learner, path=tmp_path/'c').fine_tune(1, progress=False)
    done.report(tmp_path/'report.html')
    assert done.table('size_loss')['size_loss'][1] > 0 and drawn == list(ReportScores.names)

# Records

def made_up(loss, seed, **values):
    epoch = dict(phase='unfrozen', epoch=0, train_loss=1., valid_loss=1., time=1., **values)
    return dict(loss=loss, status='finished', started=f'{seed}{loss}', epochs=[epoch], settings={'seed': seed})

@pytest.mark.parametrize('seeds', (1, 3))
def test_best_first_whatever_the_direction(seeds):
    "accuracy was ranked worst first"
    runs = [made_up(n, s, error_rate=e, accuracy=1 - e, top_2_accuracy=1 - e/2, nll_loss=e) for s in range(seeds) for n,e in dict(b=.2, a=.1, c=.3).items()]
    records = ComparisonRecords([*runs, dict(made_up('d', 0, error_rate=0., accuracy=1., top_2_accuracy=1., nll_loss=0.), status='diverged')])
    for metric in ('error_rate', 'accuracy', 'top_2_accuracy', 'nll_loss'): assert list(records.table(metric).loss) == ['a', 'b', 'c', 'd'], metric

def test_records_with_the_old_names(tmp_path):
    record = made_up('a', 1, error_rate=0.1, nll=0.2, brier=0.3, ece=0.4)
    (tmp_path/'a.json').write_text(json.dumps(record))
    assert ComparisonRecords.load(tmp_path).table('nll_loss').nll_loss[1] == 0.2
    epoch, = read_record(tmp_path/'a.json')['epochs']
    assert [epoch[n] for n in ('nll_loss', 'brier_loss', 'calibration_error')] == [0.2, 0.3, 0.4] and not {'nll', 'brier', 'ece'} & epoch.keys()

# The warning

def warned(make):
    "The warnings of ours that making something gives"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        learn = make()
    return learn,[str(w.message) for w in seen if 'Take ' in str(w.message)]

def test_one_warning_for_metrics_that_decode_by_themselves(tmp_path):
    warped = WarpedCrossEntropy(class_vectors(C, 3))
    for m,take in ((error_rate, 'decoded_error_rate()'), (accuracy, 'decoded_accuracy()'), (partial(accuracy, axis=1), 'decoded_accuracy()'), (F1Score(average='macro'), 'get_preds')):
        learn,said = warned(lambda: learner(warped, 3, metrics=[m, decoded_error_rate(), mean_angle()]))
        assert len(said) == 1 and take in said[0] and 'WarpedCrossEntropy' in said[0]
    learn,said = warned(lambda: learner(warped, 3, metrics=[error_rate, accuracy], path=tmp_path))
    assert len(said) == 1 and 'error_rate, accuracy' in said[0] and 'decoded_error_rate(), decoded_accuracy()' in said[0]
    assert not [cb for cb in learn.cbs if 'Check' in type(cb).__name__] and not hasattr(learn, 'check_learner')
    _,said = warned(lambda: (learn.fit(1), learn.validate(), learn.export('whole.pkl'), load_learner(tmp_path/'whole.pkl')))
    assert not said
    def accuracy_of_mine(x, y): return (warped.decodes(warped.activation(x)) == y).float().mean()
    accuracy_of_mine.__name__ = 'accuracy'
    assert not warned(lambda: learner(warped, 3, metrics=accuracy_of_mine))[1]
    as_many = WarpedCrossEntropy(class_vectors(C, C))  # a direction, even where there is an output for each class
    assert len(warned(lambda: learner(as_many, C, metrics=error_rate))[1]) == 1
    for loss,metrics in ((CrossEntropy(), error_rate), (CrossEntropyLossFlat(), error_rate), (InverseLoss(), [accuracy, F1Score()]), (F.cross_entropy, accuracy)):
        assert not warned(lambda: learner(loss, metrics=metrics))[1]
    assert not warned(lambda: learner(warped, 3, metrics=[mean_angle(), decoded_top_k_accuracy(k=2)], cbs=ReportScores()))[1]

def test_the_class_in_place_of_a_loss():
    for loss in (InverseLoss, WarpedCrossEntropy):
        with pytest.raises(TypeError, match=f'got the class {loss.__name__}, expected a loss: pass {loss.__name__}'): learner(loss)
    with pytest.raises(TypeError, match=r'got the class InverseLoss, expected a loss: pass InverseLoss\(\.\.\.\)'): decoded_error_rate(InverseLoss)

# Parameters of the loss

def trainable(**kwargs): return WarpedCrossEntropy(torch.randn(C, 3, generator=torch.Generator().manual_seed(0)), train_vectors=True, scale=5, **kwargs)

class WatchGradient(Callback):
    order = 100
    def before_fit(self): self.norms = []
    def before_step(self): self.norms.append(self.learn.loss_func.vectors.grad.norm().item())

def test_vectors_are_clipped_with_the_model():
    "The norm was 13.7 for a limit of 0.001"
    free,clipped = (learner(trainable(), 3, cbs=[TrainLossParameters(), *cbs, WatchGradient()]) for cbs in ([], [GradientClip(1e-3)]))
    for learn in (free, clipped): learn.fit(1, 1e-2)
    assert max(free.watch_gradient.norms) > 0.01 and 0 < max(clipped.watch_gradient.norms) <= 1e-3

@pytest.mark.parametrize('splitter', (None, lambda m: [list(m[0].parameters()), list(m[1].parameters())]), ids=('one group', 'two groups'))
def test_each_parameter_once_and_the_losss_last(splitter, tmp_path):
    "So that the optimizer state of files of the first edition fits"
    loss = trainable()
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    learn = Learner(data(), net, loss_func=loss, cbs=TrainLossParameters(), path=tmp_path, **({} if splitter is None else {'splitter': splitter}))
    learn.create_opt()
    found = [p for p,*_ in learn.opt.all_params()]
    assert len(found) == 5 and found[-1] is loss.vectors and len({id(p) for p in found}) == 5
    assert sum(p is loss.vectors for p in net.parameters()) == 1
    net(torch.randn(2, 8))

def test_files_of_the_first_edition_load(tmp_path):
    "There the state of the loss, buffers included, stood under loss_func.NAME"
    learn = learner(trainable(weight=torch.ones(C)), 3, cbs=TrainLossParameters(), path=tmp_path)
    (tmp_path/'models').mkdir()
    state = {'weight': torch.randn(3, 8), 'bias': torch.randn(3), 'loss_func.vectors': torch.randn(C, 3), 'loss_func.weight': torch.arange(C).float()}
    torch.save(state, tmp_path/'models'/'old.pth')
    learn.load('old', with_opt=False)
    for name,value in learn.model.state_dict().items(): assert (value == state[name]).all()
    assert learn.model.state_dict().keys() == state.keys() and (learn.loss_func.vectors == state['loss_func.vectors']).all()
    assert (learn.loss_func.weight == state['loss_func.weight']).all()
    assert learn.model.loss_func_vectors is learn.loss_func.vectors

def test_the_parameter_stays_shared(tmp_path):
    learn = learner(trainable(), 3, cbs=TrainLossParameters(), path=tmp_path)
    learn.fit(1, 1e-2); learn.freeze(); learn.fit(1, 1e-2); learn.unfreeze()
    learn.lr_find(show_plot=False, num_it=10)
    learn.fit(1, 1e-2, cbs=MixUp())
    learn.summary()
    assert learn.model.loss_func_vectors is learn.loss_func.vectors
    learn.model.double(); learn.model.float()
    assert learn.model.loss_func_vectors is learn.loss_func.vectors
    learn.export('whole.pkl')
    again = load_learner(tmp_path/'whole.pkl')
    assert again.model.loss_func_vectors is again.loss_func.vectors and again.loss_func.vectors is not learn.loss_func.vectors
    copied = deepcopy(learn)
    assert copied.model.loss_func_vectors is copied.loss_func.vectors

def test_a_second_learner_takes_the_model(tmp_path):
    first = learner(trainable(), 3, cbs=TrainLossParameters(), path=tmp_path)
    first.fit(1, 1e-2)
    second = Learner(data(), first.model, loss_func=trainable(), cbs=TrainLossParameters(), path=tmp_path)
    second.create_opt()
    second.save('taken'); second.load('taken')
    assert second.model.loss_func_vectors is second.loss_func.vectors is not first.loss_func.vectors
    assert [n for n in second.model.state_dict() if 'loss_func' in n] == ['loss_func.vectors']

# Several processes

def distributed_learner(): return learner(trainable(), 3, dls=data(n=25), cbs=[TrainLossParameters(), ReportScores()], metrics=[decoded_accuracy(), mean_angle(), decoded_top_k_accuracy(k=2)])

def one_process_of_two(rank, folder):
    DistributedDL = distributed_dl(rank, folder)
    learn = distributed_learner()
    values = learn.validate(dl=DistributedDL(learn.dls.valid, rank, 2))[1:]
    x,y = (o[rank::2] for o in learn.dls.valid.new(bs=24).one_batch())
    model = nn.parallel.DistributedDataParallel(learn.model)
    learn.loss_func(model(x), y).backward()
    with open(f'{folder}/{rank}.json', 'w') as f: json.dump(dict(values=list(values), gradient=learn.loss_func.vectors.grad.tolist()), f)
    torch.distributed.destroy_process_group()

def test_two_processes_report_what_one_does(tmp_path):
    "25 items: one more fills up the second half. Each process reported its own part, 0.8167 and 0.8111 in one case"
    torch.multiprocessing.spawn(one_process_of_two, (str(tmp_path),), nprocs=2)
    found = [json.loads((tmp_path/f'{rank}.json').read_text()) for rank in (0, 1)]
    learn = distributed_learner()
    expected = list(learn.validate())[1:]
    assert len(expected) == len(reported) + 3
    for rank in (0, 1): assert found[rank]['values'] == pytest.approx(expected, abs=1e-6)
    x,y = learn.dls.valid.new(bs=24).one_batch()
    learn.loss_func(learn.model(x), y).backward()  # the mean of the gradients of both halves
    for rank in (0, 1): torch.testing.assert_close(torch.tensor(found[rank]['gradient']), learn.loss_func.vectors.grad)
