"What is particular to losses with a table of class vectors: fewer outputs than classes, decoding in blocks, parameters of the loss"
import math
import pytest,torch
import fastai.callback.progress
from fastai.callback.schedule import *
from fastai.data.all import CategoryBlock,DataBlock,ItemGetter,RandomSplitter,TransformBlock,noop,set_seed,tensor
from fastai.interpret import ClassificationInterpretation
from fastai.learner import Learner,load_learner
from fastai.metrics import error_rate
from torch import nn
from torch.nn import functional as F
from fastai_losses.all import *

C = 10
def warped(n_classes=C, **kwargs):
    "A loss with random vectors in three dimensions"
    return WarpedCrossEntropy(torch.randn(n_classes, 3, generator=torch.Generator().manual_seed(0)), **kwargs)

kinds = [lambda **k: warped(**k), lambda **k: warped(scale=10., **k), lambda **k: warped(scale=1., normalize=False, **k),
    lambda **k: warped(train_vectors=True, repel=0.5, **k), lambda **k: BinaryCodeLoss.example(C, **k), lambda **k: BinaryCodeLoss.example(C, hard=True, **k)]
every_kind = pytest.mark.parametrize('kind', kinds, ids=[repr(k()) for k in kinds])

def by_hand(loss, x):
    "(N, C) penalties, one pair of output and class at a time"
    def one(x, c):
        v = loss.vectors[c].detach().double()
        if isinstance(loss, BinaryCodeLoss): return sum(-math.log(1/(1 + math.exp(-s*z))) for s,z in zip(v.tolist(), x.tolist()))
        v,z = v/v.norm(),x/x.norm() if loss.normalize else x
        return 1 - (z@v).item() if loss.scale is None else loss.scale*(z@v).item()
    table = torch.tensor([[one(row, c) for c in range(C)] for row in x.double()], dtype=torch.float64)
    if getattr(loss, 'scale', None): table = -table.log_softmax(-1)
    if getattr(loss, 'repel', 0):
        v = F.normalize(loss.vectors.detach().double())
        table = table + loss.repel*torch.tensor([sum(math.exp(v[c]@v[k]) for k in range(C) if k != c)/(C - 1) for c in range(C)])
    return table

@every_kind
def test_formula(kind):
    loss = kind(reduction='none')
    x,y,t = torch.randn(12, loss.n_out),torch.arange(12) % C,torch.rand(12, C).softmax(-1)
    torch.testing.assert_close(loss(x, y).double(), by_hand(loss, x)[range(12), y], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss(x, t).double(), (by_hand(loss, x)*t).sum(-1), rtol=1e-4, atol=1e-5)

@every_kind
def test_derivatives(kind):
    loss = kind()
    x = torch.randn(4, loss.n_out, dtype=torch.float64, requires_grad=True)
    for y in (torch.tensor([0, 2, 9, 1]), torch.rand(4, C, dtype=torch.float64).softmax(-1)):
        assert torch.autograd.gradcheck(lambda x: loss(x, y), x)
        assert torch.autograd.gradgradcheck(lambda x: loss(x, y), x)

@every_kind
def test_every_axis(kind):
    flat,loss = kind(weight=torch.rand(C), label_smoothing=0.1),kind(weight=torch.rand(C), label_smoothing=0.1, axis=1)
    loss.load_state_dict(flat.state_dict())
    x,y = torch.randn(2, loss.n_out, 3, 4),torch.randint(0, C, (2, 3, 4))
    rows = x.movedim(1, -1).reshape(-1, loss.n_out)
    torch.testing.assert_close(loss(x, y), flat(rows, y.reshape(-1)))
    t = torch.rand(2, C, 3, 4).softmax(1)
    torch.testing.assert_close(loss(x, t), flat(rows, t.movedim(1, -1).reshape(-1, C)))
    assert loss.activation(x).shape == (2, C, 3, 4) and loss.decodes(loss.activation(x)).shape == loss.nearest(x).shape == (2, 3, 4)
    torch.testing.assert_close(loss.activation(x).movedim(1, -1).reshape(-1, C), flat.activation(rows))
    if loss.gives_probabilities: torch.testing.assert_close(loss.activation(x).sum(1), torch.ones(2, 3, 4))
    assert not loss.activation(x).requires_grad  # fastai turns what it predicts into numpy

