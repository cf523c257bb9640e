"""Many classes: head and loss of Warped cross-entropy and of binary codes beside a linear head with torch's cross-entropy.

128 items, 512 features, one thread, contenders in alternation; medians. The memory of a step is by how much the resident memory of a fresh
process grows at its highest during one forward and backward, all tables being there already (Linux; below 0.1 MiB the ratio counts as 0.1);
that of the tables is counted from the tensors. Decoding goes the way of fastai's `predict` and `get_preds`: `activation`, then `decodes`."""
import random,subprocess,sys,time
from statistics import median
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from fastai_losses.warped import *
from memory import growth

N,features,n,bits = 128,512,64,64

def decoding(loss): return lambda outputs: loss.decodes(loss.activation(outputs))
def linear(C): return nn.Linear(features, C),F.cross_entropy,lambda outputs: outputs.argmax(-1)
def warped(C, **kwargs):
    loss = WarpedCrossEntropy(torch.randn(C, n), **kwargs)
    return nn.Linear(features, n),loss,decoding(loss)
def binary(C):
    loss = BinaryCodeLoss(torch.randint(0, 2, (C, bits)))
    return nn.Linear(features, bits),loss,decoding(loss)
contenders = {'linear head, F.cross_entropy': linear, f'Warped, {n} dimensions': warped, f'Warped, {n} dimensions, scale 10': lambda C: warped(C, scale=10), f'BinaryCodeLoss, {bits} bits': binary}

def batch(C): return torch.randn(N, features),torch.randint(0, C, (N,))

def step(head, loss, x, y):
    for p in head.parameters(): p.grad = None
    start = time.perf_counter()
    loss(head(x), y).backward()
    return time.perf_counter() - start

@torch.no_grad()
def decode(head, decodes, x):
    start = time.perf_counter()
    decodes(head(x))
    return time.perf_counter() - start

def peak(name, C):
    "MiB by which the resident memory of this process grows during a decoding, and during a training step"
    head,loss,decodes = contenders[name](C)
    x,y = batch(C)
    step(nn.Linear(features, 8), WarpedCrossEntropy(torch.randn(8, 8)), x, y % 8)
    return growth(lambda: decode(head, decodes, x)), growth(lambda: step(head, loss, x, y))

def costs(C, repetitions=7):
    "Table of what a step and a decoding with `C` classes take"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made,(x,y) = {name: make(C) for name,make in contenders.items()},batch(C)
    steps,decodings = ({name: [] for name in made} for _ in range(2))
    for _ in range(repetitions):
        for name in random.sample(list(made), len(made)):
            head,loss,decodes = made[name]
            quick = name.startswith('Bin') or name == f'Warped, {n} dimensions'
            for _ in range(20 if quick else 1): steps[name].append(step(head, loss, x, y))
            decodings[name].append(decode(head, decodes, x))
    memory = {name: eval(subprocess.run([sys.executable, '-W', 'ignore', __file__, name, str(C)], capture_output=True, text=True, check=True).stdout) for name in made}
    def held(name):
        head,loss,_ = made[name]
        return sum(p.nbytes for p in head.parameters())/2**20, sum(b.nbytes for b in loss.buffers())/2**20 if isinstance(loss, nn.Module) else 0
    return pd.DataFrame({name: {'step (ms)': 1e3*median(steps[name]), 'step memory (MiB)': memory[name][1], 'decode (ms)': 1e3*median(decodings[name]),
        'decode memory (MiB)': memory[name][0], 'weights (MiB)': held(name)[0], 'vectors (MiB)': held(name)[1]} for name in made}).T

def main(C=100_000):
    table = costs(C)
    first = table.iloc[0]
    for column in ('step (ms)', 'step memory (MiB)', 'decode (ms)'): table[f'{column.split(" (")[0]}: 1/'] = first[column]/table[column].clip(lower=0.1 if 'MiB' in column else 0)
    print(f'{N} items, {features} features, {C} classes\n{table.to_string(float_format="%.2f")}')

if __name__ == '__main__':
    if len(sys.argv) > 1:
        torch.set_num_threads(1)
        print(peak(sys.argv[1], int(sys.argv[2])))
    else: main()
