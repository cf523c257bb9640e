"Values and gradients are finite and right: every loss against its formula, written down by hand and computed to 60 digits"
import math,zlib
import pytest,torch
from hypothesis import HealthCheck,given,seed,settings,strategies as st
from mpmath import mp
from torch.nn import functional as F
from conftest import all_losses
from fastai_losses.all import *

mp.dps = 60
C = 5  # classes of the losses that want to know

def surprise(x, y): return mp.log1p(mp.fsum(mp.exp(x[k] - x[y]) for k in range(len(x)) if k != y))
def softmax(x):
    e = [mp.exp(v - max(x)) for v in x]
    return [v/mp.fsum(e) for v in e]
def length(x): return mp.sqrt(mp.fsum(v*v for v in x))
def unit(x): return [v/length(x) for v in x] if any(x) else x
def softplus(z): return mp.log1p(mp.exp(z))
def sigmoid(z): return 1/(1 + mp.exp(-z))

def capped_exp(h): return mp.exp(min(h, 40))*(1 + max(h - 40, 0))  # its tangent from 40 on

def generalized(loss, x, y):
    h,q = surprise(x, y),mp.mpf(loss.q)
    if loss.truncate: h = min(h, -mp.log(loss.truncate))
    if not q: return h
    return -mp.expm1(-q*h)/q if q > 0 or -q*h < 40 else (1 - capped_exp(-q*h))/q

def hinge(loss, x, y):
    behind = [max(mp.mpf(0), loss.margin - x[y] + x[k]) for k in range(len(x)) if k != y]
    return max(behind, default=mp.mpf(0)) if loss.best_other else mp.fsum(behind)/len(x)

def given_outputs(loss, x): return softmax(x) if loss.probabilities else x
def spherical(loss, x, y): return 1 - unit(given_outputs(loss, x))[y]
def brier(loss, x, y):
    x = given_outputs(loss, x)
    return loss.factor*(x[y] - loss.target)**2 + mp.fsum(v*v for k,v in enumerate(x) if k != y)
def squentropy(loss, x, y):
    return surprise(x, y) + mp.fsum(v*v for k,v in enumerate(x) if k != y)/max(len(x) - 1, 1)
def norm_regularized(loss, x, y): return length(given_outputs(loss, x)) - given_outputs(loss, x)[y]

# Cost of a yes and of a no to the question of one class, at C classes
questions = {OneVsAllCrossEntropy: (lambda z, C: softplus(-z), lambda z, C: softplus(z)),
             SigmoidDistanceLoss:  (lambda z, C: sigmoid(-z)/C, lambda z, C: sigmoid(z)/C),
             AsymmetricLoss:       (lambda z, C: softplus(-z), lambda z, C: asymmetric_no(AsymmetricLoss(), z))}
def asked(loss, x, y):
    yes,no = questions[type(loss)]
    return mp.fsum((yes if k == y else no)(v, len(x)) for k,v in enumerate(x))

def asymmetric_yes(loss, z): return softplus(-z)*sigmoid(-z)**loss.gamma_yes
def asymmetric_no(loss, z):
    g = max(sigmoid(z) - mp.mpf(loss.no_margin), mp.mpf(0))
    return -g**loss.gamma_no*mp.log(1 - g)
def asymmetric(loss, x, y):
    return mp.fsum(asymmetric_yes(loss, v) if k == y else asymmetric_no(loss, v) for k,v in enumerate(x))

def active_passive(loss, x, y):
    costs = [surprise(x, c)*(-mp.expm1(-surprise(x, c)))**loss.gamma for c in range(len(x))]
    active = costs[y]/mp.fsum(costs) if any(costs) else 0
    return loss.alpha*active + loss.beta*loss.log_zero*mp.expm1(-surprise(x, y))

def with_margin(loss, x, y):
    margins = loss.margins.tolist()
    return surprise([mp.mpf(loss.scale)*(v - (k == y)*margins[k]) for k,v in enumerate(x)], y)
def adjusted(loss, x, y):
    return surprise(x if loss.after else [v + loss.tau*mp.log(p) for v,p in zip(x, loss.prior.tolist())], y)

