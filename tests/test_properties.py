"Each loss's `range`, `proper` and `largest_gradient` against a search over outputs"
import math
import pytest,torch
from conftest import all_losses
from fastai_losses.all import *

more = [FocalCrossEntropy(0), FocalCrossEntropy(0.5), FocalCrossEntropy(50), PolyCrossEntropy(-1), PolyCrossEntropy(5), InverseLoss(3.), NormRegularizedLoss(probabilities=True),
        *(GeneralizedCrossEntropy(q, truncate=k) for q,k in ((0.7, 0.1), (0.7, 0.5), (0, 0.1), (-0.5, 0.2))), HingeLoss(3.),
        BrierLoss(factor=15, target=30), AsymmetricLoss(False, 1., 2., 0.), SymmetricCrossEntropy(6., 0.1), ActivePassiveLoss(10., 0.1), ActivePassiveLoss(gamma=0.5),
        LDAMLoss.example(10, scale=1., max_margin=3.),
        *(WarpedCrossEntropy.example(10, scale=30., margin=m, angular=a) for m,a in ((0.35, False), (0.5, True))),
        *(kind(multi_hot=True) for kind in (OneVsAllCrossEntropy, SigmoidDistanceLoss))]
sizes = 2,5,40  # numbers of classes
every = pytest.mark.parametrize('item', [*all_losses(), *more], ids=repr)

def starts(loss, C):
    "Outputs of many sizes at which to begin, and a target for each"
    generator,width,n = torch.Generator().manual_seed(C),loss.n_out or C,300
    x = torch.randn(n, width, generator=generator, dtype=torch.float64)*torch.logspace(-2, 4, n, dtype=torch.float64)[:, None]
    x[::3] *= torch.tensor([-1.]+[0.]*(width-1), dtype=torch.float64)  # one output against all others
    x[1::3] = x[1::3].where(torch.arange(width) < 2, -1e4)              # two outputs, and the others out of the way
    y = torch.randint(0, C, (n,), generator=generator)
    y[:n//2] = 0
    if getattr(loss, 'multi_hot', False): y = torch.rand(n, C, generator=generator, dtype=torch.float64).round()
    return x, y

def losses_and_gradients(loss, x, y):
    "Loss of each item, and the largest derivative of each, as functions of `x`"
    items = loss.with_arguments(reduction='none')(x, y)
    grad, = torch.autograd.grad(items.sum(), x, create_graph=True)
    return items, grad.abs().amax(-1)

def climb(loss, x, y, what, steps=40):
    "All values met while each row climbs towards a larger `what(items, pulls)`, in steps in proportion to the size of its outputs"
    met = []
    for step in range(steps):
        x = x.detach().requires_grad_()
        items,pulls = losses_and_gradients(loss, x, y)
        met.append((items.detach(), pulls.detach(), x.detach()))
        goal = what(items, pulls).sum()
        if not goal.requires_grad: break
        up = torch.autograd.grad(goal, x, allow_unused=True)[0]
        if up is None: break
        up = up.nan_to_num(posinf=0, neginf=0)
        up = up/up.abs().amax(-1, keepdim=True).clamp(min=1e-300)
        x = x + 0.3*0.95**step*x.detach().abs().amax(-1, keepdim=True).clamp(0.01, 1e4)*up
    return met

def search(loss, C):
    "Least and largest loss and largest derivative that turn up"
    x,y = starts(loss, C)
    met = [m for what in (lambda i, p: i, lambda i, p: -i, lambda i, p: p) for m in climb(loss, x, y, what)]
    items,pulls = (torch.cat([m[k] for m in met]) for k in (0, 1))
    return items.min().item(), items.max().item(), pulls.max().item()

@every
def test_range_and_largest_gradient(item):
    "Never outside, for any number of classes; and reached, for some number of them"
    found = torch.tensor([search(item, C) for C in ((item.n_classes,) if item.n_classes else sizes)], dtype=torch.float64)
    (low,high),most = item.range,item.largest_gradient
    rounding = 1e-9*min(found[:, 1].max().item(), 1e9) + (1e-7 if isinstance(item, ClassVectorLoss) else 0)  # class vectors are fp32
    assert found[:, 0].min() >= low - rounding and found[:, 1].max() <= high + rounding
    assert found[:, 2].max() <= most*(1 + 1e-6)
    assert found[:, 0].min() <= low + 0.02
    if most < math.inf: assert found[:, 2].max() >= 0.97*most
    else: assert found[:, 2].max() >= 99
    if isinstance(item, WarpedCrossEntropy): assert found[:, 1].max() >= 0.85*high  # how near depends on the vectors
    elif high < math.inf: assert found[:, 1].max() >= 0.98*high
    elif isinstance(item, LogitNormLoss):  # grows with the number of classes, as their logarithm
        one = lambda C: item(-torch.eye(1, C), torch.tensor([0]))
        torch.testing.assert_close(one(4_000_000) - one(1_000_000), torch.tensor(4.).log(), atol=0.01, rtol=0)
        assert all(row[1] <= 2**0.5/item.temperature + math.log(C) for row,C in zip(found, sizes))
    else: assert found[:, 1].max() >= 9000

def minimiser(loss, p, start):
    "Outputs with the least expected loss when labels are drawn from `p`"
    x = start.clone().requires_grad_()
    opt = torch.optim.LBFGS([x], max_iter=1000, line_search_fn='strong_wolfe', tolerance_grad=1e-11, tolerance_change=1e-15)
    def closure(): opt.zero_grad(); value = loss(x, p); value.backward(); return value
    opt.step(closure)
    return x.detach()

truths = [0.6, 0.3, 0.1],[0.4, 0.35, 0.25],[0.05, 0.15, 0.8]

@every
def test_proper(item):
    "`activation` gives the true probabilities where the expected loss is least; somewhere it does not, if the loss says that it is not proper"
    if item.n_classes: pytest.skip('made for another number of classes')
    if isinstance(item, LossSum) and not item.proper: pytest.skip('a sum promises nothing')
    far = []
    for p in torch.tensor(truths, dtype=torch.float64)[:, None]:
        if isinstance(item, LogitNormLoss) and item.temperature > 0.5: p = item.activation(p.log()/2)  # it cannot say the others: see the notebook
        found = [minimiser(item, p, start) for start in (p*2 + torch.tensor([0.1, 0.2, -0.1]), torch.tensor([[0.3, -0.5, 0.4]], dtype=torch.float64))]
        far.append((item.activation(min(found, key=lambda x: item(x, p))) - p).abs().max().item())
    assert max(far) < 1e-3 if item.proper else max(far) > 0.05, far
