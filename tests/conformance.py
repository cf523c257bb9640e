"""What fastai and PyTorch do with a loss, asked of every loss of this package, of fastai's own three and of two of torch's

A column is one job, and looks at the values that come out of it. Here are those of fastai, in conformance_torch.py those of PyTorch.
`python tests/conformance.py` writes the outcomes to nbs/conformance.csv, which nbs/10g_conformance.ipynb shows; test_conformance.py compares
that record with what it just saw."""
import csv,random,re,subprocess,sys
from functools import cache,cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
import matplotlib
import torch
from fastai.vision.all import *
from fastai.tabular.all import TabularDataLoaders,TabularModel
from fastai.callback.training import GradientAccumulation
from torch.nn import functional as F
from torch import nn
from conftest import all_losses
from fastai_losses.all import *
from two_processes import distributed_dl
from conformance_common import C,Exempt,Skip,close,column,columns,example,plain,weight

record = Path(__file__).parent.parent/'nbs'/'conformance.csv'
folder = TemporaryDirectory()

def by_definition(penalties, y, weight=None, ignore_index=-100, smoothing=0., reduction='mean'):
    "What torch.nn.CrossEntropyLoss does with its (M, C) penalties, whatever these are: the (M,) labels or (M, C) probabilities `y` choose among them"
    M,C = penalties.shape
    w,soft = torch.ones(C) if weight is None else weight,y.is_floating_point()
    kept = torch.ones(M, dtype=torch.bool) if soft else y != ignore_index
    t = y if soft else F.one_hot(y.where(kept, 0), C)
    items = ((penalties*w*((1-smoothing)*t + smoothing/C)).sum(-1)).where(kept, 0)
    if reduction == 'mean': return items.sum()/(M if soft else w[y[kept]].sum())
    return items.sum() if reduction == 'sum' else items

# The rows

class Row:
    "A loss under test: how to make it with a keyword, and what it says that it costs"
    def __init__(self, name, make, penalties, smoothing=0., soft={}):
        self.name,self.make,self.penalties = name,make,penalties       # `penalties`: (M, width) outputs -> (M, C)
        self.smoothing,self.soft,self.outcomes = smoothing,soft,{}     # what it smooths unasked; the keywords that soft targets take
    def __repr__(self): return self.name

    @cached_property
    def loss(self): return self.make()
    @property
    def width(self): return getattr(self.loss, 'n_out', None) or C
    def expected(self, x, y, axis=-1, **kwargs):
        "The definition's loss of raw outputs"
        x = x.detach().movedim(axis, -1)
        y = y.movedim(axis, -1).reshape(-1, C) if y.is_floating_point() else y.reshape(-1)
        items = by_definition(self.penalties(x.reshape(-1, self.width)), y, **{'smoothing': self.smoothing, **kwargs})
        return items.view(x.shape[:-1]) if items.ndim else items

    def learner(self, loss=None, dls=None, model=None, metrics=None, seed=0, **kwargs):
        set_seed(seed, True)
        loss,dls = loss or self.make(),dls or digits()
        for dl in dls.loaders: dl.rng = random.Random(seed)  # it carries over from the last learner otherwise
        learn = Learner(dls, model or nn.Sequential(nn.Flatten(), nn.Linear(64, self.width)), loss_func=loss, path=folder.name,
            metrics=decoded_error_rate(loss) if metrics is None else metrics, **kwargs)
        learn.remove_cb(ProgressCallback)
        learn.logger = noop
        return learn

    @cached_property
    def trained(self):
        learn = self.learner()
        learn.fit_one_cycle(4, 1e-1)
        learn.epochs = list(learn.recorder.values)  # get_preds adds to it
        return learn
    @cached_property
    def raw(self): return outputs(self.trained.model, images())
    @cached_property
    def decoded(self): return self.chosen(self.raw.double())
    def chosen(self, raw):
        "The class that costs least; where a loss asks more of rare classes in training, that with the largest output"
        if isinstance(self.loss, (LogitAdjustedLoss, LDAMLoss)): return raw.argmax(-1)
        return self.penalties(raw).argmin(-1)
    @cached_property
    def losses(self): return self.expected(self.raw, labels(), reduction='none')

    def run(self, name):
        "None where the column `name` holds, else what was raised"
        if name not in self.outcomes:
            try: self.outcomes[name] = columns[name](self)
            except Exception as e: self.outcomes[name] = e
        return self.outcomes[name]
    def cell(self, name):
        "What the record says: pass, or the reason why not"
        e = self.run(name)
        if e is None: return f'pass with {e_g(self.soft)}' if name == soft_targets.title and self.soft else 'pass'
        if isinstance(e, (AssertionError, Exempt)): return str(e)
        keyword = re.search(r"unexpected keyword argument '(\w+)'", str(e))
        return f'no {keyword[1]}' if keyword else f'raises {type(e).__name__}'

