"Values and gradients are finite and right, for large outputs and in half precision"
import math
import pytest,torch
from conftest import remake

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
    p = x.detach().float().softmax(-1)[range(n), y]
    held = remake(loss, reduction='none')(x, y)
    pull = torch.autograd.grad(held.sum(), x)[0][range(n), y]
    assert (pull <= 0).all()                    # never away from the right class
    if type(loss).__name__ == 'InverseLoss': assert (pull[p < 0.5] < 0).all()  # and never silent about a mistake

def test_inf_and_nan_stay_visible(loss):
    for bad in (math.inf, math.nan):
        assert not loss(torch.tensor([[bad, 0.], [0., 1.]]), torch.tensor([0, 1])).isfinite()

def test_derivatives(loss):
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    for y in (torch.tensor([0, 2, 1, 1]), torch.rand(4, 3, dtype=torch.float64).softmax(-1)):
        assert torch.autograd.gradcheck(lambda x: loss(x, y), x)
        assert torch.autograd.gradgradcheck(lambda x: loss(x, y), x)

@pytest.mark.slow
def test_compiles_without_a_graph_break(loss):
    x,y = torch.randn(8, 5),torch.randint(0, 5, (8,))
    torch.testing.assert_close(torch.compile(loss, fullgraph=True)(x, y), loss(x, y))
