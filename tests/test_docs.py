"The site is whole: every link leads somewhere, every picture is there, nothing comes from the network"
import json,re,subprocess,sys
from copy import copy
from pathlib import Path
from urllib.parse import unquote,urlsplit
import pytest
from bs4 import BeautifulSoup

root = Path(__file__).parent.parent

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--config-file', root/'nbs'/'site'/'mkdocs.yml', '--site-dir', folder], check=True, capture_output=True, text=True)
    (folder/'404.html').unlink()  # for web servers only: it takes the site to lie at their root
    return folder

@pytest.fixture(scope='module')
def pages(site): return read(site)

def read(site): return {p.resolve(): BeautifulSoup(p.read_text(encoding='utf-8'), 'html.parser') for p in site.rglob('*.html')}

def broken(pages):
    "Links and anchors of these pages that lead nowhere, pictures that are missing, and whatever is loaded from elsewhere"
    ids = {p: {e['id'] for e in page.find_all(id=True)} for p,page in pages.items()}
    for path,page in pages.items():
        for element in page.find_all(['a', 'img', 'script', 'link']):
            target = element.get('href') or element.get('src')
            if target is None: continue
            url = urlsplit(target)
            if url.scheme or url.netloc:
                if element.name != 'a' and url.scheme != 'data': yield f'{path.name} loads {target}'
                continue
            to = (path.parent/unquote(url.path)).resolve() if url.path else path
            if not to.is_file(): yield f'{path.name}: {target} is missing'
            elif url.fragment and to in ids and unquote(url.fragment) not in ids[to]: yield f'{path.name}: {target} has no such place'

def test_links_and_pictures(pages): assert list(broken(pages)) == []

def test_the_check_finds_what_is_broken(tmp_path):
    (tmp_path/'a.html').write_text('<h1 id="top">a</h1><a href="b.html#there"></a><a href="#top"></a><a href="c.html"></a><a href="https://example.org"></a><img src="d.png"><script src="https://example.org/e.js"></script>')
    (tmp_path/'b.html').write_text('<p id="here"></p><a href="a.html#top"></a>')
    found = list(broken(read(tmp_path)))
    assert len(found) == 4 and all(any(target in f for f in found) for target in ('b.html#there', 'c.html', 'd.png', 'e.js'))

def test_pages(site, pages):
    for notebook in [*(root/'nbs').glob('[!_]*.ipynb'), *(root/'nbs'/'experiments').glob('[!_]*.ipynb')]:
        assert (site/notebook.relative_to(root/'nbs')).with_suffix('.html').resolve() in pages
    for path,page in pages.items():
        body = copy(page.body)
        code = ' '.join(c.extract().get_text() for c in body.find_all('pre'))
        assert '#|' not in code and 'nbdev_export' not in code, f'{path.name} shows what is hidden'
        for raw in body.find_all(lambda e: e.name in ('code', 'script', 'style') or 'arithmatex' in e.get('class', ())): raw.extract()
        text = body.get_text()
        assert '$' not in text and '**' not in text and '](' not in text, f'{path.name} has raw markdown'
    assert len(pages[(site/'index.html').resolve()].find_all(class_='arithmatex')) > 20

def test_pictures_are_saved():
    for notebook in [*(root/'nbs').glob('*.ipynb'), *(root/'nbs'/'experiments').glob('*.ipynb')]:
        for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
            if '#| fig-alt' in ''.join(cell['source']): assert 'image/png' in json.dumps(cell['outputs']), (
                f"{notebook.name}, cell {cell['id']}: no picture is saved. Run the notebook and save it")

def test_reference(pages):
    import fastai_losses.all as everything
    reference = {p.stem: page for p,page in pages.items() if p.parent.name == 'reference'}
    for name,o in vars(everything).items():
        module = getattr(o, '__module__', '') or ''
        if not module.startswith('fastai_losses.') or name[0] == '_': continue
        heading = reference[module.split('.')[1]].find(id=name)
        assert heading, f'{name} is not in the reference'
        assert next(a for a in heading.find_all_next('a') if a.get_text() == 'Source')['href'].split('#')[1], name
    assert 'Above 0; 0.2 is the tuned inverse' in reference['probability'].get_text()

def test_reference_has_types_defaults_and_examples(site, pages):
    page = pages[(site/'reference'/'probability.html').resolve()]
    heading = page.find(id='InverseLoss')
    row = next(r for r in heading.find_next('table').find_all('tr') if r.find('code', string='power'))
    assert [c.get_text(strip=True) for c in row.find_all('td')][:3] == ['power', 'float', '1.0']
    assert 'InverseLoss(0.2)(outputs, labels)' in heading.find_next(class_='filename', string='Example').find_parent().get_text()
    first = pages[(site/'reference'/'index.html').resolve()]
    assert first.find('h2').find_next('a', string='CrossEntropy')

def test_search_shows_words(site):
    index = json.loads((site/'search'/'search_index.json').read_text(encoding='utf-8'))
    assert not [d['location'] for d in index['docs'] if re.search(r'\\[(\[]|\\(frac|lVert|log|sum|cos|text)\b', d['text'])]

def test_machinery_is_folded(site, pages):
    page = pages[(site/'10b_records.html').resolve()]
    assert page.find('details', class_='source') and not pages[(site/'00_core.html').resolve()].find('details', class_='source')

def test_front_page_is_light(site):
    files = [site/'index.html', *(site/'images').glob('index_*')]
    assert sum(f.stat().st_size for f in files) < 300*1024