def e_g(kwargs): return ', '.join(f'{k}={v}' for k,v in kwargs.items())

def surprises(x): return -x.log_softmax(-1)
def focal(x): return (1 - x.softmax(-1))**2*surprises(x)
def smoothing_keyword(label_smoothing=0.1, **kwargs): return LabelSmoothingCrossEntropyFlat(eps=label_smoothing, **kwargs)

@cache
def rows():
    def made(loss, **kwargs):
        if isinstance(loss, LossSum): return LossSum(*((f, made(o, **kwargs)) for f,o in loss.terms))
        return type(loss)(**{**loss.arguments, **kwargs})
    def ours(loss):
        def make(**kwargs): return made(loss, **kwargs)
        return Row(repr(loss), make, lambda x: loss.penalty(loss.evidence(x)))
    flat = dict(flatten=False)
    return [*map(ours, all_losses()),
        Row('CrossEntropyLossFlat', CrossEntropyLossFlat, surprises, soft=flat),
        Row('FocalLossFlat', FocalLossFlat, focal, soft=flat),
        Row('LabelSmoothingCrossEntropyFlat', smoothing_keyword, surprises, smoothing=0.1, soft=flat),
        Row('nn.CrossEntropyLoss', nn.CrossEntropyLoss, surprises), Row('nn.MultiMarginLoss', nn.MultiMarginLoss, None)]

def is_ours(row): return isinstance(row.loss, ClassificationLoss)

# The data, shared by all: small pictures of digits, with 10 classes; and for segmentation, the brightness of every pixel in 10 levels

@cache
def items():
    from sklearn.datasets import load_digits
    data = load_digits()
    return [((pixels*15).astype('uint8'), int(y), (pixels/17*C).astype('uint8')) for pixels,y in zip(data.images[:448], data.target)]

def loaders(items, target, i, **kwargs):
    block = DataBlock((ImageBlock(PILImageBW), target), get_x=ItemGetter(0), get_y=ItemGetter(i), splitter=EndSplitter(64/len(items)))
    return block.dataloaders(items, num_workers=0, **kwargs)
@cache
def digits(): return loaders(items(), CategoryBlock, 1, bs=64)
@cache
def masks(): return loaders(items()[320:], MaskBlock(codes=range(C)), 2, bs=64)

@cache
def tables():
    "The pixels as columns of a table; its labels come as (N, 1)"
    pixels,digit,_ = zip(*items())
    df = pd.DataFrame([p.ravel()/15 for p in pixels]).add_prefix('pixel')
    return TabularDataLoaders.from_df(df.assign(digit=digit), y_names='digit', y_block=CategoryBlock(), cont_names=list(df), cat_names=[], valid_idx=range(len(df)-64, len(df)), bs=64)

@cache
def batch(): return tuple(map(plain, digits().valid.one_batch()))
def images(): return batch()[0]
def labels(): return batch()[1]

def outputs(model, x):
    with torch.no_grad(): return model.eval()(x)

# The columns

def check_values(row, kwargs, y, **definition):
    "A loss made with `kwargs` against the definition, in all three reductions; the sum first, on which all agree what it is"
    x = example()[0][:, :row.width]
    for reduction in ('sum', 'none', 'mean'):
        close(row.make(reduction=reduction, **kwargs)(x, y), row.expected(x, y, reduction=reduction, **definition))

@column('fit_one_cycle')
def fit(row):
    (_,before,_),*_,(_,after,error) = row.trained.epochs
    assert after < before, 'the loss does not fall'
    close(after, row.losses.mean())
    close(error, (row.decoded != labels()).float().mean())
    assert error < 0.75, 'it does not learn'  # chance is 0.9

class Watch(Callback):
    "Keeps what the loss was given and what it gave"
    def before_fit(self): self.seen = []
    def after_loss(self): self.seen.append((plain(self.pred).float().cpu(), *(plain(y).cpu() for y in self.yb), plain(self.loss).cpu()))