@every_kind
@pytest.mark.parametrize('numbers', (1, 35, 2**24))
def test_nearest_is_what_activation_decodes_to(kind, numbers):
    loss = kind()
    x = torch.randn(50, loss.n_out)
    assert (loss.nearest(x, numbers) == loss.decodes(loss.activation(x))).all()
    if getattr(loss, 'hard', False): expected = (loss.codes != x[:, None].sign()).sum(-1)
    elif getattr(loss, 'repel', 0): expected = by_hand(WarpedCrossEntropy(loss.vectors), x)  # to crowd costs, but does not change what an output means
    else: expected = by_hand(loss, x)
    assert (loss.nearest(x) == expected.argmin(-1)).all()

@every_kind
@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16), ids=str)
def test_half_precision(kind, dtype):
    loss = kind(reduction='none')
    x,y = torch.randn(20, loss.n_out).to(dtype).requires_grad_(),torch.arange(20) % C
    for targets in (y, F.one_hot(y, C).float()):
        value = loss(x, targets)
        grad, = torch.autograd.grad(value.sum(), x)
        assert value.dtype == torch.float32 and grad.dtype == dtype
        torch.testing.assert_close(value, loss(x.float(), targets))
    assert loss.activation(x).dtype == torch.float32
    wide,soft = x.detach().float(),torch.rand(20, C).softmax(-1)
    expected = loss(wide, y),loss(wide, soft),loss.activation(wide)
    with torch.autocast('cpu', torch.bfloat16): inside = loss(wide, y),loss(wide, soft),loss.activation(wide)
    for a,b in zip(inside, expected): torch.testing.assert_close(a, b)

@every_kind
@pytest.mark.parametrize('size', (0., 1e-6, 1., 1e4))
def test_extremes(kind, size):
    loss = kind(reduction='none')
    x = (torch.randn(20, loss.n_out)*size).requires_grad_()
    value = loss(x, torch.arange(20) % C)
    grad, = torch.autograd.grad(value.sum(), x)
    assert value.isfinite().all() and grad.isfinite().all()

@every_kind
@pytest.mark.slow
def test_compiles_without_a_graph_break(kind):
    loss = kind()
    x,y = torch.randn(8, loss.n_out),torch.arange(8)
    torch.compiler.reset()
    for targets in (y, F.one_hot(y, C).float()): torch.testing.assert_close(torch.compile(loss, fullgraph=True)(x, targets), loss(x, targets))

def test_many_classes_cost_no_more_than_few():
    "The graph of the loss of labels holds nothing that is as long as the table"
    loss,sizes = WarpedCrossEntropy(torch.randn(50_000, 8)),[]
    x,y = torch.randn(16, 8, requires_grad=True),torch.randint(0, 50_000, (16,))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t): loss(x, y).backward()
    assert max(sizes) <= 16*8

