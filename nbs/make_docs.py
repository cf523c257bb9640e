"The pages of the site, which mkdocs (site/mkdocs.yml) makes of the notebooks as they are saved; the reference comes from the modules"
import ast,importlib,importlib.util,inspect,json,posixpath,re,runpy
from pathlib import Path
import nbformat
from fastcore.docments import docments
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from make_readme import fence,markdown

nbs = Path(__file__).parent
texts = {'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md', 'README.md': 'index.md'}

machinery = {p.stem for p in nbs.glob('10*.ipynb')} | {'04a_spherical_codes', '09c_pictures'}  # lessons that nobody needs for using the package: last on the site, with their source folded

use = {'Losses': '0[0-3]', 'Class vectors': '0[45]', 'Comparing losses': '09', 'Metrics, callbacks, data': '0[678]'}  # the other lessons by number, in the order of the site
questions = ['pets', 'unbalanced', 'label_noise', 'few_images', 'like_classes', 'many_classes', 'calibration', 'gradient', 'mnist_norms', 'mnist_warped']  # experiments, in the order of the site; others come after them
examples = runpy.run_path(nbs/'site'/'examples.py')['examples']

# What a user types beside the losses: modules by heading, in the order in which they are likely to be typed
typed = {
    'A comparison of losses': ['comparison', 'results', 'catalogue', 'console', 'pools'],
    'Metrics': ['metrics'],
    'Data and models': ['own_data', 'data', 'learners'],
    'Unbalanced classes': ['unbalanced', 'views'],
    'Class vectors': ['class_vectors', 'warped'],
    'Callbacks': ['callbacks']}

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
    if inspect.isclass(o) and not any('__init__' in vars(c) for c in o.__mro__ if c.__module__.startswith('fastai_losses')): return f'{name}()'  # fastai's own arguments say nothing of it
    try: signature = inspect.signature(o)
    except ValueError: return name
    params = [p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else Shown(p.default)) for p in signature.parameters.values() if p.name not in ('self', 'cls')]
    return name + str(signature.replace(parameters=params, return_annotation=signature.empty))

class Shown:
    "A default by the name it has in the code"
    def __init__(self, value): self.value = value
    def __repr__(self): return getattr(self.value, '__name__', None) or repr(self.value)

def type_name(annotation):
    "A type as a user would say it"
    if annotation in (inspect.Parameter.empty, None, type(None)): return ''
    text = getattr(annotation, '__name__', '') if isinstance(annotation, type) and not getattr(annotation, '__args__', ()) else str(annotation)
    return re.sub(r'\b\w+\.(?=\w)', '', text).replace('NoneType', 'None')

def in_table(text): return ' '.join(text.split()).replace('|', r'\|')

def parameters(o):
    "The rows of the table of parameters: name, type, default, what it is"
    facts = docments(o, full=True) if callable(o) else {}
    known = inspect.signature(o).parameters if callable(o) else {}
    for name,fact in facts.items():
        if not fact.docment: continue
        default = fact.default if name == 'return' or name not in known else known[name].default
        required = default is inspect.Parameter.empty
        label = '*returns*' if name == 'return' else f'`{name}`'
        kind = in_table(type_name(fact.anno))
        shown = '' if required else f'`{in_table(repr(Shown(default)))}`'
        yield f"| {label} | {f'`{kind}`' if kind else ''} | {shown} | {in_table(fact.docment)} |".replace(r'`\|', '`|')

def entry(name, o, level, source, example=None):
    "A function, class or method in the reference: signature, docstring, parameters, example, and a link to its source"
    o = getattr(o, '__func__', o)
    parts = [f"{'#'*level} {name} {{ #{name} }}"]
    if callable(o): parts.append(fence(call(name.split('.')[-1], o), '{.python .signature}'))
    parts.append(inspect.cleandoc(o.__doc__ or '').replace('\n', '  \n'))
    rows = list(parameters(o))
    if rows: parts.append('\n'.join(['| parameter | type | default | |', '|---|---|---|---|', *rows]))
    if example: parts.append(fence(example, '{.python title="Example"}'))
    if source: parts.append(f'[Source]({source})')
    return '\n\n'.join(p for p in parts if p)

def example_of(name, o):
    "An example of a public name; a loss that has none in site/examples.py is made as it makes itself"
    if name in examples: return examples[name]
    if not hasattr(o, 'example'): return None
    loss = o.example()
    arguments = ', '.join(f'{k}={v!r}' for k,v in loss.arguments.items() if not hasattr(v, 'shape'))
    return f'{name}()(outputs, labels)' if not arguments or repr(loss) == f'{name}()' else f'loss = {loss!r}'

def overview(lessons):
    "The first page of the reference: what a user types, each name with what it does in a line"
    parts = ['# Reference', 'What you type, by what you want. `from fastai_losses.all import *` brings all of it. In the examples `dls` are DataLoaders of ten classes, `outputs` are a tensor of shape (64, 10), and `labels` hold 64 class indices.']
    groups = {'A loss, for `loss_func=` of a Learner': [], **{heading: [] for heading in typed}, 'More': [], 'A loss of your own': []}
    for module,name,o in [(l.module, *named) for l in lessons if public(l) for named in public_objects(l)]:
        groups[group_of(module, o)].append((module, name, o))
    for heading,found in groups.items():
        modules = typed.get(heading, [])
        found.sort(key=lambda f: modules.index(f[0]) if modules else 0)
        rows = [f'| [`{name}`]({module}.md#{name}) | {first_line(o)} |' for module,name,o in found]
        if rows: parts += [f'## {heading}', '\n'.join(['| name | what it does |', '|---|---|', *rows])]
    return '\n\n'.join(parts) + '\n'