@column('lr_find')
def finds_lr(row):
    learn,watch = row.learner(),Watch()
    weights = [p.detach().clone() for p in learn.model.parameters()]
    with learn.added_cbs(watch): valley = learn.lr_find(show_plot=False, num_it=20).valley
    assert 1e-7 < valley < 10 and len(learn.recorder.losses) > 5, 'it stops too early'
    for x,y,value in watch.seen: close(value, row.expected(x, y))
    for before,after in zip(weights, learn.model.parameters()): close(after, before, 'weights after it')

def check_mix(row, mix):
    "Mixing averages the losses of the items at both labels"
    seen = []
    class Watched(mix):
        def lf(self, pred, *yb):
            value = super().lf(pred, *yb)
            if self.training: seen.append((plain(pred), *(plain(y) for y in (self.yb1[0], yb[0])), self.lam, plain(value)))
            return value
    learn = row.learner(loss := row.make())
    learn.fit(1, 1e-2, cbs=Watched())
    assert len(seen) == 6, 'the losses are not mixed'
    assert learn.loss_func is loss and loss.reduction == 'mean', 'the loss is not put back'
    for x,one,other,share,value in seen:
        one,other = (row.expected(x, y, reduction='none') for y in (one, other))
        close(value, torch.lerp(one, other, share).mean())

@column('MixUp')
def mix_up(row): check_mix(row, MixUp)

@column('CutMix')
def cut_mix(row): check_mix(row, CutMix)

@column('label smoothing by keyword')
def smooths(row): check_values(row, dict(label_smoothing=0.2), example()[1], smoothing=0.2)

@column('class probabilities as targets')
def soft_targets(row): check_values(row, row.soft, example()[2])

@column('weight')
def weighs(row): check_values(row, dict(weight=weight), example()[1], weight=weight)

@column('ignore_index')
def ignores(row):
    ignored = dict(ignore_index=example()[1][0].item())
    check_values(row, ignored, example()[1], **ignored)

@column('get_preds with losses, decoded')
def gets_preds(row):
    probs,targets,decoded,losses = row.trained.get_preds(with_loss=True, with_decoded=True)
    close(targets, labels(), 'targets')
    close(probs, row.trained.loss_func.activation(row.raw), 'activations')
    close(decoded, row.decoded, 'classes')
    close(losses, row.losses, 'losses')
    assert row.trained.loss_func.reduction == 'mean', 'the reduction is not put back'

@column('predict')
def predicts(row):
    for i in (0, 1):
        label,index,probs = row.trained.predict(items()[384 + i])
        close(index, row.decoded[i], 'class')
        close(probs, row.trained.loss_func.activation(row.raw[i:i+1])[0], 'activations')
        assert label == str(digits().vocab[row.decoded[i]]), 'wrong label'

class Shift(Transform):
    "An augmentation without chance: one pixel to the right"
    split_idx = 0
    def encodes(self, x:TensorImage): return x.roll(1, -1)

@column('tta')
def augments(row):
    learn = row.trained
    probs,targets = learn.tta(n=2, item_tfms=ToTensor(), batch_tfms=[IntToFloatTensor(), Shift()])
    shifted,straight = (learn.loss_func.activation(o) for o in (outputs(learn.model, images().roll(1, -1)), row.raw))
    close(targets, labels(), 'targets')
    close(probs, torch.lerp(shifted, straight, 0.25), 'activations')
    assert (shifted - straight).abs().max() > 1e-3, 'nothing was shifted'

def titles():
    "Title and its colour of each picture of the figure, which is closed"
    shown = [(ax.get_title(), ax.title.get_color()) for ax in plt.gcf().axes]
    plt.close('all')
    return shown

@column('show_results')
def shows(row):
    row.trained.show_results(max_n=4, shuffle=False)
    assert titles() == [(f'{y}\n{d}', 'green' if y == d else 'red') for y,d in zip(labels()[:4].tolist(), row.decoded[:4].tolist())], 'wrong titles'

