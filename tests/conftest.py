"What the tests share: every loss of the package, and a small real data set with a small model"
import inspect
import pytest,torch
from fastai.data.all import *
from fastai.learner import Learner
from torch import nn
import fastai_losses.all
from fastai_losses.all import *

torch.set_num_threads(1)

# What a class cannot be made without, by its name or that of its base: a function of the number of classes
needs = {'ClassVectorLoss': lambda C: dict(vectors=torch.randn(C, 3, generator=torch.Generator().manual_seed(0))),
         'BinaryCodeLoss': lambda C: dict(codes=torch.arange(C)[:, None]//2**torch.arange(C.bit_length() + 1) % 2)}

def example(cls, n_classes=10, **kwargs):
    "A loss of this class; one that wants arguments finds them in `needs`"
    arguments = next((needs[c.__name__] for c in cls.__mro__ if c.__name__ in needs), lambda _: {})
    return cls(**arguments(n_classes), **kwargs)

def concrete(cls):
    "Is it a loss with formulas, not a base class?"
    if not (inspect.isclass(cls) and issubclass(cls, ClassificationLoss) and cls.__module__.startswith('fastai_losses')): return False
    loss = example(cls)
    try: loss(torch.randn(2, loss.n_out or 3), torch.tensor([0, 1]))
    except NotImplementedError: return False
    return True

def all_losses(n_classes=10):
    "One of each loss class of the package, found by looking, and a few with arguments that matter; `n_classes` classes where a loss wants to know"
    classes = {c for c in vars(fastai_losses.all).values() if concrete(c)}
    return sorted([*(example(c, n_classes) for c in classes), InverseLoss(0.2), *(GeneralizedCrossEntropy(q) for q in (-1, -0.2, 0, 1)),
        SphericalLoss(probabilities=True), BrierLoss(probabilities=True), LogitNormLoss(1.), HingeLoss(best_other=True),
        example(WarpedCrossEntropy, n_classes, scale=10.)], key=repr)

def remake(loss, **kwargs):
    "The same loss with other arguments of the base class"
    own = [n for n in inspect.signature(type(loss).__init__).parameters if hasattr(loss, n) and n not in inspect.signature(ClassificationLoss.__init__).parameters]
    return type(loss)(**{n: getattr(loss, n) for n in own}, **kwargs)

def pytest_generate_tests(metafunc):
    "Tests that take a `loss` run with each that is made for any number of classes, and with the others where their module says how many it has: `C`"
    C = getattr(metafunc.module, 'C', None)
    if 'loss' in metafunc.fixturenames: metafunc.parametrize('loss', [o for o in all_losses(C or 10) if C or o.n_classes is None], ids=repr)

@pytest.fixture(scope='session')
def digits():
    "scikit-learn's digits as vectors of 64 numbers, 10 classes"
    from sklearn.datasets import load_digits
    data = load_digits(return_X_y=True)
    block = DataBlock(blocks=(TransformBlock, CategoryBlock), get_x=[ItemGetter(0)], get_y=ItemGetter(1), splitter=RandomSplitter(seed=0))
    return block.dataloaders([(tensor(x).float()/16, int(y)) for x,y in zip(*data)], bs=64, num_workers=0)

@pytest.fixture
def learner(digits):
    "A function that makes a Learner with a loss: a linear model of the digits"
    def make(loss, **kwargs):
        set_seed(0, True)
        return Learner(digits, nn.Linear(64, loss.n_out or 10), loss_func=loss, **kwargs)
    return make
