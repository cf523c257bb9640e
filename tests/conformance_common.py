"What the columns of the conformance table share: how one is written, and what it is tried on"
from contextlib import contextmanager
from functools import cache
import torch
from torch import Tensor

C = 10

@cache
def example():
    "Outputs for 16 items, their labels, and class probabilities: the same on every machine"
    g = torch.Generator().manual_seed(0)
    outputs = torch.randn(16, C, generator=g)
    labels = torch.randint(0, C, (16,), generator=g)
    return outputs,labels,torch.rand(16, C, generator=g).mul(5).softmax(-1)

weight = torch.linspace(0.2, 2, C)

def gradient(loss, x, y):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(x, y).sum(), x)[0]

columns = {}
def column(title):
    "Make a function of a row a column of the table; it raises where the column does not hold"
    def add(f):
        f.title,columns[title] = title,f
        return f
    return add

class Skip(Exception): "This machine cannot try it"
class Exempt(Exception): "The loss's formula does not allow it"

def plain(x): return x.detach().as_subclass(Tensor)

def close(got, expected, what='items', rtol=1e-4, atol=1e-5):
    "An AssertionError that can be shown in the table, unless the values are those expected"
    got,expected = (plain(torch.as_tensor(o)) for o in (got, expected))
    same = got.shape == expected.shape
    assert same, f'{what} of shape {tuple(got.shape)}, not {tuple(expected.shape)}'
    if torch.allclose(got.float(), expected.float(), rtol=rtol, atol=atol): return
    assert not got.ndim, f'wrong {what}'
    raise AssertionError(f'{got:.2f}, by definition {expected:.2f}')

@contextmanager
def else_say(reason):
    "Give the table words in place of whatever error comes up inside"
    try: yield
    except AssertionError: raise
    except Exception as e: raise AssertionError(reason) from e
