"""No run of eight words, and no code, of the five texts that this project starts from is repeated here.

The texts themselves are not in the repository. `sources.bin` holds short hashes of all their runs of eight
words, and `make_sources.py` makes it. The test hashes every run of eight words in notebooks (text and code,
not outputs), modules, tests and guides, and looks for it there. Docstrings are part of the code. Numbers count
as words, so a table or a list of outputs copied in the order of the text is found too.
"""
import subprocess
from pathlib import Path
import nbformat,pytest
from make_sources import hashed,runs,stored,words

root = Path(__file__).parent.parent

# Runs that are allowed, each with its reason
allowed = {
    'a note on cross entropy loss with pytorch': 'the title of one of the texts, by which it is cited',
}

def text_of(path):
    "What a reader sees of a file, without the outputs of a notebook"
    if path.suffix != '.ipynb': return path.read_text(encoding='utf-8')
    return '\n'.join(cell.source for cell in nbformat.read(path, as_version=4).cells)

def files():
    "Notebooks, modules, tests and guides of the repository"
    listed = subprocess.run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'], cwd=root,
                            check=True, capture_output=True, text=True).stdout.splitlines()
    kept = [name for name in listed if name.endswith(('.ipynb', '.md', '.py', '.cff', '.ini', '.toml'))]
    return [name for name in kept if (root/name).exists()]

def repeated(text):
    "Runs of a text that the five texts have too"
    known = stored()
    return [run for run in runs(text) if hashed(run) in known and run not in allowed]

@pytest.mark.parametrize('name', files())
def test_no_run_of_the_sources(name):
    found = repeated(text_of(root/name))
    assert not found, f'say it in your own words: {found}'

def test_a_run_is_found():
    "The title of a text is in it, whatever its case, punctuation and surroundings"
    run, = allowed
    assert hashed(run) in stored()
    assert runs('See "A Note on *Cross-Entropy* loss, with PyTorch".')[1] == run
    assert repeated('eight words that nobody has written in this order') == []
    assert words("Don't (stop)") == ['don', 't', 'stop']

def test_allowed_runs_are_those_that_are_used():
    everything = ' '.join(' '.join(words(text_of(root/name))) for name in files() if name != 'tests/test_sources.py')
    assert all(run in everything for run in allowed)