def group_of(module, o):
    "Under which heading of the overview a name stands"
    if is_base(o) or module == 'core': return 'A loss of your own'
    if hasattr(o, 'with_arguments'): return 'A loss, for `loss_func=` of a Learner'
    return next((heading for heading,modules in typed.items() if module in modules), 'More')

def first_line(o): return in_table(re.split(r'\n\n', inspect.cleandoc(o.__doc__ or ''))[0])

def is_base(o):
    "Whether a class is there to be subclassed: a loss that has no example of itself"
    from fastai_losses.core import loss_examples
    return inspect.isclass(o) and hasattr(o, 'with_arguments') and o not in {type(loss) for loss in loss_examples()}

def public_objects(lesson):
    "What a user types of a module, base classes last"
    module = importlib.import_module(f'fastai_losses.{lesson.module}')
    found = [(n, getattr(module, n)) for n in public(lesson)]
    return sorted([(n, o) for n,o in found if callable(o)], key=lambda named: is_base(named[1]))

def reference(lesson, title):
    "The page of a module: everything public that its notebook defines"
    module = importlib.import_module(f'fastai_losses.{lesson.module}')
    here = f'reference/{lesson.module}.md'
    def source(name, cls=None): return f'{relative(lesson.page, here)}#{anchor}' if (anchor := lesson.defined.get(name) or lesson.defined.get(cls)) else ''
    parts = [f'# {lesson.module}', module.__doc__ or '', f"`from fastai_losses.{lesson.module} import *`, or all modules at once: `from fastai_losses.all import *`. Explained in [{title}]({relative(lesson.page, here)})."]
    for name,o in public_objects(lesson):
        parts.append(entry(name, o, 2, source(name), example_of(name, o)))
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
            if exported and path.stem in machinery:
                block = f'<details class="source" data-search-exclude markdown="1"><summary>Source: {", ".join(map("<code>{}</code>".format, definitions(text))) or lesson.module}</summary>\n\n{block}\n\n</details>'
            elif marks.get('code-fold') == 'true': block = f'<details markdown="1"><summary>Code</summary>\n\n{block}\n\n</details>'
            return anchor + block
        text,pictures = markdown(path, 'images', prose, code)
        if path.stem in machinery: text = '---\nsearch:\n  boost: 0.3\n---\n\n' + text  # what serves users is found first
        made[page(path)] = text
        made.update({posixpath.join(posixpath.dirname(page(path)), name): data for name,data in pictures.items()})
        if lesson and public(lesson):
            to,text = reference(lesson, re.search('^# (.*)', text, flags=re.M)[1])
            made[to] = prose_of(to, None)(text)
    made['reference/index.md'] = prose_of('reference/index.md', None)(overview(list(lessons.values())))
    for source,to in texts.items():
        if to not in made: made[to] = prose_of(to, '')((nbs.parent/source).read_text(encoding='utf-8'))
    return made, files

def on_config(config):
    lessons,experiments = notebooks(nbs),{p.stem: page(p) for p in notebooks(nbs/'experiments')}
    which = experiments.pop('which_loss')
    asked = sorted(experiments, key=lambda name: questions.index(name) if name in questions else len(questions))
    def numbered(pattern): return [page(p) for p in lessons if re.match(pattern, p.stem) and p.stem not in machinery]
    config.nav = [
        {'Start': 'index.md'},
        {'Which loss?': which},
        *({title: numbered(pattern)} for title,pattern in use.items()),
        {'Experiments': [experiments[name] for name in asked]},
        {'How it works': [page(p) for p in lessons if p.stem in machinery]},
        {'Reference': ['reference/index.md', *(f'reference/{l.module}.md' for l in map(Lesson, lessons) if public(l))]},
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

# The search finds words: formulas are put as text, and code of the lessons is left to the reference
words = {'lVert': '‖', 'rVert': '‖', 'log': 'log ', 'sum': 'Σ', 'cos': 'cos', 'pm': '±', 'times': '×', 'cdot': '·', 'le': '≤', 'ge': '≥', 'ne': '≠', 'infty': '∞', 'gamma': 'gamma', 'varepsilon': 'epsilon', 'sigma': 'sigma', 'approx': '≈', 'in': 'in', 'to': '→', 'sqrt': '√'}

def in_words(tex):
    "A formula as text that can be read in a line"
    tex = re.sub(r'\\frac\s*(\{[^{}]*\}|\w)\s*(\{[^{}]*\}|\w)', r'\1/\2', tex)
    tex = re.sub(r'\\(?:text|mathrm|operatorname|mathbf)\s*\{([^}]*)\}', r'\1', tex)
    tex = re.sub(r'\\([A-Za-z]+)', lambda m: words.get(m[1], ' '), tex)
    return re.sub(r'\s+', ' ', re.sub(r'[\\{}]', '', tex)).strip()

def searchable(location, text):
    "The text of a place as the search shows it"
    if not location.startswith('reference/'): text = re.sub(r'<pre>.*?</pre>|fastai_losses/\w+\.py', '', text, flags=re.S)
    text = re.sub(r'\\\((.*?)\\\)', lambda m: in_words(m[1]), text, flags=re.S)
    return re.sub(r'\\\[(.*?)\\\]', lambda m: in_words(m[1]), text, flags=re.S)

@event_priority(-50)  # after the search has written its index, before the offline plugin copies it
def on_post_build(config):
    path = Path(config.site_dir)/'search'/'search_index.json'
    index = json.loads(path.read_text(encoding='utf-8'))
    for doc in index['docs']: doc['text'] = searchable(doc['location'], doc['text'])
    path.write_text(json.dumps(index, ensure_ascii=False, separators=(',', ':')), encoding='utf-8')
