# Everything happens in .venv; nothing is put into the system's Python.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: demo test slow lint docs clean

demo: $(STAMP)
	$(VENV)/bin/rpcserver demo

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n auto

slow: $(STAMP)
	$(VENV)/bin/python -m pytest -m slow

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The pages of docs/reference, from the code.
docs: $(STAMP)
	$(VENV)/bin/python docs/generate.py

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