def cosines(loss, x): return [mp.fsum(a*b for a,b in zip(unit(x), v)) for v in loss.vectors.tolist()]
def warped(loss, x, y):
    cos = cosines(loss, x)
    if loss.margin: cos[y] = turned(cos[y], loss.margin) if loss.angular else cos[y] - loss.margin
    return surprise([mp.mpf(loss.scale)*c for c in cos], y) if loss.scale else 1 - cos[y]

def turned(cos, m):
    return mp.cos(mp.acos(max(min(cos, mp.mpf(1)), mp.mpf(-1))) + m) if cos > -mp.cos(m) else cos - (1 - mp.cos(m))

formulas = {  # cost of label y at the outputs x
    CrossEntropy:            lambda loss, x, y: surprise(x, y),
    DotProductLoss:          lambda loss, x, y: -mp.expm1(-surprise(x, y)),
    InverseLoss:             lambda loss, x, y: capped_exp(mp.mpf(loss.power)*surprise(x, y)),
    GeneralizedCrossEntropy: generalized,
    FocalCrossEntropy:       lambda loss, x, y: surprise(x, y)*(-mp.expm1(-surprise(x, y)))**loss.gamma,
    PolyCrossEntropy:        lambda loss, x, y: surprise(x, y) - loss.epsilon*mp.expm1(-surprise(x, y)),
    SphericalLoss:           spherical,
    BrierLoss:               brier,
    NormRegularizedLoss:     norm_regularized,
    Squentropy:              squentropy,
    SymmetricCrossEntropy:   lambda loss, x, y: loss.alpha*surprise(x, y) + loss.beta*loss.log_zero*mp.expm1(-surprise(x, y)),
    ActivePassiveLoss:       active_passive,
    LogitAdjustedLoss:       adjusted,
    LDAMLoss:                with_margin,
    AsymmetricLoss:          asymmetric,
    LogitNormLoss:           lambda loss, x, y: surprise([v/mp.mpf(loss.temperature) for v in unit(x)], y),
    OneVsAllCrossEntropy:    asked,
    SigmoidDistanceLoss:     asked,
    HingeLoss:               hinge,
    WarpedCrossEntropy:      warped,
    BinaryCodeLoss:          lambda loss, x, y: mp.fsum(softplus(-c*v) for c,v in zip(loss.codes[y].tolist(), x)),
}

def of_direction(loss): return isinstance(loss, (LogitNormLoss, WarpedCrossEntropy)) or isinstance(loss, SphericalLoss) and not loss.probabilities
def roundings(loss, x, soft):
    "What one rounding of an intermediate result does to the value and to the gradient, in units of the type's epsilon"
    size = max(map(abs, x)) or mp.mpf(1)
    if isinstance(loss, LogitNormLoss): return 1/mp.mpf(loss.temperature), 1/size/loss.temperature
    if isinstance(loss, WarpedCrossEntropy): return loss.scale or 1, (loss.scale or 1)/size
    if isinstance(loss, (LogitAdjustedLoss, LDAMLoss)):  # they add a number to the outputs, or take one off
        scale = getattr(loss, 'scale', 1)
        return 1 + scale*size, scale*(1 + scale*size)
    if isinstance(loss, HingeLoss): return loss.margin + size, 1
    if isinstance(loss, OneVsAllCrossEntropy): return 1 + size*soft, 1
    if isinstance(loss, ScoreLoss) and not loss.probabilities:
        return {SphericalLoss: (1, 1/size), BrierLoss: (1 + size**2, 1 + size), NormRegularizedLoss: (size, 1)}[type(loss)]
    return 1, 1

def near_a_bend(loss, x, eps):
    "Does the rounding of a type decide on which side of a bend these outputs are?"
    if isinstance(loss, HingeLoss):
        return any(abs(loss.margin - a + b) <= 8*eps*(loss.margin + abs(a) + abs(b)) for a in x for b in x)
    if getattr(loss, 'truncate', 0): return any(abs(surprise(x, y) + mp.log(loss.truncate)) < 64*eps for y in range(len(x)))
    return False

