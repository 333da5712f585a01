# Two targets matter: `make demo` and `make test`. Each creates the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check wasm docs slow fuzz bench recipe presets exports pictures gpu scaling clean

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

# Slower checks: a training killed 50 times, killed at each point of a save, and stopped before each
# step in ten configurations. `fuzz` reads 100,000 damaged weights files.
slow: $(VENV)/dev
	KILLS=50 $(BIN)/python -m pytest tests/training/test_resume.py -k killed_repeatedly
	$(BIN)/python -m pytest -m slow

# Assembles the product of a matrix and a vector for export --format html.
wasm: $(VENV)/dev
	$(BIN)/python -c "import wasmtime, pathlib as p; f = p.Path('src/charlstm/pages/writer.wat'); \
	f.with_suffix('.wasm').write_bytes(bytes(wasmtime.wat2wasm(f.read_text())))"

# Runs the commands of README.md and docs/: minutes with tiny models, an hour with TEXT=input.txt.
docs: $(VENV)/dev
	$(BIN)/python tests/manual.py $(TEXT)

fuzz: $(VENV)/dev
	$(BIN)/python tests/fuzz.py 100000

# Half an hour on an idle machine; TEXT=input.txt, by default the text of the demo.
bench: $(VENV)/bench
	$(BIN)/python -m bench $(TEXT) > bench/results.md.part
	mv bench/results.md.part bench/results.md

# Three hours, and continues where it was stopped: compares options of training on TEXT.
recipe: $(VENV)/installed
	$(BIN)/python -m bench.recipe $(TEXT) $(OTHERS) > bench/recipe.md.part
	mv bench/recipe.md.part bench/recipe.md

# Half an hour: the preset keras-2016 beside the program it is named after, on Tiny Shakespeare as
# TEXT. With FOLDER, where bench/keras_2016.py has written, it also continues trainings of that program.
presets: $(VENV)/installed
	$(BIN)/python -m bench.presets $(TEXT) $(FOLDER) > bench/presets.md.part
	mv bench/presets.md.part bench/presets.md

# Ten minutes: measures every export of a model on a text.
exports: $(VENV)/dev
	$(BIN)/python -m bench.export $(CHECKPOINT) $(TEXT) > bench/exports.md.part
	mv bench/exports.md.part bench/exports.md

# The pictures of docs/, with Chromium; CHECKPOINT is the run of TEXT=input.txt.
pictures: $(VENV)/dev
	PYTHONPATH=tests $(BIN)/python -m bench.pictures $(CHECKPOINT) $(TEXT)

# Eight minutes, on a computer with a GPU and `pip install '.[cuda]'`; anywhere with DRY=--dry-run.
gpu: $(VENV)/bench
	$(BIN)/python -m bench.gpu $(DRY) > bench/gpu.md

# Ten minutes, on an idle machine with two cores: several processes beside one.
scaling: $(VENV)/installed
	$(BIN)/python -m bench.scaling > bench/scaling.md.part
	mv bench/scaling.md.part bench/scaling.md

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
