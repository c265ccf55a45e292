# `make demo` and `make test` need python3 (3.11 or newer) and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PEERS ?= peers/flows/bin/python
MNIST ?= mnist.npz
# A process for each core, of one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-plain test-slow notebook lint format bench bench-full peers clean

demo: $(VENV)/.installed
	$(BIN)/pushforward demo

test: $(VENV)/.installed
	$(PYTEST)

# What calls fast code somewhere, in the textbook's form; the rest of the suite is the same in either.
test-plain: $(VENV)/.installed
	PUSHFORWARD_PLAIN=1 $(PYTEST) tests/test_elementwise.py tests/test_bases.py \
		tests/test_flow*.py tests/test_ensemble.py tests/test_models.py tests/test_golden.py tests/test_objectives.py \
		tests/test_train_*.py \
		src/pushforward/bijections src/pushforward/recipes src/pushforward/training

test-slow: $(VENV)/.installed
	$(PYTEST) -m slow

notebook: $(VENV)/.installed
	PUSHFORWARD_STEPS=60 $(BIN)/python -m pytest -q --nbmake notebooks

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every figure of the README, at one commit. Under an hour on two cores; downloads nothing, and says what is absent.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/bench.py --peers $(PEERS)

# Some nine hours; each script goes on where it was stopped, or says which sets are absent. MNIST has x_train and x_test.
bench-full: bench
	$(BIN)/python benchmarks/real_tables.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/verdicts.py
	$(BIN)/python benchmarks/anomalies.py
	$(BIN)/python benchmarks/photoz.py
	$(BIN)/python benchmarks/anytime.py --peers $(PEERS)
	$(BIN)/python benchmarks/samples.py
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/images.py --data $(MNIST)

# The other libraries, in environments of their own: this downloads.
peers: $(VENV)/.installed
	$(PYTHON) -m venv peers/flows
	peers/flows/bin/pip install --quiet -r benchmarks/peers-requirements.txt
	$(BIN)/python benchmarks/samples.py --setup

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache
