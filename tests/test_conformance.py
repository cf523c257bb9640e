"Every loss of the package does everything that fastai and PyTorch ask of a loss; what their own do not do is on record"
import csv,re
from itertools import product
import nbformat,pytest,torch
from torch import nn
from conformance import Exempt,Row,Skip,by_definition,columns,is_ours,line,record,rows,surprises
from conformance_torch import compiles
from fastai_losses.core import loss_examples

as_they_come = {repr(loss) for loss in loss_examples()}
def in_turn(rows):
    "Each row; those of losses with other arguments are for the slow tests"
    def is_slow(row): return is_ours(row) and row.name not in as_they_come
    return [pytest.param(row, marks=pytest.mark.slow) if is_slow(row) else row for row in rows]

ours = [row for row in rows() if is_ours(row)]

@pytest.mark.parametrize('row', in_turn(ours), ids=repr)
@pytest.mark.parametrize('name', columns)
def test_column(name, row):
    found = row.run(name)
    if isinstance(found, (Skip, Exempt)): pytest.skip(str(found))
    if found: raise found

def recorded():
    "The lines of the record by the name of the loss"
    with record.open(newline='', encoding='utf-8') as f: return {r['loss']: r for r in csv.DictReader(f)}

@pytest.mark.parametrize('row', in_turn(rows()), ids=repr)
def test_record_is_in_step(row):
    "That every loss of the package is on record is for test_repository.py to see"
    if row.name not in recorded(): pytest.skip('not on record yet')
    assert recorded()[row.name] == line(row), 'run make conformance'

def test_record_has_no_other_losses(): assert recorded().keys() <= {row.name for row in rows()}, 'run make conformance'

def test_notebook_shows_the_record(monkeypatch):
    "The tables that are saved in it are those that its cells make of the record"
    monkeypatch.chdir(record.parent)
    cells = [c for c in nbformat.read('10g_conformance.ipynb', as_version=4).cells if c.cell_type == 'code']
    assert sum(map(bool, (c.outputs for c in cells))) == 2
    space = {}
    for cell in cells:
        *setup,value = cell.source.split('\n') if cell.outputs else (cell.source, 'None')
        exec('\n'.join(setup), space)
        table = eval(value, space)
        if cell.outputs: assert cell.outputs[0].data['text/markdown'] == table.data, 'run make conformance'

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
