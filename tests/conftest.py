"What the tests share: every loss of the package, and a small real data set with a small model"
import inspect,warnings
import pytest,torch
from fastai.data.all import *
from fastai.learner import Learner
from torch import nn
from fastai_losses.core import ClassificationLoss
import fastai_losses.probability

torch.set_num_threads(1)

def all_losses():
    "One of each loss class of the package, found by looking, and a few with arguments that matter"
    modules = [fastai_losses.probability]
    classes = {o for m in modules for o in vars(m).values() if inspect.isclass(o) and issubclass(o, ClassificationLoss)}
    made = [c() for c in classes if 'evidence' in dir(c) and not c.__name__ in ('ClassificationLoss', 'SoftmaxLoss')]
    more = [fastai_losses.probability.InverseLoss(0.2), *(fastai_losses.probability.GeneralizedCrossEntropy(q) for q in (-1, -0.2, 0, 1))]
    return sorted(made + more, key=repr)

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