@column('confusion matrix, top losses')
def interprets(row):
    interp = ClassificationInterpretation.from_learner(row.trained)
    counts = torch.zeros(C, C, dtype=torch.long).index_put_((labels(), row.decoded), torch.tensor(1), accumulate=True)
    close(interp.confusion_matrix(), counts, 'counts')
    top,where = interp.top_losses(4)
    close(top, row.losses.sort(descending=True).values[:4], 'losses')
    close(row.losses[where], top, 'items')
    interp.plot_top_losses(4)
    probs = row.trained.loss_func.activation(row.raw).amax(-1)
    expected = [f'{row.decoded[i]}/{labels()[i]} / {l:.2f} / {probs[i]:.2f}' for i,l in zip(where.tolist(), top.tolist())]
    assert [t for t,_ in titles()] == expected, 'wrong titles'

load = """if True:
    import sys,torch
    from fastai.learner import load_learner
    x,y,item = torch.load(sys.argv[1] + '/example.pt', weights_only=False)
    found = {}
    for i in range(int(sys.argv[2])):
        try:
            learn = load_learner(f'{sys.argv[1]}/{i}.pkl')
            width = learn.model[1].out_features
            found[i] = learn.predict(item)[1:], learn.loss_func(x[:, :width], y), repr(learn.loss_func)
        except Exception as e: found[i] = e
    torch.save(found, sys.argv[1] + '/found.pt')"""

@cache
def loaded():
    "What one fresh process gets out of the exports of all rows, their losses with weights; or what export raised"
    path,found = Path(folder.name),{}
    for i,row in enumerate(rows()):
        try: row.learner(row.make(weight=weight), model=row.trained.model).export(f'{i}.pkl')
        except Exception as e: found[i] = e
    torch.save((*example()[:2], items()[384]), path/'example.pt')
    subprocess.run([sys.executable, '-W', 'ignore', '-c', load, path, str(len(rows()))], check=True)
    return torch.load(path/'found.pt', weights_only=False) | found

@column('export, load in a fresh process')
def exports(row):
    found = loaded()[rows().index(row)]
    if isinstance(found, Exception): raise found
    (index,probs),value,name = found
    close(index, row.decoded[0], 'class')
    close(probs, row.trained.loss_func.activation(row.raw[:1])[0], 'activations')
    weighted,(x,y,_) = row.make(weight=weight),example()
    close(value, weighted(x[:, :row.width], y))
    assert name == repr(weighted), f'it came back as {name}'

@column('save, load')
def saves(row):
    row.trained.save('saved')
    learn = row.learner(seed=1)
    assert not torch.allclose(outputs(learn.model, images()), row.raw), 'it was trained before'
    learn.load('saved')
    close(learn.validate()[0], row.losses.mean())
    close(learn.get_preds(with_decoded=True)[2], row.decoded, 'classes')

class AutocastCPU(Callback):
    "fastai's MixedPrecision, which knows CUDA only, for the CPU"
    order = MixedPrecision.order
    def before_batch(self): self.autocast = torch.autocast('cpu', dtype=torch.bfloat16).__enter__()
    def after_pred(self): self.types,self.learn.pred = {*getattr(self, 'types', ()), self.pred.dtype},to_float(self.pred)
    def after_loss(self): self.autocast.__exit__(None, None, None)

def check_mixed_precision(row, learn, cb):
    watch = Watch()
    learn.fit(2, 1e-2, cbs=[cb, watch])
    assert len(watch.seen) == 14
    for x,y,value in watch.seen: close(value, row.expected(x, y))

@column('bf16 autocast')
def half(row):
    cb = AutocastCPU()
    check_mixed_precision(row, learn := row.learner(), cb)
    assert learn.recorder.values[1][1] < learn.recorder.values[0][1], 'the loss does not fall'
    assert cb.types == {torch.bfloat16}, 'no autocast'

@column('mixed precision on CUDA')
def half_on_cuda(row):
    if not torch.cuda.is_available(): raise Skip('no CUDA here')
    dls = DataLoaders(*(dl.new() for dl in digits().loaders), device='cuda')
    check_mixed_precision(row, row.learner(row.make(weight=torch.ones(C)), dls), MixedPrecision())

