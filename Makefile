# make demo    set up, then the main job: base, FGSM and R on the bundled digits
# make test    set up, then lint, types, import layers and all tests
# Set-up goes into .venv and is done again only when the dependencies change.

PYTHON ?= python3
BIN := .venv/bin
export UV_COMPILE_BYTECODE := 1

.PHONY: demo test lint types layers tests format fuzz fuzz-op soak lock clean

demo: .venv/ready
	$(BIN)/resolute compare

test: lint types layers tests

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/ready
	$(BIN)/mypy

layers: .venv/ready
	$(BIN)/lint-imports

tests: .venv/ready
	$(BIN)/pytest -n 2

format: .venv/ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# SECONDS for each reader of a foreign format; findings lie in fuzz/READER.
SECONDS ?= 60
fuzz: .venv/ready
	$(BIN)/uv pip install -q --python $(BIN)/python "atheris>=3.0"
	PYTHONPATH=tests $(BIN)/python tests/fuzz.py $(SECONDS)

# CASES random networks of one perturbed activation, each against plain operations.
CASES ?= 100000
fuzz-op: .venv/ready
	PYTHONPATH=tests $(BIN)/python tests/fuzz_op.py $(CASES)

# Trains, kills, resumes and compares for MINUTES; memory, file handles and threads must stay flat.
MINUTES ?= 60
soak: .venv/ready
	PYTHONPATH=tests $(BIN)/python tests/soak.py $(MINUTES)

# Newer versions of everything, tested together; without addresses.
lock: .venv/ready
	$(BIN)/uv pip compile -q --upgrade --group dev --no-annotate --no-header --extra lab pyproject.toml -o requirements.txt

.venv/ready: pyproject.toml requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade uv
	$(BIN)/uv pip install -q --python $(BIN)/python --editable ".[lab]" --group dev --constraints requirements.txt
	touch $@

clean:
	rm -rf .venv build dist
