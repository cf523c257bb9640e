"Every loss follows torch's rule for weight, ignore_index, label_smoothing, soft targets, reduction and axis"
from itertools import product
import pytest,torch
from torch import nn
from fastai_losses.probability import CrossEntropy

C = 5
weights = None,[0.5, 1., 2., 0., 3.]
shapes = ((16,), -1),((4, 6), -1),((4, 3, 2), 1),((), -1)  # of the items, and the axis of the classes among them

def width(loss): return loss.n_out or C

def outputs_of(shape, axis, generator, dtype=torch.float64, width=C):
    x = torch.randn(*shape, width, generator=generator, dtype=dtype)
    return x if axis == -1 else x.movedim(-1, axis).contiguous()

def by_hand(loss, x, y, axis, weight, ignore_index, smoothing, reduction):
    "The rule, written with loops over items and classes"
    x = x.movedim(axis, -1)
    soft = y.is_floating_point()
    shape,w = x.shape[:-1],torch.tensor(weight or [1.]*C, dtype=x.dtype)
    if soft: y = y.movedim(axis, -1).reshape(-1, C)
    penalties = loss.penalty(loss.evidence(x.reshape(-1, x.shape[-1])))
    items,total = [],0.
    for i in range(len(penalties)):
        label = None if soft else y.reshape(-1)[i].item()
        if label == ignore_index: items.append(penalties[i, 0]*0); continue
        t = y[i] if soft else torch.eye(C, dtype=x.dtype)[label]
        items.append(sum(w[c]*((1 - smoothing)*t[c] + smoothing/C)*penalties[i, c] for c in range(C)))
        total += 1. if soft else w[label].item()
    items = torch.stack(items)
    if reduction == 'none': return items.reshape(shape)
    return items.sum() if reduction == 'sum' else items.sum()/total if total else items.sum()

grid = [dict(weight=w, label_smoothing=s, reduction=r, ignore_index=i) for w,s,r,i in product(weights, (0., 0.1, 1.), ('mean', 'sum', 'none'), (-100, 0, 2, 255))]

def targets_of(shape, axis, soft, ignored, generator):
    if soft:
        t = torch.rand(*shape, C, generator=generator, dtype=torch.float64)
        return (t/t.sum(-1, keepdim=True)) if axis == -1 else (t/t.sum(-1, keepdim=True)).movedim(-1, axis)
    y = torch.randint(0, C, shape, generator=generator)
    return y.masked_fill(torch.rand(shape, generator=generator) < 0.3, ignored)

@pytest.mark.parametrize('soft', (False, True), ids=('labels', 'probabilities'))
@pytest.mark.parametrize('shape,axis', shapes, ids=str)
def test_rule(loss, shape, axis, soft):
    generator = torch.Generator().manual_seed(len(shape))
    for args in grid:
        if soft and args['ignore_index'] >= 0: continue
        x,y = outputs_of(shape, axis, generator, width=width(loss)).requires_grad_(),targets_of(shape, axis, soft, args['ignore_index'], generator)
        ours,expected = loss.with_arguments(axis=axis, **args)(x, y),by_hand(loss, x, y, axis, smoothing=args['label_smoothing'], **{k: v for k,v in args.items() if k != 'label_smoothing'})
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12, msg=lambda m: f'{args}\n{m}')
        (a,),(b,) = (torch.autograd.grad(o.sum(), x) for o in (ours, expected))
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=lambda m: f'{args}\n{m}')

@pytest.mark.parametrize('soft', (False, True), ids=('labels', 'probabilities'))
def test_cross_entropy_is_torchs(soft):
    generator = torch.Generator().manual_seed(0)
    for args,space in product(grid, ((), (3, 2))):
        if soft and args['ignore_index'] >= 0: continue
        x,y = outputs_of((16, *space), 1, generator).requires_grad_(),targets_of((16, *space), 1, soft, args['ignore_index'], generator)
        theirs = nn.CrossEntropyLoss(**{**args, 'weight': args['weight'] and torch.tensor(args['weight'], dtype=torch.float64)})(x, y)
        ours = CrossEntropy(axis=1, **args)(x, y)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=lambda m: f'{args}\n{m}')
        (a,),(b,) = (torch.autograd.grad(o.sum(), x) for o in (ours, theirs))
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)

@pytest.mark.parametrize('args', [dict(), dict(weight=[1., 0., 0., 0., 0.])], ids=str)
@pytest.mark.parametrize('reduction', ('mean', 'sum', 'none'))
def test_nothing_left_to_average(loss, args, reduction):
    x = torch.randn(3, width(loss), requires_grad=True)
    for outputs,targets in ((x, torch.full((3,), -100)), (x[:0], torch.zeros(0, dtype=torch.long)), (x[:0], torch.zeros(0, C)),
                            *([(x, torch.tensor([1, 2, 4]))] if args else [])):
        value = loss.with_arguments(reduction=reduction, **args)(outputs, targets)
        assert not value.any() and not torch.autograd.grad(value.sum(), x)[0].any()

