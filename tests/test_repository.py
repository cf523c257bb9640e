"Notebooks, exported modules and README are in step and clean; the package builds and installs"
import os,shutil,subprocess,sys,zipfile
from configparser import ConfigParser
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
binaries = Path(sys.executable).parent

def run(*args, cwd): return subprocess.run([str(a) for a in args], cwd=cwd, check=True, capture_output=True, text=True).stdout

@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The repository as git sees it, without what is ignored"
    folder = tmp_path_factory.mktemp('copy')
    for name in run('git', 'ls-files', '--cached', '--others', '--exclude-standard', cwd=root).splitlines():
        if not (root/name).exists(): continue
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root/name, folder/name)
    return folder

def differing(copy, *patterns): return [str(f.relative_to(copy)) for p in patterns for f in sorted(copy.rglob(p)) if f.read_bytes() != (root/f.relative_to(copy)).read_bytes()]

def test_notebooks_are_clean_and_exported(copy):
    run(binaries/'nbdev-clean', cwd=copy)
    assert not differing(copy, '*.ipynb'), 'run nbdev-clean'
    for module in (copy/'fastai_losses').glob('*.py'):
        if module.name not in ('__init__.py', 'all.py', '_modidx.py'): module.unlink()
    run(binaries/'nbdev-export', cwd=copy)
    assert not differing(copy, 'fastai_losses/*.py'), 'run nbdev-export'
    assert {f.name for f in (root/'fastai_losses').glob('*.py')} == {f.name for f in (copy/'fastai_losses').glob('*.py')}, 'a module without a notebook'

def test_readme_is_in_step():
    sys.path.insert(0, str(root/'nbs'))
    from make_readme import readme
    text,pictures = readme(root/'nbs')
    assert (root/'README.md').read_text(encoding='utf-8') == text, 'run make readme'
    for path,data in pictures.items(): assert (root/path).read_bytes() == data, 'run make readme'
    assert {f'nbs/images/{f.name}' for f in (root/'nbs'/'images').glob('*')} == set(pictures), 'a picture that the README does not show'

def test_readme_names_every_loss():
    "The table of losses has each, and the numbers of losses are those of the package"
    from fastai_losses.all import package_losses
    from fastai_losses.core import loss_examples
    text,losses = (root/'README.md').read_text(encoding='utf-8'),loss_examples()
    table = text.partition('## The losses')[2].partition('\n## ')[0]
    for loss in losses: assert f'`{type(loss).__name__}(' in table, f'{type(loss).__name__} has no row'
    assert f'These are {len(losses)} losses.' in table and f'{len(package_losses(37))} in all' in table, 'save the front page anew'

def test_readme_is_short(): assert len((root/'README.md').read_text(encoding='utf-8').splitlines()) <= 200

def test_no_machine_paths_or_debris():
    for file in run('git', 'ls-files', cwd=root).splitlines():
        path = root/file
        if path.suffix not in ('.ipynb', '.json', '.md', '.py', '.ini', '.toml') or path.parent.name == 'tests' or not path.exists(): continue
        text = path.read_text(encoding='utf-8')
        for word in ('/home/', '/root/', '/work/', 'site-packages', '█', 'Traceback'): assert word not in text, f'{word!r} in {file}'

def test_wheel(copy, tmp_path):
    run(sys.executable, '-m', 'build', '--wheel', '--outdir', tmp_path, copy, cwd=copy)
    wheel, = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    for module in (root/'fastai_losses').glob('*.py'): assert f'fastai_losses/{module.name}' in names
    assert 'fastai_losses/py.typed' in names  # type hints are for type checkers too
    assert not [n for n in names if not n.startswith('fastai_losses')]
    entry_points = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith('entry_points.txt'))).decode()
    assert 'compare_losses = fastai_losses.console:compare_losses' in entry_points
    run(sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--target', tmp_path/'site', wheel, cwd=tmp_path)
    env = {**os.environ, 'PYTHONPATH': str(tmp_path/'site')}
    code = 'import fastai_losses, fastai_losses.all as a; print(fastai_losses.__file__, fastai_losses.__version__, a.InverseLoss(0.2))'
    out = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout.split()
    assert out[0].startswith(str(tmp_path)) and out[2] == 'InverseLoss(power=0.2)'

def test_all_exports_every_module():
    text = (root/'fastai_losses'/'all.py').read_text()
    for module in (root/'fastai_losses').glob('[a-z]*.py'):
        if module.stem != 'all': assert f'from fastai_losses.{module.stem} import *' in text

def test_citation_is_in_step():
    config = ConfigParser(delimiters='=')
    config.read(root/'settings.ini', encoding='utf-8')
    settings = config['DEFAULT']
    text = (root/'CITATION.cff').read_text(encoding='utf-8')
    for line in (f"title: {settings['lib_name']}", f"abstract: {settings['description']}", f"  - name: {settings['author']}", f"version: {settings['version']}", f"license: {settings['license']}"):
        assert line in text.splitlines()

def test_every_loss_is_on_record():
    "Once `make conformance` has been run: a loss of the package has a line in the table of what works"
    import csv
    from fastai_losses.core import loss_examples
    with (root/'nbs'/'conformance.csv').open(newline='', encoding='utf-8') as f: recorded = {line['loss'] for line in csv.DictReader(f)}
    assert {repr(loss) for loss in loss_examples()} <= recorded, 'run make conformance'