def terms_of(loss, x, target):
    "The rule: one row's loss as (coefficient, function of the outputs), and the row's share in what the mean divides by; None: ignored"
    C = loss.n_classes or len(x)
    w,eps = loss.weight.tolist() if loss.weight is not None else [1.]*C,mp.mpf(loss.label_smoothing)
    if getattr(loss, 'multi_hot', False):
        yes,no = questions[type(loss)]
        t = [(1 - eps)*v + eps/2 for v in target]
        terms = [(w[k]*a, lambda x, k=k, cost=cost: cost(x[k], C)) for k in range(C) for a,cost in ((t[k], yes), (1 - t[k], no))]
    else:
        soft = target if isinstance(target, list) else [float(c == target) for c in range(C)]
        if target == loss.ignore_index: soft,eps = [0.]*C,0
        terms = [(w[c]*((1 - eps)*soft[c] + eps/C), lambda x, c=c: formulas[type(loss)](loss, x, c)) for c in range(C)]
    return [t for t in terms if t[0]], 1. if isinstance(target, list) else 0. if target == loss.ignore_index else w[target]

def slopes(f, x, at, step):
    "For each output the slopes of `f` below and above, which differ at a bend: smaller, larger"
    moved = lambda k, by: f([v + by*(i == k) for i,v in enumerate(x)])
    both = [((at - moved(k, -step))/step, (moved(k, step) - at)/step) for k in range(len(x))]
    return [min(b) for b in both], [max(b) for b in both]

def value_and_gradient(loss, x, y):
    x = x.detach().requires_grad_()
    value = loss(x, y)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]

def check(loss, x, y):
    "Value and gradient are finite and right at every row; a gradient in half precision overflows as torch's do"
    value,grad = value_and_gradient(loss, x, y)
    wide = x.dtype if x.dtype == torch.float64 else torch.float32
    assert value.dtype == wide and grad.dtype == x.dtype and value.isfinite().all() and not grad.isnan().any()
    assert grad.isfinite().all() or x.dtype == torch.float16
    if type(loss) in formulas: check_formula(loss, x, y, value, grad)
    else: check_itself(loss, x, y, value, grad)

def check_itself(loss, x, y, value, grad):
    "A loss that is not written down above: the same as in double precision, roughly"
    exact,slope = value_and_gradient(loss, x.double(), y)
    torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=1e-4)
    largest = slope.abs().max().item() if slope.numel() else 1.
    if largest < torch.finfo(x.dtype).max: torch.testing.assert_close(grad.double(), slope, rtol=2e-2, atol=1e-3*max(1., largest))

def check_formula(loss, x, y, value, grad):
    "Value and gradient are those of the formula, to the precision of the type"
    wide,half = value.dtype,torch.finfo(x.dtype)
    limits = torch.finfo(wide)
    rows = lambda t: t.movedim(loss.axis, -1).reshape(-1, t.shape[loss.axis]).double().tolist()
    soft = y.is_floating_point()
    targets = rows(y) if soft else y.reshape(-1).tolist()
    outputs = [[mp.mpf(v) for v in row] for row in rows(x)] if x.numel() else []
    ruled = [terms_of(loss, *row) for row in zip(outputs, targets, strict=True)]
    total = sum(share for _,share in ruled) or 1. if loss.reduction == 'mean' else 1.
    items,errors = [],[]
    for row,(terms,_),target,got in zip(outputs, ruled, targets, rows(grad)):
        one_value,one_slope = roundings(loss, row, soft or loss.label_smoothing > 0)
        step = mp.mpf(10)**-25*((max(map(abs, row)) or 1) if of_direction(loss) or isinstance(loss, NormRegularizedLoss) else 1)
        item = error = slope_error = mp.mpf(0)
        low,high = [mp.mpf(0)]*len(row),[mp.mpf(0)]*len(row)
        for coefficient,f in terms:
            at,coefficient = f(row),coefficient/mp.mpf(total)
            below,above = slopes(f, row, at, step)
            steep = 1 + mp.log(max(at, 1))  # exp multiplies a rounding of its argument by the argument
            item += coefficient*at
            error += coefficient*(at*steep + one_value)
            slope_error += coefficient*(max(map(abs, below + above))*steep + one_slope)
            low,high = [a + coefficient*b for a,b in zip(low, below)],[a + coefficient*b for a,b in zip(high, above)]
        items.append(item), errors.append(error)
        if of_direction(loss) and not any(row) or near_a_bend(loss, row, limits.eps): continue
        for k,g in enumerate(got):
            slack = 8*limits.eps*slope_error + half.eps*abs(g if math.isfinite(g) else 0) + half.smallest_normal*half.eps + limits.tiny
            a,b = low[k] - slack,high[k] + slack
            a,b = min(a, half.max*(1 - half.eps)) if b > half.max else a,max(b, -half.max*(1 - half.eps)) if a < -half.max else b
            if b > half.max*(1 - half.eps): b = mp.inf
            if a < -half.max*(1 - half.eps): a = -mp.inf
            assert a <= g <= b, f'derivative {k} of {target} at {[float(v) for v in row]}: {g}, not in [{float(a)}, {float(b)}]'
    if loss.reduction != 'none': items,errors = [mp.fsum(items)],[mp.fsum(errors)]
    for got,item,error in zip(value.double().reshape(-1).tolist(), items, errors, strict=True):
        assert abs(got - item) <= 8*limits.eps*error + limits.tiny, f'{got}, not {float(item)}, at {x.tolist()}, {y.tolist()}'

