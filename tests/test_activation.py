"`activation` and `decodes`, whatever the axis and the type; that the probabilities are those that the loss asked for is in test_properties.py"
import torch
from fastai_losses.all import *

def test_the_largest_output_is_the_likeliest_class(loss):
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
