# Two targets matter: `make demo` and `make test`. Each makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow fuzz bench exports clean

demo: $(VENV)/installed
	$(BIN)/charlstm train --demo --overwrite
	$(BIN)/charlstm sample checkpoints/demo --prime "The " --length 400 --temperature 0.5 --seed 1
	@echo

test: $(VENV)/dev
	$(BIN)/python -m pytest -n auto

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto

# Slower checks: a training killed 50 times and at each point of a save, stopped before each step in
# ten configurations; 100,000 damaged weights files.
slow: $(VENV)/dev
	KILLS=50 $(BIN)/python -m pytest tests/training/test_resume.py -k again_and_again
	$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/dev
	$(BIN)/python tests/fuzz.py 100000

# Half an hour on a machine that does nothing else; TEXT=input.txt, or else the demo's text.
bench: $(VENV)/bench
	$(BIN)/python -m bench $(TEXT) > bench/results.md.part
	mv bench/results.md.part bench/results.md

# Ten minutes: each export of a model, measured on a text.
exports: $(VENV)/dev
	$(BIN)/python -m bench.export $(CHECKPOINT) $(TEXT) > bench/exports.md.part
	mv bench/exports.md.part bench/exports.md

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

$(VENV)/bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache dist