@pytest.mark.parametrize('p', ([0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [0.05, 0.15, 0.8]), ids=str)
def test_softmax_form_tells_the_truth(p):
    loss = WarpedCrossEntropy(class_vectors(3, 3), scale=10)
    p = torch.tensor([p], dtype=torch.float64)
    x = (p@loss.vectors.double() + torch.tensor([[0.1, 0.2, -0.1]])).requires_grad_()  # three vectors lie in a plane: leave it
    opt = torch.optim.LBFGS([x], max_iter=1000, line_search_fn='strong_wolfe', tolerance_grad=1e-11, tolerance_change=1e-15)
    def closure(): opt.zero_grad(); value = loss(x, p); value.backward(); return value
    opt.step(closure)
    torch.testing.assert_close(loss.activation(x.detach()), p, atol=1e-3, rtol=0)

def test_best_bits_are_their_own_probabilities():
    loss,p = BinaryCodeLoss.example(C),torch.rand(1, C, dtype=torch.float64).softmax(-1)
    bits = p@(loss.codes.double() + 1)/2
    used = loss.codes.min(0).values != loss.codes.max(0).values
    x = torch.logit(bits.clamp(1e-9, 1-1e-9)).requires_grad_()
    grad, = torch.autograd.grad(loss(x, p), x)
    assert used.sum() >= 4 and grad[0, used].abs().max() < 1e-7

# Training

@pytest.fixture(scope='module')
def dls():
    from sklearn.datasets import load_digits
    data = load_digits(return_X_y=True)
    block = DataBlock(blocks=(TransformBlock, CategoryBlock), get_x=[ItemGetter(0)], get_y=ItemGetter(1), splitter=RandomSplitter(seed=0))
    return block.dataloaders([(tensor(x).float()/16, int(y)) for x,y in zip(*data)], bs=64, num_workers=0)

def learner(dls, loss, tmp_path, **kwargs):
    set_seed(0, True)
    learn = Learner(dls, nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, loss.n_out)), loss_func=loss, path=tmp_path, **kwargs)
    learn.remove_cb(learn.progress)
    learn.logger = noop
    return learn

@every_kind
def test_train_and_predict(kind, dls, tmp_path):
    loss = kind()
    learn = learner(dls, loss, tmp_path, metrics=[class_vector_error_rate(loss), error_rate, decoded_top_k_accuracy(loss, 2), mean_angle(loss)])
    learn.fit_one_cycle(5, 1e-2)
    ours,theirs,top,angle = learn.recorder.values[-1][2:]
    probs,targets,decoded,losses = learn.get_preds(with_decoded=True, with_loss=True)
    assert probs.shape == (len(targets), C) and losses.shape == targets.shape
    assert ours == pytest.approx((decoded != targets).float().mean().item()) and ours < 0.5 and theirs > ours + 0.2
    assert 1 - ours <= top <= 1 and 0 < angle < 90
    label,index,_ = learn.predict(dls.valid_ds[0][0])
    assert index == decoded[0] and label == str(dls.vocab[index])
    interp = ClassificationInterpretation.from_learner(learn)
    assert interp.confusion_matrix().trace() == (decoded == targets).sum()
    learn.export('whole.pkl')
    again = load_learner(tmp_path/'whole.pkl')
    if hasattr(again, 'progress'): again.remove_cb(again.progress)
    assert (again.loss_func.vectors == loss.vectors).all() and repr(again.loss_func) == repr(loss)
    torch.testing.assert_close(again.predict(dls.valid_ds[0][0])[2], probs[0], rtol=1e-4, atol=1e-6)

def test_error_rate_is_silently_wrong_and_ours_is_not():
    for n in (3, 10, 16):
        loss = WarpedCrossEntropy(torch.randn(C, n, generator=torch.Generator().manual_seed(n)))
        y = torch.arange(500) % C
        x = loss.vectors[y]*torch.rand(500, 1).add(0.1)
        assert class_vector_error_rate(loss)(x, y) == 0 and class_vector_accuracy(loss)(x, y) == 1
        assert decoded_top_k_accuracy(loss, 1)(x, y) == 1 and mean_angle(loss)(x, y) < 0.1
        assert error_rate(x, y) > 0.5

def test_another_head_says_what_to_do(dls, tmp_path):
    learn = learner(dls, warped(), tmp_path)
    learn.model[-1] = nn.Linear(64, C)
    with pytest.raises(ValueError, match='needs outputs of width 3, got 10: make the model with n_out=3'): learn.fit(1)

