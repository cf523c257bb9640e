"The pages of the site, which mkdocs (site/mkdocs.yml) makes of the notebooks as they are saved; the reference comes from the modules"
import ast,importlib,importlib.util,inspect,posixpath,re
from pathlib import Path
import nbformat
from fastcore.docments import docments
from mkdocs.structure.files import File
from make_readme import fence,markdown

nbs = Path(__file__).parent
texts = {'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md', 'README.md': 'index.md'}

machinery = {'04a_spherical_codes', '09c_pictures', '10a_views', '10b_records', '10c_fair_starts', '10d_identity', '10e_runs', '10f_pools', '10g_conformance'}  # lessons that nobody needs for using the package: last on the site

def notebooks(folder): return sorted(p for p in folder.glob('*.ipynb') if p.name[0] != '_' and p.stem != 'index')
def page(path): return path.relative_to(nbs).with_suffix('.md').as_posix()
def relative(target, page): return posixpath.relpath(target, posixpath.dirname(page) or '.')

class Lesson:
    "What a notebook defines, and in which of its cells"
    def __init__(self, path):
        self.page = page(path)
        cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'code']
        self.module = next((m[1] for c in cells if (m := re.match(r'#\|\s*default_exp\s+(\S+)', c))), None)
        self.defined = {name: f'source-{names[0]}'.lower() for c in cells if c.startswith('#| export') for names in [definitions(c)] for name in names}

def definitions(source):
    "Names of the functions, classes and patched methods in a cell"
    def name(node):
        patched = any('patch' in ast.unparse(d) for d in node.decorator_list) and node.args.args[0].annotation
        return f'{ast.unparse(patched)}.{node.name}' if patched else node.name
    return [name(n) for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]

def public(lesson): return importlib.import_module(f'fastai_losses.{lesson.module}').__all__ if lesson.module else []

def members(cls):
    "Methods and properties of a class that have a docstring of their own"
    own = {n: getattr(o, 'func', o) for n,o in vars(cls).items() if n[0] != '_'}
    return {n: o for n,o in own.items() if getattr(o, '__func__', o).__doc__ and (inspect.isroutine(o) or isinstance(o, property) or hasattr(o, '__func__'))}

def call(name, o):
    "A call as its signature would have it, without types"
    try: signature = inspect.signature(o)
    except ValueError: return name
    params = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else Shown(p.default)) for p in signature.parameters.values() if p.name not in ('self', 'cls')]
    return name + str(signature.replace(parameters=params, return_annotation=signature.empty))

class Shown:
    "A default by the name it has in the code"
    def __init__(self, value): self.value = value
    def __repr__(self): return getattr(self.value, '__name__', None) or repr(self.value)

def entry(name, o, level, source):
    "A function, class or method in the reference: signature, docstring, parameters, and a link to its source"
    o = getattr(o, '__func__', o)
    parts = [f"{'#'*level} {name} {{ #{name} }}"]
    if callable(o): parts.append(fence(call(name.split('.')[-1], o), '{.python .signature}'))
    parts.append(inspect.cleandoc(o.__doc__ or '').replace('\n', '  \n'))
    comments = {n: ' '.join(d.split()).replace('|', r'\|') for n,d in (docments(o) if callable(o) else {}).items() if d}
    returned = comments.pop('return', None)
    rows = [f'| `{n}` | {d} |' for n,d in comments.items()] + ([f'| *returns* | {returned} |'] if returned else [])
    if rows: parts.append('\n'.join(['| parameter | |', '|---|---|', *rows]))
    if source: parts.append(f'[Source]({source})')
    return '\n\n'.join(p for p in parts if p)

def reference(lesson, title):
    "The page of a module: everything public that its notebook defines"
    module = importlib.import_module(f'fastai_losses.{lesson.module}')
    here = f'reference/{lesson.module}.md'
    def source(name, cls=None): return f'{relative(lesson.page, here)}#{anchor}' if (anchor := lesson.defined.get(name) or lesson.defined.get(cls)) else ''
    parts = [f'# {lesson.module}', module.__doc__ or '', f"`from fastai_losses.{lesson.module} import *`, or all modules at once: `from fastai_losses.all import *`. Explained in [{title}]({relative(lesson.page, here)})."]
    for name in public(lesson):
        o = getattr(module, name)
        if not callable(o): continue
        parts.append(entry(name, o, 2, source(name)))
        if not inspect.isclass(o): continue
        bases = [b.__name__ for b in o.__bases__ if b.__module__.startswith('fastai_losses')]
        if bases: parts[-1] += '\n\nHas everything of ' + ', '.join(f'`{b}`' for b in bases) + '.'
        parts += [entry(f'{name}.{n}', m, 3, source(f'{name}.{n}', name)) for n,m in members(o).items()]
    return here, '\n\n'.join(parts) + '\n'

