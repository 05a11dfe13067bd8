# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SLICER ?= .venv-slicer
LOWEST ?= .venv-lowest
# torch comes as a CPU build where one is at hand; pip's own settings decide where from.
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check slicer-test lowest-test viewer docs notebooks clean

demo: $(VENV)/.installed
	$(BIN)/medsal demo -o demo_out

test: $(VENV)/.installed-dev
	$(BIN)/pytest --numprocesses auto

# 3D Slicer's own code reads what medsal writes. It pins a vtk, so it has an environment to itself.
slicer-test: $(VENV)/.installed-dev $(SLICER)/.installed
	MEDSAL_SLICER_PYTHON=$(SLICER)/bin/python $(BIN)/pytest tests/export/test_slicer.py

# The oldest versions that pyproject.toml admits; of torch, PyPI's build: on Linux several GB. What
# they warn of, of one another, is no error.
lowest-test: $(LOWEST)/.installed
	$(LOWEST)/bin/pytest --numprocesses auto --override-ini filterwarnings=default

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The report's viewer, which is part of the repository; a newer one needs a new version here, in
# medsal/view/report/document.py and in the licence file beside it.
NIIVUE = @niivue/niivue@0.69.0
PAGE = medsal/view/report/page
viewer:
	npm pack --silent $(NIIVUE) --pack-destination $(PAGE)
	tar -xzOf $(PAGE)/niivue-niivue-*.tgz package/dist/niivue.umd.js | gzip -9n > $(PAGE)/niivue.umd.js.gz
	rm $(PAGE)/niivue-niivue-*.tgz

# The pages and the reference, into site/.
docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --strict --config-file configs/mkdocs.yml

# The tutorials, executed, into notebooks/.
notebooks: $(VENV)/.installed-dev
	$(BIN)/python tutorials/notebooks.py notebooks

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by itself: constrained, so that no other package pulls a newer one.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) torch
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps deepbet  # its weights: a tutorial needs nothing else of it
	touch $@

$(LOWEST)/.installed: pyproject.toml tests/lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --constraint tests/lowest.txt --editable '.[test,tutorials]'
	$(LOWEST)/bin/pip install --quiet --no-deps deepbet
	touch $@

$(SLICER)/.installed:
	$(PYTHON) -m venv $(SLICER)
	$(SLICER)/bin/pip install --quiet --disable-pip-version-check 'slicer-core>=5.13.31053' numpy
	touch $@

clean:
	rm -rf $(VENV) $(SLICER) $(LOWEST) demo_out site notebooks
