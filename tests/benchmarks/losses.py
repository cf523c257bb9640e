"""Forward and backward of each loss beside torch's cross-entropy and fastai's wrapper of it, on the same tensors.

One thread, one process, all contenders interleaved in random order; medians, as multiples of `F.cross_entropy`.
Peak memory is that of one forward and backward in a process of its own.
What the losses of the softmax probability are above 1 at (256, 1000) is no longer work on the outputs but 20 to 80 us of small operations on one number
an item, of which FocalCrossEntropy has the most; at (128, 100000) all of them are below. OneVsAllCrossEntropy needs a logarithm for every output where
cross-entropy needs an exponential. It takes one for 64 of them, and its exponentials as powers of 2, since torch's `exp` and `log1p` can be slow: on an AMD
EPYC with AVX-512 and torch 2.14 `exp` takes longer than all of `log_softmax`, three times as long as `exp2`, and `log1p` ten times as long, until something
such as `pow` has run in the process. There it is at 2.0 to 2.2 at (256, 1000), where `softplus` made it 6 to 7. LogitNormLoss and the scores of
probabilities read the outputs once more, for a norm.
The compiled loss (torch.compile, one graph) runs against the eager one. What a compiled call costs beyond its kernels, some 50 us more than an eager one on
the CPU, counts against it. The row `one product an output` is no loss: its gradient is the outputs times one number a row, the least that a loss of the raw
outputs can do, and what it comes out at when compiled is the compiler's own doing. torch's own `F.cross_entropy` comes out slower at (256, 1000), since its
compiled gradient computes every exponential again and compares every class with the label."""
import random,re,subprocess,sys,time
from pathlib import Path
from statistics import median
import pandas as pd
import torch
from fastai.losses import CrossEntropyLossFlat
from torch.nn import functional as F
from fastai_losses.all import *

shapes = {(64, 37): 3000, (256, 1000): 600, (128, 100_000): 15}  # (items, classes): repetitions

class Product(torch.autograd.Function):
    "The first output of each row; its gradient is said to be all outputs"
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x[:, 0].clone()

    @staticmethod
    def backward(ctx, grad): return ctx.saved_tensors[0]*grad[:, None]

contenders = {'F.cross_entropy': F.cross_entropy, 'fastai CrossEntropyLossFlat': CrossEntropyLossFlat(),
    **{repr(o): o for o in (CrossEntropy(), DotProductLoss(), InverseLoss(), InverseLoss(0.2), GeneralizedCrossEntropy(0.7), GeneralizedCrossEntropy(-0.5), FocalCrossEntropy(), PolyCrossEntropy(),
        SphericalLoss(), SphericalLoss(probabilities=True), BrierLoss(), BrierLoss(probabilities=True), NormRegularizedLoss(), LogitNormLoss(),
        OneVsAllCrossEntropy(), SigmoidDistanceLoss(), HingeLoss(), HingeLoss(best_other=True))}, 'F.multi_margin_loss': F.multi_margin_loss,
    'one product an output': lambda x, y: Product.apply(x).mean()}

def tensors(n, c):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, c, generator=generator).requires_grad_(), torch.randint(0, c, (n,), generator=generator)

def step(loss, x, y):
    start = time.perf_counter()
    loss(x, y).backward()
    end = time.perf_counter()
    x.grad = None
    return end - start

def times(n, c, repetitions):
    "Median seconds of each contender"
    x,y = tensors(n, c)
    taken = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name in random.sample(list(contenders), len(contenders)): taken[name].append(step(contenders[name], x, y))
    return {name: median(t) for name,t in taken.items()}

def compiled(name, n, c, repetitions):
    "Median time of the compiled loss as a multiple of the eager one's; in turn, six steps each, of which the first finds what the other left in the caches and is not counted"
    x,y = tensors(n, c)
    loss = contenders[name]
    torch.compiler.reset()
    taken = {loss: [], torch.compile(lambda x, y: loss(x, y), fullgraph=True): []}
    for _ in range(max(repetitions//5, 8)):
        for f,t in taken.items(): t += [step(f, x, y) for _ in range(6)][1:]
    eager,machine = map(median, taken.values())
    return machine/eager

def peak(name, n, c):
    "MiB by which the resident memory of this process grows at its highest during one step (Linux)"
    x,y = tensors(n, c)
    step(contenders[name], *tensors(256, 300))
    def high_water(): return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])/1024
    Path('/proc/self/clear_refs').write_text('5')  # from here on, the high-water mark counts anew
    before = high_water()
    step(contenders[name], x, y)
    return high_water() - before

def main():
    torch.set_num_threads(1)
    table = {}
    for (n, c),repetitions in shapes.items():
        taken = times(n, c, repetitions)
        torchs = taken['F.cross_entropy']
        table[f'({n}, {c})'] = pd.Series({name: t/torchs for name,t in taken.items()})
        if (n, c) == (64, 37): table['(64, 37), of fastai'] = table['(64, 37)']/table['(64, 37)']['fastai CrossEntropyLossFlat']
        print(f'F.cross_entropy at ({n}, {c}): {torchs*1e6:.0f} us', flush=True)
    for n,c in ((256, 1000), (128, 100_000)):  # fastai's own does not compile in one graph
        table[f'compiled, of eager ({n}, {c})'] = {name: compiled(name, n, c, shapes[n, c]) for name in contenders if not name.startswith('fastai')}
    table['peak MiB (128, 100000)'] = {name: float(subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True).stdout) for name in contenders}
    print(pd.DataFrame(table).to_string(float_format='%.2f'))

if __name__ == '__main__':
    if len(sys.argv) > 1: print(peak(sys.argv[1], 128, 100_000))
    else: main()