class Prose:
    "Text of a page: links lead to pages of the site, and names in code style to the reference"
    def __init__(self,
        page,    # Path of the page in the site
        names,   # Where the reference has a name
        folder,  # Where links start from, from the top of the repository; None: they are right as they are
        files,   # Set that files of the repository are added to, when a page links to them
    ): self.page,self.names,self.folder,self.files = page,names,folder,files

    def target(self, link):
        if self.folder is None: return link
        path,hash,anchor = link.partition('#')
        path = posixpath.normpath(posixpath.join(self.folder, path))
        if path in texts: to = texts[path]
        elif path.startswith('nbs/') and path.endswith('.ipynb'): to = path[4:-6] + '.md'
        else:
            to = f'files/{path}'
            self.files.add(path)
        return relative(to, self.page) + hash + anchor

    def name(self, m):
        to = self.names.get(m[1])
        return f'[{m[0]}]({relative(to, self.page)})' if to and not to.startswith(self.page + '#') else m[0]

    def line(self, text):
        text = re.sub(r'\]\((?!https?:|#)([^)\s]+)\)', lambda m: f']({self.target(m[1])})', text)
        return text if text.startswith('#') else re.sub(r'(?<!\[)`([A-Za-z]\w*)(?:\([^`]*\))?`(?!\])', self.name, text)

    def __call__(self, text):
        blocks = re.split(r'(^```.*?^```$)', text, flags=re.M | re.S)
        return ''.join(b if i%2 else '\n'.join(map(self.line, b.split('\n'))) for i,b in enumerate(blocks))

def pages():
    "Text and bytes of every page and picture by its path in the site, and the files of the repository that the pages link to"
    lessons = {p: Lesson(p) for p in notebooks(nbs)}
    names = {n: f'reference/{l.module}.md#{n}' for l in lessons.values() for n in public(l)}
    made,files = {},set()
    def prose_of(page, folder): return Prose(page, names, folder, files)
    for path in [nbs/'index.ipynb', *lessons, *notebooks(nbs/'experiments')]:
        lesson = lessons.get(path)
        prose = prose_of(page(path), posixpath.join('nbs', posixpath.dirname(page(path))))
        def code(text, marks):
            exported = lesson and marks.keys() & {'export', 'exporti'}
            first = next(iter(definitions(text)), None) if exported else None
            title = f'fastai_losses/{lesson.module}.py' if exported else 'Takes minutes: run by hand' if marks.keys() & {'slow', 'eval'} else ''
            anchor = f'<a id="{lesson.defined[first]}"></a>\n\n' if first else ''
            block = fence(text, f'{{.python title="{title}"}}' if title else 'python')
            if marks.get('code-fold') == 'true': block = f'<details markdown="1"><summary>Code</summary>\n\n{block}\n\n</details>'
            return anchor + block
        text,pictures = markdown(path, 'images', prose, code)
        made[page(path)] = text
        made.update({posixpath.join(posixpath.dirname(page(path)), name): data for name,data in pictures.items()})
        if lesson and public(lesson):
            to,text = reference(lesson, re.search('^# (.*)', text, flags=re.M)[1])
            made[to] = prose_of(to, None)(text)
    for source,to in texts.items():
        if to not in made: made[to] = prose_of(to, '')((nbs.parent/source).read_text(encoding='utf-8'))
    return made, files

def on_config(config):
    lessons = notebooks(nbs)
    config.nav = [
        {'Start': 'index.md'},
        {'Lessons': [page(p) for p in lessons if p.stem not in machinery]},
        {'Experiments': [page(p) for p in notebooks(nbs/'experiments')]},
        {'How it works': [page(p) for p in lessons if p.stem in machinery]},
        {'Reference': [f'reference/{l.module}.md' for l in map(Lesson, lessons) if public(l)]},
        {'Project': [to for source,to in texts.items() if to != 'index.md']}]
    return config

def on_files(files, config):
    made,linked = pages()
    for path,content in made.items(): files.append(File.generated(config, path, content=content))
    for path in sorted(linked):
        if (nbs.parent/path).is_file(): files.append(File.generated(config, f'files/{path}', abs_src_path=str(nbs.parent/path)))
    mathjax = Path(importlib.util.find_spec('mathjax').submodule_search_locations[0])/'static'/'mathjax'/'es5'/'tex-svg-full.js'
    files.append(File.generated(config, 'mathjax/tex-svg-full.js', abs_src_path=str(mathjax)))
    return files
