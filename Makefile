# Everything happens in .venv; nothing is put into the system's Python.
PYTHON ?= python3
VENV := .venv
INSTALL = @command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or newer, or say PYTHON=..."; exit 1; }; \
	$(PYTHON) requirements/install.py

.PHONY: demo test slow lint docs lock test-latest clean

demo:
	$(INSTALL) run
	$(VENV)/bin/rpcserver demo

test:
	$(INSTALL) test
	$(VENV)/bin/python -m pytest -n auto

slow:
	$(INSTALL) test
	$(VENV)/bin/python -m pytest -m slow

lint:
	$(INSTALL) test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# The pages of docs/reference, from the code.
docs:
	$(INSTALL) test
	$(VENV)/bin/python docs/generate.py

# requirements/*.txt from the ranges of pyproject.toml; with UPGRADE=1 the newest that they allow.
lock:
	$(PYTHON) requirements/lock.py

# The tests against the newest packages that the ranges allow, and what moved against the lock.
test-latest:
	$(INSTALL) test
	$(PYTHON) requirements/latest.py

clean:
	rm -rf $(VENV) $(VENV)-lock $(VENV)-latest
