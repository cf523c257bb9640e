"What the tests share: every loss of the package, and a small real data set with a small model"
import inspect
import pytest,torch
from fastai.data.all import *
from fastai.learner import Learner
from torch import nn
import fastai_losses.all
from fastai_losses.all import *

torch.set_num_threads(1)

def concrete(cls):
    "Is it a loss with formulas, not a base class?"
    if not (inspect.isclass(cls) and issubclass(cls, ClassificationLoss) and cls.__module__.startswith('fastai_losses')): return False
    try: cls()(torch.randn(2, 3), torch.tensor([0, 1]))
    except NotImplementedError: return False
    return True

def all_losses():
    "One of each loss class of the package, found by looking, and a few with arguments that matter"
    classes = {c for c in vars(fastai_losses.all).values() if concrete(c)}
    return sorted([*(c() for c in classes), InverseLoss(0.2), *(GeneralizedCrossEntropy(q) for q in (-1, -0.2, 0, 1)),
        SphericalLoss(probabilities=True), BrierLoss(probabilities=True), LogitNormLoss(1.), HingeLoss(best_other=True)], key=repr)

def remake(loss, **kwargs):
    "The same loss with other arguments of the base class"
    own = [n for n in inspect.signature(type(loss).__init__).parameters if n in vars(loss) and n not in inspect.signature(ClassificationLoss.__init__).parameters]
    return type(loss)(**{n: getattr(loss, n) for n in own}, **kwargs)

def pytest_generate_tests(metafunc):
    if 'loss' in metafunc.fixturenames: metafunc.parametrize('loss', all_losses(), ids=repr)

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
        return Learner(digits, nn.Linear(64, 10), loss_func=loss, **kwargs)
    return make
