"""What a loss costs: a training step of a linear head and each loss, beside `nn.Linear` and `F.cross_entropy`, and the loss alone beside fastai's.

One thread, one process; all contenders take turns in random order, and each figure is a median, as a multiple of the reference.
A step is forward and backward. Its peak memory is by how much the resident memory of a fresh process grows at its highest (Linux)."""
import inspect,random,subprocess,sys,time
from statistics import median
import pandas as pd
import torch
from fastai.losses import CrossEntropyLossFlat
from torch import nn
from torch.nn import functional as F
from fastai_losses.all import *
from memory import growth

reference,features = 'F.cross_entropy',512
contenders = {reference: F.cross_entropy, 'fastai CrossEntropyLossFlat': CrossEntropyLossFlat(),
    **{repr(o): o for o in (CrossEntropy(), DotProductLoss(), InverseLoss(), InverseLoss(0.2), GeneralizedCrossEntropy(0.7), GeneralizedCrossEntropy(-0.5),
        FocalCrossEntropy(), PolyCrossEntropy(), SphericalLoss(), BrierLoss(), NormRegularizedLoss(), SphericalLoss(probabilities=True),
        BrierLoss(probabilities=True), NormRegularizedLoss(probabilities=True), LogitNormLoss(), OneVsAllCrossEntropy(), SigmoidDistanceLoss(),
        HingeLoss(), HingeLoss(best_other=True), Squentropy(), BrierLoss(factor=15, target=30), AsymmetricLoss(), SymmetricCrossEntropy(),
        ActivePassiveLoss(), CrossEntropy() + SphericalLoss())}, 'LogitAdjustedLoss': LogitAdjustedLoss.example, 'LDAMLoss': LDAMLoss.example, 'F.multi_margin_loss': F.multi_margin_loss}

def made(contender, n_classes):
    "A loss; some have to know the number of classes"
    return contender(n_classes) if inspect.ismethod(contender) else contender

def batch(n, width, n_classes):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, width, generator=generator), torch.randint(0, n_classes, (n,), generator=generator)

def in_turn(steps, rounds):
    "Median seconds of each step, as multiples of those of the reference"
    taken = {name: [] for name in steps}
    for _ in range(rounds):
        for name in random.sample(list(steps), len(steps)):
            start = time.perf_counter()
            steps[name]()
            taken[name].append(time.perf_counter() - start)
    return {name: median(t) for name,t in taken.items()}

def with_head(n, n_classes, loss):
    "A function that takes one step of a linear head and a loss"
    torch.manual_seed(0)
    loss = made(loss, n_classes)
    head,(x,y) = nn.Linear(features, n_classes),batch(n, features, n_classes)
    def step():
        head.zero_grad()
        loss(head(x), y).backward()
    return step

def alone(n, n_classes, loss):
    "A function that takes forward and backward of a loss"
    x,y = batch(n, n_classes, n_classes)
    loss = made(loss, n_classes)
    x.requires_grad_()
    def step():
        x.grad = None
        loss(x, y).backward()
    return step

def many_at_once(make, n, n_classes, rounds, size=4):
    "Medians of all contenders, a few beside the reference at a time where their heads are large"
    names = [name for name in contenders if name != reference]
    ratios = {reference: 1.}
    for i in range(0, len(names), size):
        steps = {name: make(n, n_classes, contenders[name]) for name in (reference, *names[i:i+size])}
        for step in steps.values(): step()
        taken = in_turn(steps, rounds)
        ratios.update({name: t/taken[reference] for name,t in taken.items()})
    return ratios

def peak(name, n, n_classes):
    "MiB by which the resident memory of this process grows at its highest during one step (Linux)"
    step = with_head(n, n_classes, contenders[name])
    with_head(8, 300, contenders[name])()
    return growth(step)

def peaks(n, n_classes):
    run = lambda name: float(subprocess.run([sys.executable, '-W', 'ignore', __file__, name], capture_output=True, text=True, check=True).stdout)
    mib = {name: run(name) for name in contenders}
    return {name: m/mib[reference] for name,m in mib.items()}

def main():
    table = {'step (256, 512 -> 1000)': many_at_once(with_head, 256, 1000, 60, len(contenders)),
             'step (128, 512 -> 100000)': many_at_once(with_head, 128, 100_000, 9),
             'its peak memory': peaks(128, 100_000)}
    small = many_at_once(alone, 64, 37, 2000, len(contenders))
    table["alone (64, 37), of fastai's"] = {name: r/small['fastai CrossEntropyLossFlat'] for name,r in small.items()}
    print(pd.DataFrame(table).to_string(float_format='%.2f'))

if __name__ == '__main__':
    torch.set_num_threads(1)
    if len(sys.argv) > 1: print(peak(sys.argv[1], 128, 100_000))
    else: main()