@column('segmentation, axis=1')
def segments(row):
    learn = row.learner(row.make(axis=1), masks(), nn.Conv2d(1, row.width, 1), metrics=[])
    learn.fit(2, 1e-2)
    _,mean = learn.recorder.values[-1]
    x,y = map(plain, learn.dls.valid.one_batch())
    raw = outputs(learn.model, x)
    losses,decoded = row.expected(raw, y, axis=1, reduction='none'),row.chosen(raw.movedim(1, -1).reshape(-1, row.width)).view(y.shape)
    probs,targets,classes,per_image = learn.get_preds(with_loss=True, with_decoded=True)
    close(mean, losses.mean())
    close(per_image, losses.mean((1, 2)), 'losses')
    close(targets, y, 'targets')
    close(probs.movedim(1, -1), row.loss.activation(raw.movedim(1, -1)), 'activations')
    close(classes, decoded, 'classes')
    close(decoded_error_rate(learn.loss_func)(raw, y), (decoded != y).float().mean())

@column('tabular data')
def tabular(row):
    learn = row.learner(dls=tables(), model=TabularModel([], 64, row.width, []), metrics=[], cbs=ReportScores())
    learn.fit(2, 1e-2)
    _,mean,error,*_ = learn.recorder.values[-1]
    cats,conts,y = map(plain, learn.dls.valid.one_batch())  # the labels are (N, 1), and int8
    with torch.no_grad(): raw = learn.model.eval()(cats, conts)
    y = y[:, 0].long()
    losses,decoded = row.expected(raw, y, reduction='none'),row.chosen(raw)
    probs,_,classes,per_item = learn.get_preds(with_loss=True, with_decoded=True)
    close(mean, losses.mean())
    close(error, (decoded != y).float().mean())
    close(per_item, losses, 'losses')
    close(probs, row.loss.activation(raw), 'activations')
    close(classes, decoded, 'classes')

@column('gradient accumulation')
def accumulates(row):
    def trained(bs, *cbs):
        train = digits().train.new(bs=bs, shuffle=False, drop_last=True)
        learn = row.learner(dls=DataLoaders(train, digits().valid), opt_func=SGD, cbs=cbs)
        before = [p.detach().clone() for p in learn.model.parameters()]
        learn.fit(1, 1e-2)
        return [p - b for p,b in zip(learn.model.parameters(), before)]
    for once,parts in zip(trained(64), trained(16, GradientAccumulation(64))): close(parts, once, 'steps', rtol=1e-3)

def validation_items(): return digits().test_dl(items()[-63:], with_labels=True)  # for two processes one is repeated

def validate_rows(rank, path):
    "What one of two processes reports of every row"
    DistributedDL = distributed_dl(rank, path)
    found = []
    for row in rows():
        if row.name.startswith('nn.'): continue
        try: found.append([list(row.learner().validate(dl=DistributedDL(dl, rank, 2))) for dl in (digits().valid, validation_items())])
        except Exception as e: found.append(f'raises {type(e).__name__}')
    torch.save(found, f'{path}/reported{rank}.pt')
    torch.distributed.destroy_process_group()

@cache
def reported():
    "What each of two processes reports of all rows"
    torch.multiprocessing.spawn(validate_rows, (folder.name,), nprocs=2)
    return [torch.load(f'{folder.name}/reported{rank}.pt') for rank in (0, 1)]

@column('validation on two processes')
def distributed(row):
    "The loss of an even number of items, since fastai counts a repeated one twice; the error rate of any number"
    learn = row.learner()
    (loss,error),(_,odd_error) = learn.validate(),learn.validate(dl=validation_items())
    for found in reported():
        found = found[rows().index(row)]
        assert not isinstance(found, str), found
        close(found[0][0], loss)
        close([found[0][1], found[1][1]], [error, odd_error], 'error rates')

import conformance_torch  # adds its columns to these
in_torch = [name for name,f in columns.items() if f.__module__ == conformance_torch.__name__]

def tried(row):
    "The columns of a row: torch's own losses are no losses for fastai, which wants `activation` and `decodes`"
    return in_torch if row.name.startswith('nn.') else [name for name in columns if name != half_on_cuda.title]

def line(row):
    "The record of a loss; what only some machines can try is not in it"
    return {'loss': row.name, **{name: row.cell(name) if name in tried(row) else '' for name in columns if name != half_on_cuda.title}}

def table(): return [line(row) for row in rows()]

if __name__ == '__main__':
    matplotlib.use('agg')
    lines = table()
    with record.open('w', newline='', encoding='utf-8') as f:
        writer = csv.DictWriter(f, lines[0], lineterminator='\n')
        writer.writeheader()
        writer.writerows(lines)
    for row in lines: print(row['loss'], *(f'    {name}: {cell}' for name,cell in row.items() if name != 'loss' and cell not in ('pass', '')), sep='\n')
