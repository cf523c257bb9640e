"The examples of the reference work, and each public name has one"
import runpy
from pathlib import Path
import matplotlib,pytest
import fastai_losses.all as everything
from fastai_losses.core import loss_examples

examples = runpy.run_path(Path(__file__).parent.parent/'nbs'/'site'/'examples.py')

def public():
    found = {n: getattr(o, '__module__', '') or '' for n,o in vars(everything).items() if n[0] != '_'}
    return [n for n,module in found.items() if module.startswith('fastai_losses.')]

def test_each_name_has_one():
    own_making = {type(loss).__name__ for loss in loss_examples()}
    assert [n for n in public() if n not in examples['examples'] and n not in own_making] == [], 'add one to nbs/site/examples.py'
    assert [n for n in examples['examples'] if n not in public()] == [], 'no such name'

def test_they_work(tmp_path, monkeypatch):
    matplotlib.use('agg')
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(examples['given'], space)
    for name,code in examples['examples'].items():
        if name in examples['not_run']: compile(code, name, 'exec')
        else: exec(compile(code, f'the example of {name}', 'exec'), space)
