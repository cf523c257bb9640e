"The command compare_losses: in this process, and in a process of its own"
import json,os,signal,subprocess,sys,time
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd
import pytest
from fastai.learner import load_learner
from PIL import Image
import fastai_losses.console as console_module
from fastai_losses.all import *
from fastai_losses.console import own_defaults,stopped_by_sigterm
from fastai_losses.own_data import understand

root = Path(__file__).parent.parent
command = Path(sys.executable).parent/'compare_losses'
paths = os.pathsep.join([str(root), *filter(None, [os.environ.get('PYTHONPATH')])])
environment = {**os.environ, 'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1'}
environment.pop('PYTHONWARNINGS', None)

def console(*args, **kwargs):
    "Run the command and wait for it"
    env = {**environment, **kwargs.pop('env', {})}
    return subprocess.run([command, *map(str, args)], capture_output=True, text=True, env=env, **kwargs)

def says(**kwargs):
    "The sentence that the command ends with, in this process"
    with pytest.raises(SystemExit) as stopped: compare_losses(**kwargs)
    return str(stopped.value)

def table_file(folder, n=60, **columns):
    "A CSV file of a table with two classes"
    rng = np.random.default_rng(0)
    label = np.where(np.arange(n)%2, 'yes', 'no')
    size = rng.normal(np.arange(n)%2*2., 1, n)
    pd.DataFrame({'size': size, 'label': label, **columns}).to_csv(folder/'table.csv', index=False)
    return folder/'table.csv'

# A process of its own

def test_a_table_from_the_first_line_to_the_winner(tmp_path):
    out,best = tmp_path/'out',tmp_path/'best.pkl'
    done = console('--data', table_file(tmp_path), '--losses', 'first', '--epochs', 1, '--seeds', 2,
        '--workers', 1, '--out', out, '--export', best, cwd=tmp_path, env={'PYTHONIOENCODING': 'ascii'})
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first == ("table: 60 items in 2 classes, the rarest no (30), the commonest yes (30); 48 train "
        "and 12 validate (a random fifth); labels in 'label', table in 1 column; model tabular; "
        "4 losses, 2 runs each")
    assert 'about' in done.stdout and ComparisonRecords.load(out).verdict()[:30] in done.stdout
    records = [json.loads(f.read_text()) for f in out.glob('*.json')]
    assert len(records) == 8 and {r['status'] for r in records} == {'finished'}
    assert f"{tmp_path/'table.csv'}: {first}" in (out/'report.html').read_text().replace('&#39;', "'")
    printed = [line for line in done.stdout.splitlines()[1:] if '|' not in line]  # no bars
    assert max(len(line.replace('\\u2212', '-')) for line in printed if str(tmp_path) not in line) <= 100
    assert (out/'plot.png').stat().st_size > 10_000 and (out/'report.html').stat().st_size > 10_000
    row = pd.read_csv(tmp_path/'table.csv').iloc[0]
    assert load_learner(best).predict(row)[2].shape == (2,)
    assert 'Warning' not in done.stderr
    again = console('--data', table_file(tmp_path), '--out', out, cwd=tmp_path)
    assert again.returncode != 0 and 'holds records already. Add --resume' in again.stderr

def test_one_sentence_and_no_traceback(tmp_path):
    done = console('--data', tmp_path)
    assert done.returncode != 0 and done.stdout == ''
    assert done.stderr.startswith(f'compare_losses: No images in {tmp_path}.') and done.stderr.count('\n') == 1

def test_imports_without_warnings():
    for code in ('import fastai_losses.all', 'from fastai_losses.all import *; import fastai.vision.all'):
        done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == '', done.stderr

