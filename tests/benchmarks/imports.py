"What `import fastai_losses.all` costs on top of `import fastai.vision.all`: medians of fresh processes, in alternation"
import subprocess,sys
from statistics import median

code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
modules = 'fastai.vision.all','fastai.vision.all,fastai_losses.all'
seconds = {m: [] for m in modules}
for _ in range(9):
    for m in modules: seconds[m].append(float(subprocess.run([sys.executable, '-W', 'ignore', '-c', code.format(m)], capture_output=True, text=True, check=True).stdout))
base,ours = (median(seconds[m]) for m in modules)
print(f'import fastai.vision.all {base:.2f} s; with fastai_losses.all {ours:.2f} s: {ours-base:+.3f} s')
