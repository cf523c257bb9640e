"Every loss of the package does everything that fastai asks of a loss; what fastai's own three do not do is on record"
import csv,re
from functools import partial
from itertools import product
import nbformat,pytest,torch
from torch import nn
from conformance import Row,Skip,by_definition,columns,compiles,is_ours,record,rows,surprises,table

ours = [row for row in rows() if is_ours(row)]

@pytest.mark.parametrize('row', ours, ids=repr)
@pytest.mark.parametrize('name', columns)
def test_column(name, row):
    found = row.run(name)
    if isinstance(found, Skip): pytest.skip(str(found))
    if found: raise found

@pytest.mark.parametrize('name', ('fit_one_cycle', 'MixUp', 'label smoothing by keyword', 'class probabilities as targets', 'weight', 'ignore_index', 'predict', 'segmentation, axis=1'))
def test_loss_of_the_contributing_guide(name):
    block, = re.findall(r'^```python\n(.*?)^```$', (record.parent.parent/'CONTRIBUTING.md').read_text(encoding='utf-8'), flags=re.M | re.S)
    exec(block, space := {})
    loss = space['SquaredLoss']()
    found = Row(repr(loss), loss.with_arguments, lambda x: (1 - x.softmax(-1))**2).run(name)
    if found: raise found

def test_record_is_in_step():
    with record.open(newline='', encoding='utf-8') as f: assert list(csv.DictReader(f)) == table(), 'run make conformance'

def test_readme_shows_the_record(monkeypatch):
    monkeypatch.chdir(record.parent)
    cell, = (c for c in nbformat.read('index.ipynb', as_version=4).cells if record.name in c.source)
    setup,value = cell.source.rsplit('\n', 1)
    exec(setup, space := {})
    assert eval(value, space).data in (record.parent.parent/'README.md').read_text(encoding='utf-8'), 'run make conformance'

@pytest.mark.parametrize('reduction', ('mean', 'sum', 'none'))
def test_definition_is_that_of_torch(reduction):
    x = torch.randn(20, 10)
    for y,weight,ignored,smoothing in product((torch.randint(0, 10, (20,)), torch.rand(20, 10).softmax(-1)), (None, torch.rand(10)), (-100, 3), (0., 0.2)):
        if y.is_floating_point() and ignored == 3: continue
        torch.testing.assert_close(by_definition(surprises(x), y, weight, ignored, smoothing, reduction),
            nn.CrossEntropyLoss(weight=weight, ignore_index=ignored, label_smoothing=smoothing, reduction=reduction)(x, y))

@pytest.mark.slow
@pytest.mark.parametrize('row', ours, ids=repr)
def test_compiles_to_machine_code(row): compiles(row, backend='inductor')