@pytest.mark.parametrize('dtype', (torch.float32, torch.float16, torch.bfloat16), ids=str)
@pytest.mark.parametrize('size', (1e-6, 1., 30., 300., 1e4))
def test_extremes(loss, dtype, size):
    C = loss.n_classes or 6
    x = (torch.randn(6, loss.n_out or C, generator=torch.Generator().manual_seed(0))*size).clamp(-1e4, 1e4).to(dtype)
    y = torch.arange(6) % C
    for args in (dict(reduction='none', weight=torch.linspace(0, 30, C)), dict(reduction='mean'), dict(reduction='sum')): check(loss.with_arguments(**args), x, y)

@st.composite
def batches(draw, loss):
    "A loss with arguments of the base class, outputs and targets"
    dtype = draw(st.sampled_from((torch.float16, torch.bfloat16, torch.float32, torch.float64)))
    tiny = max(1e-6, torch.finfo(dtype).tiny)  # the least size that is promised
    shape,axis = draw(st.sampled_from((((), -1), ((0,), -1), ((1,), -1), ((3,), -1), ((2, 2), -1), ((2, 2), 1))))
    C = loss.n_classes or draw(st.integers(1, 5))
    width,n = loss.n_out or C,math.prod(shape)
    sign = st.sampled_from((-1, 1))
    number = st.one_of(st.sampled_from((0., 0., tiny, -tiny, 1., 88., -104., 1e4, -1e4)), st.floats(-10, 10),
                       st.builds(lambda s, e: s*max(10.**e, tiny), sign, st.floats(math.log10(tiny), 4)))
    row = st.one_of(st.lists(number, min_size=width, max_size=width), number.map(lambda v: [v]*width))
    x = torch.tensor(draw(st.lists(row, min_size=n, max_size=n)), dtype=torch.float64).to(dtype).reshape(*shape, width)
    x[x.abs() < tiny] = 0
    args = dict(axis=axis, reduction=draw(st.sampled_from(('mean', 'sum', 'none'))), label_smoothing=draw(st.sampled_from((0., 0., 0.1, 1.))),
                weight=draw(st.sampled_from((None, [0.5, 30., 2., 0., 1.][:C]))))
    kind = draw(st.sampled_from(('labels', 'labels', 'some ignored', 'all ignored', 'probabilities') + ('multi-hot',)*isinstance(loss, OneVsAllLoss)))
    if kind in ('probabilities', 'multi-hot'):
        y = torch.tensor(draw(st.lists(st.lists(st.sampled_from((0., 0.25, 0.5, 1.)), min_size=C, max_size=C), min_size=n, max_size=n)), dtype=torch.float64).reshape(*shape, C)
        if kind == 'probabilities': y = y/y.sum(-1, keepdim=True).clamp(min=0.25)
    else:
        args['ignore_index'] = draw(st.sampled_from((-100, 0, 255))) if kind != 'labels' else -100
        labels = st.integers(0, C-1) if kind == 'labels' else st.just(args['ignore_index'])
        if kind == 'some ignored': labels = labels | st.integers(0, C-1)
        y = torch.tensor(draw(st.lists(labels, min_size=n, max_size=n)), dtype=torch.long).reshape(shape)
    if axis == 1: x,y = x.movedim(-1, 1),y.movedim(-1, 1) if y.ndim == x.ndim else y
    loss = loss.with_arguments(**args)
    if kind == 'multi-hot': loss.multi_hot = True
    return loss, x, y

