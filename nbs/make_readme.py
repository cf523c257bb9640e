"Write README.md, and the pictures in it, from nbs/index.ipynb as it is saved; make_docs.py shows the other notebooks in the same way"
import base64,posixpath,re
from pathlib import Path
import nbformat

def fence(
    text:str,        # What stands between
    info='python',   # Language, or attributes in braces
):
    "A code block in markdown"
    marks = '`'*max(3, 1 + max(map(len, re.findall('`+', text)), default=0))
    return f'{marks}{info}\n{text.strip()}\n{marks}'

def output(
    out,     # An output of a cell
    alt:str, # What a picture shows, in words
    save,    # Function of a picture's bytes that says where the text finds it
    prose=lambda text: text,  # What becomes of text in markdown
):
    "An output as markdown: the picture or the table if there is one, else the text"
    data = out.get('data') or {'text/plain': out.text}
    if 'image/png' in data: return f"![{alt}]({save(base64.b64decode(data['image/png']))})"
    if 'text/markdown' in data: return prose(data['text/markdown'])
    if 'text/html' in data: return re.sub(r'<style.*?</style>|(?<=<table)[^>]*|(?<=<tr)[^>]*|\n\s*(?=\n)', '', data['text/html'], flags=re.S)
    text = re.sub(r'\x1b\[[\d;]*m', '', data['text/plain']).strip('\n')
    if not text.strip(): return ''
    return fence(text, '{.text .output}' if '\n' in text else '{.text .output .line}')

def markdown(
    path:Path,                            # A notebook
    folder:str,                           # Where the text finds its pictures
    prose=lambda text: text,              # What becomes of text in markdown
    code=lambda text, marks: fence(text), # What becomes of a code cell, by its source and its directives
):                                        # Text, and the bytes of the pictures by their path
    "The notebook as it is saved: cells marked `#| hide` are left out, those marked `#| echo: false` show only what they put out"
    parts,pictures,i,heading = [],{},-1,path.stem
    for cell in nbformat.read(path, as_version=4).cells:
        marks = dict(re.findall(r'^#\|[ \t]*([\w-]+):?[ \t]*(.*?)[ \t]*$', cell.source, flags=re.M)) if cell.cell_type == 'code' else {}
        if marks.keys() & {'hide', 'default_exp'}: continue
        i += 1
        if cell.cell_type != 'code':
            heading = ([heading] + re.findall('^#+ (.*)', cell.source, flags=re.M))[-1]
            parts.append(prose(cell.source))
            continue
        text = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
        if text.strip() and marks.get('echo') != 'false': parts.append(code(text, marks))
        for j,out in enumerate(cell.outputs):
            def save(data):
                pictures[name := posixpath.join(folder, f'{path.stem}_{i}_{j}.png')] = data
                return name
            parts.append(output(out, marks.get('fig-alt', heading), save, prose))
    return '\n\n'.join(p.strip('\n') for p in parts if p) + '\n', pictures

def readme(
    nbs:Path,  # Folder of the notebooks
):             # The text of README.md, and the bytes of its pictures by their path from the top of the repository
    "README.md and its pictures; links are taken from the folder of the notebooks to the top of the repository"
    def prose(text): return re.sub(r'\]\((?!https?:|#)([^)]+)\)', lambda m: f"]({posixpath.normpath('nbs/' + m[1])})", text)
    text,pictures = markdown(nbs/'index.ipynb', 'nbs/images', prose)
    return re.sub(r'(?m)^```\{\.text .*\}$', '```text', text), pictures  # GitHub knows no attributes

if __name__ == '__main__':
    nbs = Path(__file__).parent
    text,pictures = readme(nbs)
    (nbs.parent/'README.md').write_text(text, encoding='utf-8')
    for path,data in pictures.items():
        (nbs.parent/path).parent.mkdir(exist_ok=True)
        (nbs.parent/path).write_bytes(data)
    print(f"README.md, {', '.join(pictures) or 'no pictures'}")
