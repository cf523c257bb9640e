"Values and gradients are finite and right, for large outputs and in half precision"
import math
import pytest,torch
from conftest import remake
from fastai_losses.all import *

def reference(loss, x, y):
    "The loss of each item in float64"
    return remake(loss, reduction='none')(x.double(), y)

@pytest.mark.parametrize('dtype', (torch.float32, torch.float16, torch.bfloat16), ids=str)
@pytest.mark.parametrize('size', (1e-30, 1., 30., 300., 1e4))
@pytest.mark.parametrize('n', (7, 12_000))  # small outputs, and large ones that take the faster path on the CPU
def test_extremes(loss, dtype, size, n):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(n, 6, generator=generator)*size).clamp(-1e4, 1e4).to(dtype).requires_grad_()
    y = torch.randint(0, 6, (n,), generator=generator)
    expected = reference(loss, x.detach(), y)
    top = loss.largest(torch.float32)
    for reduction in ('none', 'mean', 'sum'):
        value = remake(loss, reduction=reduction)(x, y)
        grad, = torch.autograd.grad(value.sum(), x)
        assert value.dtype == torch.float32 and grad.dtype == dtype
        assert value.isfinite().all() and grad.isfinite().all()
        if reduction == 'none':
            fits = expected < top/2
            torch.testing.assert_close(value[fits].double(), expected[fits], rtol=max(2e-6, min(size, 300)*6e-7), atol=1e-6)  # exp(h) multiplies the rounding of h by h
            assert (value[~fits] > top/4).all()

@pytest.mark.parametrize('size', (30., 300., 1e4))
def test_saturated_gradients_keep_their_direction(loss, size):
    if not hasattr(loss, 'of_surprise') or isinstance(loss, LogitNormLoss): pytest.skip('not a function of the softmax probability')
    x,y = (torch.randn(200, 6, generator=torch.Generator().manual_seed(0))*size).clamp(-1e4, 1e4).requires_grad_(),torch.arange(200) % 6
    grad, = torch.autograd.grad(remake(loss, reduction='sum')(x, y), x)
    right = torch.zeros(200, 6, dtype=torch.bool).scatter(1, y[:, None], True)
    assert (grad[right] <= 0).all() and (grad[~right] >= 0).all()
    if isinstance(loss, InverseLoss): assert (grad[right][x.detach().softmax(-1)[right] < 0.5] < 0).all()  # never silent about a mistake

def test_inf_and_nan_stay_visible(loss):
    assert loss(torch.tensor([[math.nan, 0.], [0., 1.]]), torch.tensor([0, 1])).isnan()
    if isinstance(loss, (OneVsAllLoss, HingeLoss)): return  # these have a limit there
    assert not loss(torch.tensor([[math.inf, 0.], [0., 1.]]), torch.tensor([0, 1])).isfinite()

def test_derivatives(loss):
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    for y in (torch.tensor([0, 2, 1, 1]), torch.rand(4, 3, dtype=torch.float64).softmax(-1)):
        assert torch.autograd.gradcheck(lambda x: loss(x, y), x)
        assert torch.autograd.gradgradcheck(lambda x: loss(x, y), x)