@pytest.mark.parametrize('total', (500, pytest.param(10_000, marks=pytest.mark.slow)))
def test_any_batch(loss, total):
    "Types, shapes, sizes, targets and arguments that nobody thought of together; `total` batches for all losses"
    run = [0]
    @seed(zlib.crc32(repr(loss).encode()))
    @settings(max_examples=-(-total//len(all_losses())), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(batches(loss))
    def each(batch): run[0] += 1; check(*batch)
    each()
    assert run[0] >= total//len(all_losses())

def test_inf_and_nan_stay_visible(loss):
    x = torch.zeros(2, loss.n_out or 2)
    x[0,0] = math.nan
    assert loss(x, torch.tensor([0, 1])).isnan()
    if isinstance(loss, (OneVsAllLoss, HingeLoss, BinaryCodeLoss)): return  # these have a limit there
    x[0,0] = math.inf
    assert not loss(x, torch.tensor([0, 1])).isfinite()

def test_derivatives(loss):
    C = loss.n_classes or 3
    x = torch.randn(4, loss.n_out or C, dtype=torch.float64, requires_grad=True)
    labels,t = torch.tensor([0, 2, 1, 1]),torch.rand(4, C, dtype=torch.float64).softmax(-1)
    arguments = dict(),dict(weight=torch.linspace(0.5, 2, C)),dict(label_smoothing=0.1)
    cases = [(loss.with_arguments(**args), y) for args in arguments for y in (labels, t)] + [(loss.with_arguments(ignore_index=1), labels)]
    if isinstance(loss, OneVsAllLoss):
        for args in arguments:
            cases.append((loss.with_arguments(**args), t.gt(0.3).double()))
            cases[-1][0].multi_hot = True
    for other,y in cases:
        assert torch.autograd.gradcheck(lambda x: other(x, y), x)
        assert torch.autograd.gradgradcheck(lambda x: other(x, y), x)

@pytest.mark.parametrize('reduction', ('none', 'mean', 'sum'))
def test_those_that_torch_has(reduction):
    "Cross-entropy is in test_rule.py"
    x,y = torch.randn(16, 5, dtype=torch.float64, requires_grad=True),torch.arange(16) % 5
    hot = F.one_hot(y, 5).double()
    several,t = (torch.rand_like(hot) > 0.5).double(),torch.rand_like(hot)
    binary = lambda y: F.binary_cross_entropy_with_logits(x, y, reduction='none').sum(-1)
    of = lambda items: items if reduction == 'none' else getattr(items, reduction)()
    ours,many = OneVsAllCrossEntropy(reduction=reduction),OneVsAllCrossEntropy(reduction=reduction, multi_hot=True)
    pairs = [(ours(x, y), of(binary(hot))), (ours(x, hot), of(binary(hot))), *((many(x, other), of(binary(other))) for other in (several, t)),
             *((HingeLoss(margin, reduction=reduction)(x, y), F.multi_margin_loss(x, y, margin=margin, reduction=reduction)) for margin in (0.5, 1., 3.))]
    for a,b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(*(torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in (a, b)), rtol=1e-12, atol=1e-12)

def test_compiled_is_eager(loss):
    "Rows of all sizes that are promised, and zeros"
    sizes,generator = torch.tensor([0., 1e-6, 1e-3, 1., 100., 1e4]),torch.Generator().manual_seed(1)
    x = (sizes[:, None, None]*torch.randn(4, loss.n_out or C, generator=generator)).flatten(0, 1)
    y,loss = torch.randint(0, C, (len(x),), generator=generator),loss.with_arguments(reduction='sum')
    torch.compiler.reset()
    def value_and_grad(f): return (value := f(leaf := x.clone().requires_grad_(), y)), *torch.autograd.grad(value, leaf)
    (ours,grads),(value,expected) = value_and_grad(torch.compile(lambda x, y: loss(x, y), fullgraph=True, backend='aot_eager')),value_and_grad(loss)
    torch.testing.assert_close(ours, value)
    grads,expected = (g.unflatten(0, (len(sizes), 4)) for g in (grads, expected))
    largest = expected.abs().amax((1, 2), keepdim=True).clamp(min=1)  # of all rows of a size: rounding makes that of a row that is nearly certain a small difference of large numbers
    torch.testing.assert_close(grads/largest, expected/largest, rtol=1e-4, atol=1e-5)
