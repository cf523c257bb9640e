"`activation` gives the probabilities that a loss asked for: minimise the expected loss for known ones, and compare"
import pytest,torch
from fastai_losses.all import *

def only_ranks(loss): return isinstance(loss, (DotProductLoss, NormRegularizedLoss, SigmoidDistanceLoss, HingeLoss)) or getattr(loss, 'q', 0) == 1

@pytest.mark.parametrize('p', ([0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [0.05, 0.15, 0.8]), ids=str)
def test_activation_tells_the_truth(loss, p):
    if only_ranks(loss): pytest.skip('its outputs rank and are no probabilities')
    if isinstance(loss, LogitNormLoss) and loss.temperature == 1: pytest.skip('cannot say these: see the notebook')
    p = torch.tensor([p], dtype=torch.float64)
    x = (p*2 + torch.tensor([[0.1, 0.2, -0.1]])).requires_grad_()
    opt = torch.optim.LBFGS([x], max_iter=1000, line_search_fn='strong_wolfe', tolerance_grad=1e-11, tolerance_change=1e-15)
    def closure(): opt.zero_grad(); value = loss(x, p); value.backward(); return value
    opt.step(closure)
    torch.testing.assert_close(loss.activation(x.detach()), p, atol=1e-3, rtol=0)

def test_the_others_put_the_likeliest_class_first(loss):
    x = torch.randn(100, 5)
    if not isinstance(loss, OneVsAllLoss): torch.testing.assert_close(loss.activation(x).sum(-1), torch.ones(100))
    assert (loss.decodes(loss.activation(x)) == x.argmax(-1)).all()

def test_activation_along_another_axis(loss):
    x = torch.randn(2, 5, 3, 4)
    loss.axis = 1
    along = loss.activation(x)
    loss.axis = -1
    torch.testing.assert_close(along.movedim(1, -1), loss.activation(x.movedim(1, -1)))

def test_activation_in_half_precision(loss):
    x = torch.full((1, 37), 9000., dtype=torch.float16)
    x[0, 5] = 1e4
    probs = loss.activation(x)
    assert probs.dtype == torch.float32 and probs.isfinite().all()
    if not isinstance(loss, OneVsAllLoss):
        torch.testing.assert_close(probs.sum(-1), torch.ones(1))
        assert loss.decodes(probs) == 5
