# make run    the quickstart suite, in an environment of its own
# make test   the whole test-suite
# make fuzz   the property tests with fresh seeds and fifty times the examples
# make check  formatting, lint and types
# make zoo    rewrite the index of the zoo, after a model of it or the way of counting has changed
# make publish RUN=quickstart   copy a run to results/ without weights and logits, with a report of lean page
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: run test fuzz check zoo publish clean

run: $(INSTALLED)
	$(VENV)/bin/kdbench run quickstart

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal

fuzz: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m hypothesis --hypothesis-profile fuzz --numprocesses 2 --dist worksteal

check: $(INSTALLED)
	$(VENV)/bin/ruff format --check kdbench tests benchmarks
	$(VENV)/bin/ruff check kdbench tests benchmarks
	$(VENV)/bin/mypy

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kdbench needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

zoo: $(INSTALLED)
	$(VENV)/bin/python -m kdbench.efficiency.zoo

publish:
	mkdir -p results/$(RUN)
	tar -C runs/$(RUN) --exclude='*.safetensors' --exclude='.lock' --exclude='./cohorts' \
		--exclude=./report -cf - . | tar -C results/$(RUN) -xf -
	$(VENV)/bin/kdbench report results/$(RUN) --page lean
	rm -f results/$(RUN)/report/figures/*.pdf
	$(VENV)/bin/kdbench check results/$(RUN) --records-only

clean:
	rm -rf $(VENV) runs
