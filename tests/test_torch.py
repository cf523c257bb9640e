"""What the conformance table has no column for: losses in parts of PyTorch that are used less, with
input that other people reported as faults. C classes, for losses that have to know their number"""
import copy,io,math,pickle
import numpy as np
import pytest,torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim,export
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint
from conformance_common import gradient
from fastai_losses.all import *

C = 5

def width(loss): return loss.n_out or C

def batch(loss, *shape, axis=-1):
    "Outputs, labels and class probabilities"
    g = torch.Generator().manual_seed(len(shape))
    x,t = (torch.randn(*shape, n, generator=g).movedim(-1, axis) for n in (width(loss), C))
    return x, torch.randint(0, C, shape, generator=g), t.softmax(axis)

# Arguments

every_argument = dict(weight=[1., 2., 3., 4., 5.], axis=1, ignore_index=3, label_smoothing=0.1,
    reduction='sum')

def test_arguments_are_kept(loss):
    "All of them, by whatever way a loss is made again"
    if isinstance(loss, LossSum): pytest.skip('each term of a sum has a weight of its own')
    x,y,_ = batch(loss, 6, 4, axis=1)
    full = loss.with_arguments(**every_argument)
    assert {**full.arguments, 'weight': full.weight.tolist()}.items() >= every_argument.items()
    stored = io.BytesIO()
    torch.save(full, stored)
    stored.seek(0)
    again = (full.with_arguments(), copy.copy(full), copy.deepcopy(full),
        pickle.loads(pickle.dumps(full)), torch.load(stored, weights_only=False))
    for other in again:
        assert repr(other) == repr(full) and 'label_smoothing=0.1' in repr(full)
        assert other(x, y) == full(x, y)
        other.reduction = 'mean'
        assert full.reduction == 'sum'

def test_arguments_of_a_loss_of_ones_own():
    "Through a base that passes on what it does not know, delegated or not"
    class Own(WarpedCrossEntropy):
        def __init__(self, counts, **kwargs):
            super().__init__(torch.eye(C), **kwargs)
            self.counts = counts
    loss = Own(np.array([1, 2]), scale=3., weight=np.ones(C), reduction='sum')
    weights = '[1.0, 1.0, 1.0, 1.0, 1.0]'
    assert repr(loss) == f"Own(counts=[1, 2], scale=3.0, weight={weights}, reduction='sum')"
    again = loss.with_arguments(axis=1)
    assert repr(again) == repr(loss).replace('reduction', 'axis=1, reduction')

refused = {'ignore_index': (None, 1.5), 'axis': ('1', None), 'reduction': (None, []),
    'label_smoothing': (None, torch.ones(3), math.nan),
    'weight': (object(), 'abcde', [[1.], [2., 3.]], 1., [1., math.nan])}

@pytest.mark.parametrize('argument,value', [(name, o) for name in refused for o in refused[name]])
def test_arguments_that_are_refused(argument, value):
    with pytest.raises((TypeError, ValueError), match=f'^{argument} must'):
        CrossEntropy(**{argument: value})

def test_weight_may_come_first():
    x,y,_ = batch(CrossEntropy(), 6)
    assert CrossEntropy(torch.arange(1., 6))(x, y) == CrossEntropy(weight=range(1, 6))(x, y)
    with pytest.raises(TypeError, match='Pass class weights by name'): InverseLoss(torch.ones(C))

def test_class_in_place_of_a_loss_and_other_targets(loss):
    x,y,_ = batch(loss, 6)
    with pytest.raises(TypeError, match=r'not the class'): type(loss)(x, y)
    with pytest.raises(TypeError, match='got 2 targets'): loss(x, y, y)
    for outputs,targets in ((x, (y, y)), ((x, x), y), (x, y.tolist()), (x, None)):
        with pytest.raises(TypeError, match='must be one tensor, got'): loss(outputs, targets)

# Labels

def test_labels_at_the_ends_of_their_types(loss):
    x,y,_ = batch(loss, 6)
    ends = (255, torch.uint8),(-128, torch.int8),(-2**63, torch.int64),(2**31, torch.int64)
    for ignored,dtype in ends:
        other = y.to(dtype)
        other[0] = ignored
        assert_close(loss.with_arguments(ignore_index=ignored)(x, other), loss(x[1:], y[1:]))
    for wrong in (-1, 2**62, -2**62):
        with pytest.raises(ValueError, match=f'label {wrong} is outside'):
            loss.with_arguments(ignore_index=255)(x, torch.full_like(y, wrong))
    if loss.n_classes is None:  # more classes than int8 can name
        x,y = torch.randn(3, 300),torch.tensor([127, 0, 3])
        assert loss(x, y.to(torch.int8)) == loss(x, y)

def test_nan_is_not_hidden(loss):
    "Neither a NaN in an output of another class nor one in a target; an ignored item hides its own"
    x,y,t = batch(loss, 6)
    outputs,targets = x.clone(),t.clone()
    outputs[0, 0],targets[0, 2] = math.nan,math.nan
    items = loss.with_arguments(reduction='none')
    for costs in (items(outputs, y*0 + 1), items(outputs, t), items(x, targets)):
        assert costs[0].isnan() and costs[1:].isfinite().all()
    y[0] = -100
    assert loss(outputs, y) == loss(x, y)

