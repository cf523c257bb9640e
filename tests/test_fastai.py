"A loss does everything in fastai that a loss is asked for"
import subprocess,sys
import pytest,torch
from fastai.callback.mixup import CutMix,MixUp
from fastai.callback.schedule import *
from fastai.interpret import ClassificationInterpretation
from fastai.metrics import error_rate
from torch.nn import functional as F
from conftest import all_losses,remake
from fastai_losses.all import *

def quiet(learn): learn.remove_cb(learn.progress) if hasattr(learn, 'progress') else None; return learn

def test_train_and_predict(loss, learner, digits, tmp_path):
    learn = quiet(learner(loss, metrics=[error_rate, decoded_error_rate(loss)], path=tmp_path))
    with learn.no_logging(): learn.fit_one_cycle(3, 1e-2)
    *_,theirs,ours = learn.recorder.values[-1]
    assert ours == pytest.approx(theirs)
    assert learn.recorder.values[-1][1] < learn.recorder.values[0][1]

    _,targets,decoded,losses = learn.get_preds(with_loss=True, with_decoded=True)
    raw,_ = learn.get_preds(act=lambda x: x)
    probs,_ = learn.get_preds()
    torch.testing.assert_close(probs, loss.activation(raw))
    if not isinstance(loss, OneVsAllLoss): torch.testing.assert_close(probs.sum(-1), torch.ones(len(probs)))
    assert (decoded == raw.argmax(-1)).all() and losses.shape == targets.shape
    torch.testing.assert_close(losses.mean(), loss(raw, targets), rtol=1e-4, atol=1e-5)
    assert loss.reduction == 'mean'

    label,index,prob = learn.predict(digits.valid_ds[0][0])
    assert index == decoded[0] and label == str(digits.vocab[index]) and prob.argmax() == index

    interp = ClassificationInterpretation.from_learner(learn)
    assert interp.confusion_matrix().trace() == (decoded == targets).sum()
    top,where = interp.top_losses(5)
    torch.testing.assert_close(top, losses[where])

def test_lr_find(loss, learner, tmp_path):
    learn = quiet(learner(loss, path=tmp_path))
    with learn.no_logging(): found = learn.lr_find(show_plot=False, num_it=20)
    assert 1e-7 < found.valley < 10 and len(learn.recorder.losses) > 5

@pytest.mark.parametrize('mix', (MixUp, CutMix))
def test_mixing_mixes_losses(loss, learner, mix):
    from fastai.data.all import DataBlock,TransformBlock,CategoryBlock,ItemGetter,RandomSplitter
    seen = []
    class Watch(mix):
        def lf(self, pred, *yb):
            value = super().lf(pred, *yb)
            if self.training:
                one,other = (F_item(pred, y) for y in (self.yb1[0], yb[0]))
                seen.append((value.detach(), torch.lerp(one, other, self.lam).mean().detach()))
            return value
    def F_item(pred, y):
        loss.reduction = 'none'; items = loss(pred, y); loss.reduction = 'mean'
        return items
    learn = quiet(learner(loss))
    if mix is CutMix:
        images = [(torch.rand(1, 8, 8), i % 10) for i in range(80)]
        learn.dls = DataBlock((TransformBlock, CategoryBlock), get_x=[ItemGetter(0)], get_y=ItemGetter(1), splitter=RandomSplitter(seed=0)).dataloaders(images, bs=32, num_workers=0)
        learn.model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with learn.no_logging(): learn.fit(1, cbs=Watch())
    assert seen and learn.loss_func is loss
    for value,expected in seen: torch.testing.assert_close(value, expected)

def test_exports_load_in_a_fresh_process(learner, digits, tmp_path):
    x,losses = digits.valid_ds[0][0],[remake(l, weight=torch.arange(1., 11.)) for l in all_losses()]
    torch.save(x, tmp_path/'x.pt')
    expected = []
    for i,loss in enumerate(losses):
        learn = quiet(learner(loss, path=tmp_path))
        expected.append(learn.predict(x)[2])
        learn.export(f'{i}.pkl')
    code = """if True:
        import sys,torch
        from pathlib import Path
        from fastai.learner import load_learner
        folder,out = Path(sys.argv[1]),[]
        x = torch.load(folder/'x.pt', weights_only=False)
        for i in range(int(sys.argv[2])):
            learn = load_learner(folder/f'{i}.pkl')
            if hasattr(learn, 'progress'): learn.remove_cb(learn.progress)
            out.append((learn.predict(x)[2], repr(learn.loss_func), learn.loss_func.weight))
        torch.save(out, folder/'out.pt')"""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, str(tmp_path), str(len(losses))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for (probs,name,weight),loss,before in zip(torch.load(tmp_path/'out.pt', weights_only=False), losses, expected, strict=True):
        torch.testing.assert_close(probs, before)
        assert name == repr(loss) and (weight == loss.weight).all()