def test_comparison_makes_the_head(tmp_path):
    losses = {'warped': warped(), 'codes': BinaryCodeLoss.example(C), 'cross-entropy': CrossEntropy()}
    whole = LossComparison(digits_dataloaders(size=16), losses=losses, pretrained=False)
    assert [whole.make_learner(name).model[-1][-1].out_features for name in losses] == [3, 5, 10]
    small = LossComparison(digits_dataloaders(size=8), losses=losses, learner=small_learner, path=tmp_path)
    small.fine_tune(1, progress=False)
    assert set(small.table().status) == {'finished'} and small.table().error_rate.between(0, 1).all()
    with pytest.raises(ValueError, match='is for 7 classes, the data have 10'): LossComparison(digits_dataloaders(size=16), losses={'seven': warped(7)})

# Parameters of the loss

def trainable(): return warped(train_vectors=True, scale=5)

def test_trained_saved_and_loaded(dls, tmp_path):
    loss = trainable()
    start = loss.vectors.detach().clone()
    learn = learner(dls, loss, tmp_path, cbs=TrainLossParameters())
    learn.fit(1)
    assert (loss.vectors - start).abs().max() > 1e-3
    learn.save('state')
    kept = {n: v.clone() for n,v in loss.state_dict().items()}
    step = learn.opt.state[loss.vectors]['step']
    learn.fit(1)
    assert (loss.vectors != kept['vectors']).any()
    other = learner(dls, trainable(), tmp_path, cbs=TrainLossParameters())
    other.load('state')
    assert (other.loss_func.vectors == kept['vectors']).all() and other.opt.state[other.loss_func.vectors]['step'] == step
    other.fit(1)
    assert (other.loss_func.vectors != kept['vectors']).any()

def test_trained_frozen_and_unfrozen(dls, tmp_path):
    def body_and_head(model): return [list(model[:2].parameters()), list(model[2:].parameters())]
    loss = trainable()
    learn = learner(dls, loss, tmp_path, cbs=TrainLossParameters(), splitter=body_and_head)
    start,body = loss.vectors.detach().clone(),learn.model[0].weight.detach().clone()
    learn.freeze(); learn.fit(1)
    assert (learn.model[0].weight == body).all() and (loss.vectors != start).any() and len(learn.opt.param_lists) == 2
    learn.unfreeze(); learn.fit_one_cycle(1, slice(1e-4, 1e-2))
    assert (learn.model[0].weight != body).any()

def test_exported_and_trained_on(dls, tmp_path):
    learn = learner(dls, trainable(), tmp_path, cbs=[TrainLossParameters(), RecordOutputs()])
    learn.fit(1)
    learn.export('whole.pkl')
    again = load_learner(tmp_path/'whole.pkl')
    trained = learn.loss_func.vectors.detach().clone()
    assert (again.loss_func.vectors == trained).all()
    again.dls = dls
    again.create_opt()
    again.fit(1)
    assert (again.loss_func.vectors != trained).any() and (learn.loss_func.vectors == trained).all()
    assert 'loss_func.vectors' in again.model.state_dict() and (again.model.state_dict()['loss_func.vectors'] == again.loss_func.vectors).all()

def test_lr_find_and_mixup_leave_it_whole(dls, tmp_path):
    from fastai.callback.mixup import MixUp
    loss = trainable()
    learn = learner(dls, loss, tmp_path, cbs=TrainLossParameters())
    start = loss.vectors.detach().clone()
    learn.lr_find(show_plot=False, num_it=20)
    assert (loss.vectors == start).all()
    learn.fit(1, cbs=MixUp())
    assert learn.loss_func is loss and (loss.vectors != start).any()

def test_outputs_are_recorded_once_an_epoch(dls, tmp_path):
    watch = RecordOutputs()
    learn = learner(dls, warped(), tmp_path, cbs=watch)
    learn.lr_find(show_plot=False, num_it=10)
    assert not watch.outputs
    learn.fit(2); raw,targets = learn.get_preds(act=noop); learn.validate(); learn.fit(1)
    assert len(watch.outputs) == 3
    torch.testing.assert_close(watch.outputs[1], raw.as_subclass(torch.Tensor)); assert (watch.targets[1] == targets).all()
    assert len(watch.plot().axes) == 3
