"The loss of CONTRIBUTING.md passes the tests of losses with no line added to them"
import os,re,subprocess,sys,warnings
import nbformat,pytest
from nbformat.v4 import new_code_cell
from fastai_losses.catalogue import package_losses
from fastai_losses.core import ClassificationLoss,loss_examples
from test_repository import binaries,copy,root

tests = 'rule','numbers','properties','activation','conformance'

def guides_loss():
    "The cell that the guide shows"
    text = (root/'CONTRIBUTING.md').read_text(encoding='utf-8')
    block, = re.findall(r'^```python\n(.*?)^```$', text, flags=re.M | re.S)
    return block

@pytest.fixture(scope='module')
def with_the_loss(copy):
    "A copy of the project, with the guide's loss exported from the notebook of its family"
    path = copy/'nbs'/'01_probability.ipynb'
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(-1, new_code_cell(f'#| export\n{guides_loss()}', id='guide'))
    nbformat.write(notebook, path)
    subprocess.run([binaries/'nbdev-export'], cwd=copy, check=True, capture_output=True)
    return copy

def python(folder, *args):
    "Output of Python where the package is that in `folder`"
    env = {**os.environ, 'PYTHONPATH': str(folder), 'OMP_NUM_THREADS': '1'}
    call = [sys.executable, *args]
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True)
    assert not done.returncode, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout

@pytest.mark.slow
def test_it_is_in_the_lists(with_the_loss):
    code = '''if True:
        import fastai_losses.all as package
        print(package.__file__, package.package_losses()['SquaredLoss'])'''
    file,loss = python(with_the_loss, '-c', code).split()
    assert file.startswith(str(with_the_loss)) and loss == 'SquaredLoss()'

@pytest.mark.slow
def test_it_passes_the_tests_of_losses(with_the_loss):
    files = [f'tests/test_{name}.py' for name in tests]
    selected = 'SquaredLoss and not processes and not fresh'  # these two try all losses at once
    out = python(with_the_loss, '-m', 'pytest', '-q', '-k', selected, *files)
    assert int(re.search(r'(\d+) passed', out)[1]) > 70, out

def test_a_loss_without_an_example_is_left_out():
    class NoExample(ClassificationLoss):
        def __init__(self, table, **kwargs): super().__init__(**kwargs)
        def evidence(self, x): return x
        def penalty(self, e): return -e
    NoExample.__module__ = 'fastai_losses.probability'
    try:
        message = r'NoExample is left out.* Override `example`'
        with pytest.warns(UserWarning, match=message): found = loss_examples()
    finally: NoExample.__module__ = __name__  # the other tests need no warning
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert list(map(repr, loss_examples())) == list(map(repr, found))

def test_the_order_of_the_losses_is_not_that_of_the_imports():
    code = 'import fastai_losses.warped; from fastai_losses.catalogue import package_losses; print(list(package_losses()))'
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(list(package_losses()))