# Shapes, memory and types

def test_strange_memory(loss):
    x,y,t = batch(loss, 12)
    kept = x.clone()
    for outputs in (x.T.contiguous().T, torch.cat([x, x])[:12], x.repeat_interleave(2, 0)[::2]):
        assert_close(loss(outputs, y), loss(x, y))
        assert_close(gradient(loss, outputs, y), gradient(loss, x, y))
    assert_close(loss(x, t.T.contiguous().T), loss(x, t))
    assert_close(loss(x[:1].expand(4, -1), y[:4]), loss(x[:1].repeat(4, 1), y[:4]))
    assert_close(loss(x[0], y[0]), loss(x[:1], y[:1]))  # one item without an axis of its own
    assert loss(x[:0], y[:0]) == 0 and loss.activation(x[:0]).shape == (0, C)
    assert torch.equal(x, kept)
    image,mask,_ = batch(loss, 2, 3, 4, axis=1)
    last = image.to(memory_format=torch.channels_last)
    assert_close(loss.with_arguments(axis=1)(last, mask), loss.with_arguments(axis=1)(image, mask))

@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16, torch.float64), ids=str)
def test_loss_in_another_type(loss, dtype):
    "`loss.half()` and the like change weights and vectors; the outputs say what is computed in"
    x,y,_ = batch(loss, 6)
    other = loss.with_arguments(weight=[1.]*C).to(dtype)
    near = dict(rtol=3e-2, atol=3e-2)
    assert other(x, y).dtype == torch.float32
    assert_close(other(x, y), loss(x, y), **near)
    assert other(x.to(dtype), y).dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert gradient(other, x.to(dtype), y).dtype == dtype
    assert_close(other.activation(x.to(dtype)).float(), loss.activation(x), **near)

@pytest.mark.parametrize('dtype', (torch.bfloat16, torch.float64), ids=str)
def test_default_type(loss, dtype):
    "torch.set_default_dtype changes nothing for fp32 outputs"
    x,y,t = batch(loss, 6)
    expected = loss(x, y),loss(x, t),loss.range
    try:
        torch.set_default_dtype(dtype)
        other = loss.with_arguments(weight=[1]*C)
        found = other(x, y),other(x, t),other.range
        assert gradient(other, x, y).dtype == torch.float32
    finally: torch.set_default_dtype(torch.float32)
    for a,b in zip(found[:2], expected): assert_close(a, b)
    assert found[2] == pytest.approx(expected[2])

@pytest.mark.parametrize('dtype', (torch.bfloat16, torch.float16), ids=str)
def test_autocast_changes_nothing(loss, dtype):
    x,y,t = batch(loss, 6)
    leaf = x.clone().requires_grad_()
    def values(): return loss(leaf, y), loss(leaf, t), loss.activation(leaf)
    with torch.autocast('cpu', dtype): inside = values()
    for a,b in zip(inside, values()): assert_close(a, b, rtol=0, atol=0)
    assert_close(torch.autograd.grad(inside[0], leaf)[0], gradient(loss, x, y), rtol=0, atol=0)

def test_inference_mode(loss):
    x,y,_ = batch(loss, 6)
    with torch.inference_mode(): value = loss(x.clone(), y.clone())
    assert_close(value, loss(x, y))

def test_weight_takes_no_gradient(loss):
    if isinstance(loss, LossSum): pytest.skip('each term of a sum has a weight of its own')
    assert not loss.with_arguments(weight=torch.ones(C, requires_grad=True)).weight.requires_grad

# Graphs and transformations

class Model(nn.Module):
    "A model with its loss"
    def __init__(self, loss):
        super().__init__()
        self.head,self.loss = nn.Conv2d(2, width(loss), 1),loss
    def forward(self, x, y): return self.loss(self.head(x), y)

@pytest.mark.parametrize('soft', (False, True), ids=('labels', 'probabilities'))
def test_export_with_any_batch_size(loss, soft):
    "A model with its loss, for pictures of any size; weights, ignored labels and smoothing with it"
    args = dict(axis=1, weight=range(1, C + 1), label_smoothing=0.1)
    if not soft: args['ignore_index'] = 2
    model = Model(loss.with_arguments(**args))
    n,h,w = map(Dim, ('n', 'h', 'w'))
    def inputs(*shape):
        _,y,t = batch(loss, *shape, axis=1)
        return torch.randn(shape[0], 2, *shape[1:]), t if soft else y
    sizes = {0: n, 2: h, 3: w},({0: n, 2: h, 3: w} if soft else {0: n, 1: h, 2: w})
    program = export(model, inputs(4, 3, 2), dynamic_shapes=sizes)
    other = inputs(3, 6, 5)
    assert_close(program.module()(*other), model(*other))

