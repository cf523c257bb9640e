"Write README.md, and the pictures in it, from nbs/index.ipynb as it is saved"
import posixpath,re
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

def readme(
    nbs:Path,  # Folder of the notebooks
):             # The text of README.md, and the bytes of its pictures by their path from the top of the repository
    "README.md and its pictures: cells marked `#| hide` are left out, those marked `#| echo: false` show only what they put out"
    nb = nbformat.read(nbs/'index.ipynb', as_version=4)
    nb.cells = [c for c in nb.cells if '#| hide' not in c.source]
    for cell in nb.cells:
        if '#| echo: false' in cell.source: cell.metadata['tags'] = ['output_only']
        if cell.cell_type == 'markdown': cell.source = re.sub(r'\]\((?!https?:|#)([^)]+)\)', lambda m: f"]({posixpath.normpath('nbs/' + m[1])})", cell.source)
    alts = iter(re.findall(r'^#\| fig-alt: (.*)$', '\n'.join(c.source for c in nb.cells), flags=re.M))
    config = Config({'TagRemovePreprocessor': {'enabled': True, 'remove_input_tags': {'output_only'}}})
    text,resources = MarkdownExporter(config=config).from_notebook_node(nb, {'output_files_dir': 'nbs/images', 'unique_key': 'index'})
    text = re.sub(r'\s*!\[png\]', lambda _: f'\n\n![{next(alts)}]', text)
    return re.sub(r'\s*\n{3,}', '\n\n', text).strip() + '\n', resources['outputs']

if __name__ == '__main__':
    nbs = Path(__file__).parent
    text,pictures = readme(nbs)
    (nbs.parent/'README.md').write_text(text, encoding='utf-8')
    for path,data in pictures.items():
        (nbs.parent/path).parent.mkdir(exist_ok=True)
        (nbs.parent/path).write_bytes(data)
    print(f"README.md, {', '.join(pictures) or 'no pictures'}")
