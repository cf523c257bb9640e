"LossComparison with the real vision_learner, and the console command in a process of its own"
import json,subprocess,sys,warnings
from pathlib import Path
import fastai.vision.learner
import pytest
import torchvision
from fastai_losses.all import *

compare = Path(sys.executable).parent/'compare_losses'

@pytest.mark.parametrize('name', ('vision_learner', 'cnn_learner'))
def test_makes_vision_learners(name):
    dls = digits_dataloaders(size=16)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        comparison = LossComparison(dls, torchvision.models.resnet18, learner=getattr(fastai.vision.learner, name), pretrained=False)
        first,second = comparison.make_learner('cross-entropy'),comparison.make_learner('inverse')
    for a,b in zip(first.model.parameters(), second.model.parameters()): assert (a == b).all()
    assert first.model[-1][-1].out_features == 10 and repr(second.loss_func) == 'InverseLoss()'
    assert second.loss_func is not comparison.losses['inverse']

def test_the_loss_says_how_wide_the_model_is():
    class Pair(CrossEntropy):
        n_out,n_classes = 2,10
        def evidence(self, x): return x.repeat(1, 5).log_softmax(-1)
        def penalty_at(self, x, y): return ClassificationLoss.penalty_at(self, x, y)
    comparison = LossComparison(digits_dataloaders(size=16), losses=[Pair()], pretrained=False)
    assert comparison.make_learner('Pair()').model[-1][-1].out_features == 2

def test_console_command(tmp_path):
    out = tmp_path/'out'
    done = subprocess.run([compare, '--arch', 'squeezenet1_1', '--epochs', '1', '--bs', '256', '--out', out], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in seed_losses(): assert name in done.stdout
    records = [json.loads(f.read_text()) for f in out.glob('*.json')]
    assert len(records) == 4 and all(r['status'] == 'finished' and [e['phase'] for e in r['epochs']] == ['frozen', 'unfrozen'] for r in records)
    assert (out/'plot.png').stat().st_size > 10_000 and str(out) in done.stdout
    again = subprocess.run([compare, '--epochs', '1', '--out', out], capture_output=True, text=True, cwd=tmp_path)
    assert again.returncode != 0 and 'does not overwrite records' in again.stderr and 'Traceback' not in again.stderr

def test_console_errors(tmp_path):
    done = subprocess.run([compare, '--data', 'pets', '--path', tmp_path], capture_output=True, text=True)
    assert done.returncode != 0 and f'No images in {tmp_path}/images: expected a folder with images/*.jpg' in done.stderr and 'Traceback' not in done.stderr

def test_views_of_runs_that_did_not_finish():
    run = dict(loss='a', status='diverged', epochs=[], started='1')
    with pytest.raises(ValueError, match='no run finished an epoch'): ComparisonRecords([run]).plot()
    row = dict(phase='frozen', epoch=0, train_loss=1., valid_loss=1., error_rate=0.5, time=1.)
    both = ComparisonRecords([dict(run, epochs=[row]), dict(run, loss='b', status='finished', epochs=[row, dict(row, phase='unfrozen', error_rate=0.6)])])
    assert list(both.table().loss) == ['b', 'a']
    assert [t.get_text() for t in both.plot().axes[1].get_yticklabels()] == ['a (diverged)', 'b']