def test_integer_types(loss):
    x,y = torch.randn(4, width(loss)),torch.tensor([0, 4, 2, 1])
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32): assert loss(x, y.to(dtype)) == loss(x, y)

def test_bad_input(loss):
    x,y = torch.randn(4, width(loss)),torch.tensor([0, 4, 2, 1])
    for error,message,bad in (
        (ValueError, r'label 5 is outside \[0, 5\)', lambda: loss(x, torch.tensor([0, 5, 2, 1]))),
        (ValueError, r'label -3 is outside \[0, 5\)', lambda: loss.with_arguments(ignore_index=0)(x, torch.tensor([0, -3, 2, 1]))),
        (ValueError, r'label 9 is outside \[0, 5\)', lambda: loss.with_arguments(label_smoothing=0.1)(x, torch.tensor([0, 9, 2, 1]))),
        (ValueError, r'shape \(3,\), expected integers of shape \(4,\)', lambda: loss(x, y[:3])),
        (ValueError, r'shape \(4, 6\), expected integers of shape \(4,\) or floats of shape \(4, 5\)', lambda: loss(x, torch.rand(4, 6))),
        (TypeError, 'got torch.bool', lambda: loss(x, y > 1)),
        (TypeError, 'outputs must be floating point, got torch.int64', lambda: loss(y[:, None], y)),
        (ValueError, 'weight has 2 entries for 5 classes', lambda: loss.with_arguments(weight=[1, 1])(x, y)),
        (ValueError, 'weight must hold one number for each class', lambda: loss.with_arguments(weight=[[1.]*5])),
        (ValueError, 'weight must hold one number for each class', lambda: loss.with_arguments(weight=[])),
        (ValueError, 'weight must hold finite numbers of at least 0', lambda: loss.with_arguments(weight=[float('inf')]*5)),
        (ValueError, "must be 'mean', 'sum' or 'none', got 'max'", lambda: loss.with_arguments(reduction='max')),
        (ValueError, 'axis 3', lambda: loss.with_arguments(axis=3)(x, y)),
        (ValueError, 'length 0', lambda: loss(x[:, :0], y)),
    ):
        with pytest.raises(error, match=message): bad()

def each_gradient(loss):
    "Six items, and functions of them that give the gradient of each: one by one, and through torch.func"
    x,y = torch.randn(6, width(loss)),torch.randint(0, C, (6,))
    def cost(x, y): return loss(x[None], y[None])
    def one_by_one(x, y): return torch.stack([torch.autograd.functional.jacobian(lambda o: cost(o, y[i]), x[i]) for i in range(6)])
    return x,y,one_by_one,torch.func.vmap(torch.func.grad(cost))

@pytest.mark.parametrize('smoothing', (0., 0.1))
def test_vmap_and_grad(loss, smoothing):
    x,y,one_by_one,each = each_gradient(loss.with_arguments(label_smoothing=smoothing))
    torch.testing.assert_close(each(x, y), one_by_one(x, y))

def test_vmap_and_grad_compiled(loss):
    x,y,one_by_one,each = each_gradient(loss.with_arguments(label_smoothing=0.1))
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(each, backend='aot_eager')(x, y), one_by_one(x, y))

def test_second_derivative_compiled(loss):
    x,v,y = torch.randn(6, width(loss)),torch.randn(6, width(loss)),torch.randint(0, C, (6,))
    def along_v(x): return torch.func.grad(lambda a: (torch.func.grad(lambda b: loss(b, y))(a)*v).sum())(x)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(along_v, backend='aot_eager')(x), along_v(x))

@pytest.mark.parametrize('n', (4, 2**16), ids=('few', 'many'))
def test_ignored_beside_a_class_that_is_ruled_out(loss, n):
    "Outputs of -inf rule a class out; where a loss can bear that, an ignored item does not bring them into the gradient"
    loss,x,y = loss.with_arguments(reduction='sum'),torch.randn(n, width(loss)),1 + torch.arange(n) % 2
    x[:, 0] = -torch.inf
    def grad(y): return torch.autograd.grad(loss(leaf := x.clone().requires_grad_(), y), leaf)[0]
    expected = grad(y)
    if not expected.isfinite().all(): pytest.skip('needs finite outputs')
    expected[::2] = 0
    torch.testing.assert_close(grad(y.where(torch.arange(n) % 2 == 1, -100)), expected)

def test_weights_that_are_loaded(loss):
    "The largest penalty that a loss lets out depends on them"
    heavy,loaded = (loss.with_arguments(weight=w) for w in ([1.]*4 + [1e10], [1.]*C))
    loaded.load_state_dict(heavy.state_dict())
    x,y = 1e4*torch.eye(width(loss))[:1],torch.tensor([C - 1])
    torch.testing.assert_close(loaded(x, y), heavy(x, y))