def test_compiled_for_any_batch_size(loss):
    torch.compiler.reset()
    compiled = torch.compile(lambda x, y: loss(x, y), fullgraph=True, backend='eager', dynamic=True)
    for n in (5, 9, 0):
        x,y,_ = batch(loss, n)
        assert_close(compiled(x, y), loss(x, y))

def test_functional_call_and_vmap_over_weights(loss):
    if isinstance(loss, LossSum): pytest.skip('each term of a sum has a weight of its own')
    x,y,_ = batch(loss, 6)
    weighted,weights = loss.with_arguments(weight=[1.]*C),torch.rand(3, C) + 0.1
    def cost(w): return torch.func.functional_call(weighted, {'weight': w}, (x, y))
    expected = torch.stack([loss.with_arguments(weight=w)(x, y) for w in weights])
    assert_close(torch.func.vmap(cost)(weights), expected)

def test_vmap_over_outputs_or_labels(loss):
    loss = loss.with_arguments(ignore_index=0, weight=range(1, C + 1))
    x,y,_ = batch(loss, 3, 6)
    for in_dims,args in (((0, 0), (x, y)), ((0, None), (x, y[0])), ((None, 0), (x[0], y))):
        each = [loss(*(o if d is None else o[i] for o,d in zip(args, in_dims))) for i in range(3)]
        assert_close(torch.func.vmap(loss, in_dims=in_dims)(*args), torch.stack(each))

def test_derivatives_of_the_activation(loss):
    x = batch(loss, 2)[0].double()
    assert torch.autograd.gradcheck(loss.activation, x.requires_grad_())
    x = x.detach()[0]
    assert_close(torch.func.jacfwd(loss.activation)(x), torch.func.jacrev(loss.activation)(x))

def test_checkpointed(loss):
    x,y,_ = batch(loss, 6)
    leaf = x.clone().requires_grad_()
    checkpoint(loss, leaf, y, use_reentrant=False).backward()
    assert_close(leaf.grad, gradient(loss, x, y))

def test_copied_and_shown_under_fake_tensors(loss):
    if loss.n_classes: pytest.skip('holds real vectors, which torch cannot copy there')
    with FakeTensorMode():
        other = copy.deepcopy(loss).with_arguments(weight=[1.]*C)  # torch copies no fake weights
        assert 'weight' in repr(other)
        assert other(torch.randn(3, C), torch.zeros(3, dtype=torch.long)).shape == ()
    assert 'weight' in repr(other)

def test_on_the_meta_device(loss):
    x,y,_ = batch(loss, 6)
    real = loss.with_arguments(weight=range(1, C + 1))
    meta = copy.deepcopy(real).to('meta')
    assert meta(x.to('meta'), y.to('meta')).is_meta
    assert meta.decodes(meta.activation(x.to('meta'))).is_meta
    assert 'weight' in repr(meta)
    meta.load_state_dict(real.state_dict(), assign=True)
    assert meta(x, y) == real(x, y)

# Half precision and classes that are ruled out

def test_overflow_of_small_features():
    "What hid an overflow from GradScaler: InverseLoss, normalised features, fp16, a scale of 65536"
    torch.manual_seed(0)
    x,y = nn.functional.normalize(torch.randn(64, 32), dim=1)/100,torch.arange(64) % C
    head = nn.Linear(32, C, bias=False)
    with torch.no_grad(): head.weight.mul_(3000)
    exact = copy.deepcopy(head).double()
    InverseLoss()(exact(x.double()), y).backward()
    scaler = torch.amp.GradScaler('cpu', init_scale=65536.)
    while True:
        head.weight.grad = None
        with torch.autocast('cpu', torch.float16): value = InverseLoss()(head(x), y)
        scaler.scale(value).backward()
        if head.weight.grad.isfinite().all(): break
        scaler = torch.amp.GradScaler('cpu', init_scale=scaler.get_scale()/2)
    found,right = (h.weight.grad.flatten().double() for h in (head, exact))
    assert torch.cosine_similarity(found, right, 0) > 0.99
    assert scaler.get_scale() < 65536

def test_multi_hot_beside_a_class_that_is_ruled_out(loss):
    if not isinstance(loss, OneVsAllLoss): return
    loss,t = type(loss)(multi_hot=True),torch.tensor([[0., 1, 0, 1, 1]])
    x,far = (torch.tensor([[-big, 1., -2, 0, big]]) for big in (torch.inf, 1e4))
    assert_close(loss(x, t), loss(far, t))
    assert_close(gradient(loss, x, t), gradient(loss, far, t))

def test_only_one_class_left(loss):
    "All but the label ruled out: the least that the loss can cost, without a gradient"
    of_outputs = isinstance(loss, ScoreLoss) and not loss.probabilities
    if loss.n_classes or of_outputs or isinstance(loss, (LogitNormLoss, Squentropy, LossSum)): return  # no limit there
    x,y = torch.full((2, C), -torch.inf),torch.tensor([3, 3])
    x[:, 3] = 50.
    assert_close(loss(x, y), torch.tensor(loss.range[0]))
    assert_close(gradient(loss, x, y), torch.zeros(2, C))
    assert_close(loss.activation(x), nn.functional.one_hot(y, C).float())
