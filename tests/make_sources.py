"""Write `sources.bin` anew: hashes of every run of eight words in the texts that this project starts from.

    python tests/make_sources.py FOLDER    # with one .txt file for each text

The texts are not ours to publish, so the repository holds hashes, out of which no sentence can be read.
Every run is hashed, whatever it says. `test_sources.py` lists the runs that are allowed, and why.
"""
import hashlib,re,sys
from pathlib import Path

length = 8  # words in a run
size = 5    # bytes of a hash: among all runs of the repository a false alarm has a chance below 1 in 1,000
store = Path(__file__).parent/'sources.bin'

def words(text):
    "Lower-case words and numbers; punctuation, markup and spaces only separate them"
    return re.findall(r'\w+', text.lower())

def runs(text):
    "Every run of eight words, as one string each"
    found = words(text)
    return [' '.join(found[i:i+length]) for i in range(len(found) - length + 1)]

def hashed(run): return hashlib.blake2b(run.encode(), digest_size=size).digest()

def stored():
    "The hashes of the texts' runs"
    data = store.read_bytes()
    return {data[i:i+size] for i in range(0, len(data), size)}

if __name__ == '__main__':
    texts = [path.read_text(encoding='utf-8') for path in sorted(Path(sys.argv[1]).glob('*.txt'))]
    hashes = sorted({hashed(run) for text in texts for run in runs(text)})
    store.write_bytes(b''.join(hashes))
    print(len(texts), 'texts,', len(hashes), 'runs,', store.stat().st_size, 'bytes')