@pytest.mark.slow
@pytest.mark.parametrize('stop', (signal.SIGTERM, signal.SIGINT))
def test_stops_within_seconds_and_goes_on(tmp_path, stop):
    out = tmp_path/'out'
    args = '--losses', 'first', '--epochs', 2, '--seeds', 1, '--workers', 2, '--out', out, '--bs', 256
    p = subprocess.Popen([command, *map(str, args)], env=environment, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not list(out.glob('*.json')): time.sleep(0.1)
    start = time.monotonic()
    p.send_signal(stop)
    _,error = p.communicate(timeout=10)
    assert time.monotonic() - start < 10 and p.returncode != 0
    assert f'Finished runs are kept; the same command with --out {out} --resume goes on' in error and 'Traceback' not in error
    kept = {f: f.read_bytes() for f in out.glob('*.json')}
    more = console(*args, '--resume', cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert len(list(out.glob('*.json'))) == 4 and all(f.read_bytes() == o for f,o in kept.items())

# In this process

def test_sigterm_is_like_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopped_by_sigterm(): signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before

@pytest.mark.parametrize('options, sentence', (
    (dict(data='nowhere'), "No folder or file 'nowhere'. Expected --data digits, pets, a folder"),
    (dict(arch='resnt18'), "Did you mean resnet18"),
    (dict(losses='inverze'), "no loss 'inverze'"),
    (dict(path='.'), "--path does not go with --data digits"),
    (dict(label='a'), "--label does not go with --data digits"),
    (dict(resume=True), "Add --out FOLDER"),
    (dict(seeds='three'), "--seeds is 'three'. Expected a number"),
    (dict(lr='fast'), "--lr is 'fast'"),
    (dict(workers=0), "--workers is 0. Expected at least 1"),
    (dict(bs=0), "--bs is 0. Expected at least 1"),
    (dict(epochs=-1), "--epochs is -1. Expected at least 0"),
    (dict(seeds='0'), "--seeds is 0. Expected at least 1"),
    (dict(seeds='1,2', race=True), "--race needs at least three seeds, and --seeds gives 2"),
    (dict(losses='BrierLoss,brier_loss'), "--losses names BrierLoss twice"),
    (dict(lr='-1'), "--lr is '-1'. Expected find, a number above 0"),
    (dict(export='nowhere/best.pkl'), "there is no such folder"),
    (dict(data='pets', path='nowhere'), "expected a folder with images/*.jpg"),
))
def test_options_that_cannot_be(options, sentence, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = says(**options)
    assert said.startswith('compare_losses: ') and sentence in said and '\n' not in said

def test_data_that_cannot_be(tmp_path):
    file = table_file(tmp_path)
    assert "No column 'colour'. The columns are size, label" in says(data=file, label='colour')
    assert "Expected --arch tabular" in says(data=file, arch='resnet18')
    assert "batch size is 64, but there are 48 training items" in says(data=file, bs=64)
    assert "size=32 is for images" in says(data=file, size=32)
    assert "different numbers: is it a regression?" in says(data=table_file(tmp_path, label=range(60)))
    assert not (tmp_path/'comparisons').exists()

def test_weights_that_cannot_be_had(tmp_path, monkeypatch):
    for name in ('a', 'b'):
        (tmp_path/name).mkdir()
        for i in range(5): Image.fromarray(np.full((80, 80, 3), i, np.uint8)).save(tmp_path/name/f'{i}.png')
    def no_network(*args, **kwargs): raise OSError('no route to host')
    monkeypatch.setattr(console_module, 'create_vision_model', no_network)
    said = says(data=str(tmp_path))
    assert "weights of resnet18 cannot be had (OSError: no route to host). Add --no-pretrained" in said

def test_defaults_by_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(console_module, 'have_awd_weights', lambda: False)
    (tmp_path/'text.csv').write_text('text,label\n' + ''.join(f'A text that has the number {i},{i%2}\n' for i in range(40)))
    assert own_defaults(understand(tmp_path/'text.csv'), None).arch == 'small'
    assert own_defaults(understand(table_file(tmp_path)), None).arch == 'tabular'
    monkeypatch.setattr(console_module, 'have_awd_weights', lambda: True)
    assert own_defaults(understand(tmp_path/'text.csv'), None).arch == 'awd_lstm'
    images = SimpleNamespace(kind='images')
    assert [own_defaults(images, size).arch for size in (64, 65)] == ['small', 'resnet18']
