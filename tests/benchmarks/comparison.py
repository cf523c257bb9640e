"What a comparison costs beside the same fine_tune calls written by hand, with and without images in memory, and whether its memory grows with the number of runs"
import random,resource,statistics,sys,tempfile,time
from pathlib import Path
import numpy as np
import torch
from fastai.vision.all import *
from fastai_losses.all import *

torch.set_num_threads(1)

def photos(folder, n=240, height=376, width=504):
    "DataLoaders of JPEG files about as large as those of Oxford-IIIT Pets: noise with some structure, which takes as long to decode as a photo"
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = np.kron(rng.integers(0, 255, (height//8, width//8, 3), dtype=np.uint8), np.ones((8, 8, 1), dtype=np.uint8))
        PILImage.create(pixels).save(folder/f'{"ab"[i%2]}_{i}.jpg', quality=90)
    block = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=lambda p: p.name[0], splitter=RandomSplitter(seed=1), item_tfms=Resize(64), batch_tfms=aug_transforms())
    return block.dataloaders(folder, bs=32, num_workers=0)

def by_hand(dls, losses):
    "What one would write without this package's comparison"
    for loss in losses.values():
        set_seed(42, True)
        learn = vision_learner(dls, resnet18, loss_func=loss, metrics=decoded_error_rate(loss), pretrained=False)
        set_seed(42, True)
        for dl in dls.loaders: dl.rng = random.Random(42)
        with learn.no_bar(), learn.no_logging(): learn.fine_tune(1)

def compared(memory):
    def run(dls, losses):
        with tempfile.TemporaryDirectory() as d: LossComparison(dls, losses=losses, pretrained=False, memory=memory, path=d).fine_tune(1, progress=False)
    return run

def timed(f, *args):
    start = time.process_time()
    f(*args)
    return time.process_time() - start

def overhead(rounds=8):
    "Processor seconds of the three, in turn, in one process"
    ways = {'by hand': by_hand, 'comparison': compared(0), 'comparison, images in memory': compared(1.)}
    losses = {'cross-entropy': CrossEntropy(), 'dot product': DotProductLoss(), 'Brier': BrierLoss()}  # the data are looked at once for a comparison
    with tempfile.TemporaryDirectory() as d:
        dls = photos(Path(d))
        for f in ways.values(): f(dls, losses)
        seconds = {name: [] for name in ways}
        for i in range(rounds):
            for name in (list(ways) if i%2 else list(ways)[::-1]): seconds[name].append(timed(ways[name], dls, losses))
    base = seconds['by hand']
    for name,s in seconds.items():
        paired,least = statistics.median(a/b for a,b in zip(s, base)),min(s)/min(base)
        print(f'{name:30} {statistics.median(s):6.2f} s   {100*(paired - 1):+5.1f} % (median of {rounds} paired rounds)   {100*(least - 1):+5.1f} % (least of all rounds)')

def growth(runs=30):
    "Peak memory after each run"
    peaks,dls = [],digits_dataloaders(size=16, bs=128)
    with tempfile.TemporaryDirectory() as d:
        peak = lambda name, seed: peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024) or []
        LossComparison(dls, losses=[CrossEntropy()], learner=small_learner, seeds=runs, path=d, cbs=peak).fine_tune(1, progress=False)
    print(f'peak memory before run 2, 10, 20, {runs}: ' + ', '.join(f'{peaks[i-1]:.0f}' for i in (2, 10, 20, runs)) + ' MiB')

if __name__ == '__main__':
    for f in (growth, overhead):
        if len(sys.argv) < 2 or f.__name__ in sys.argv[1:]: f()
