"What the tests share: every loss of the package"
import torch
import fastai_losses.all
from fastai_losses.all import *
from fastai_losses.core import loss_examples

torch.set_num_threads(1)

def all_losses(n_classes=10):
    "One of each loss class of the package, found by looking, and a few with arguments that matter"
    return sorted([*loss_examples(n_classes), InverseLoss(0.2), *(GeneralizedCrossEntropy(q) for q in (-1, -0.2, 0, 1)),
        SphericalLoss(probabilities=True), BrierLoss(probabilities=True), LogitNormLoss(1.), HingeLoss(best_other=True),
        WarpedCrossEntropy.example(n_classes, scale=10.)], key=repr)

def pytest_generate_tests(metafunc):
    "Tests that take a `loss` run with each that is made for any number of classes, and with the others where their module says how many it has: `C`"
    C = getattr(metafunc.module, 'C', None)
    if 'loss' in metafunc.fixturenames: metafunc.parametrize('loss', [o for o in all_losses(C or 10) if C or o.n_classes is None], ids=repr)
