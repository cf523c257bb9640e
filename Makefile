# make compare       train the same model with every loss and print the table (DATA=digits or pets, ARGS="--epochs 2 ...")
# make test          run every notebook and every test, and check that notebooks, modules and README are in step
# make bench         time the losses beside torch's and fastai's
# make conformance   try every loss, and fastai's and torch's own, in everything that these do with one, and show it in nbs/10g_conformance.ipynb
# make docs          build the site in _site/, to be read without a network: open _site/index.html
# make readme        write README.md from nbs/index.ipynb
PYTHON ?= python3
DATA ?= digits
ARGS ?=
# keep compiled modules, whatever the environment says: without them every notebook compiles torch and fastai anew
unexport PYTHONDONTWRITEBYTECODE
# for notebooks that import fastai before this package, which otherwise keeps these from the user
export PYTHONWARNINGS = ignore::FutureWarning:torch.jit._script,ignore:IProgress not found

.PHONY: compare test bench conformance docs readme
compare: .venv/installed
	.venv/bin/compare_losses --data $(DATA) $(ARGS)

test: .venv/installed
	OMP_NUM_THREADS=1 .venv/bin/nbdev-test --n-workers 2
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile

bench: .venv/installed
	.venv/bin/python tests/benchmarks/losses.py
	.venv/bin/python tests/benchmarks/imports.py
	.venv/bin/python tests/benchmarks/class_vectors.py
	.venv/bin/python tests/benchmarks/warped.py
	.venv/bin/python tests/benchmarks/comparison.py

conformance: .venv/installed
	.venv/bin/python tests/conformance.py
	.venv/bin/nbdev-test --n-workers 1 --save --file-re '^10g_' nbs
	.venv/bin/nbdev-clean

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --config-file nbs/site/mkdocs.yml
	@echo "Open _site/index.html"

readme: .venv/installed
	.venv/bin/python nbs/make_readme.py

.venv/installed: settings.ini setup.py pyproject.toml
	@echo "Installing into .venv; the first time this takes some minutes"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $@
