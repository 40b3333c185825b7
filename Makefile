# make demo   from nothing to a spam classifier
# make demo-images   the same with images: handwritten digits
# make test   format, lint, types, layers and every test, the slow ones too
# make check  format, lint, types, layers and the fast tests of the core
# make lines  the lines of each room, of the core and of the whole, against main and the budget
# make tree   the tree of the source in CONTRIBUTING.md, anew
# make lower  the budgets of lines and words, down to the present counts
# make bench  the accuracy table of README (needs the SMS Spam Collection: make bench DATA=path)

PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data/sms/SMSSpamCollection
# One thread for each of the tests that run side by side. Those of clusters run alone: side by side they take ten times as
# long. So do those of the real weights, with all threads, as people use them.
PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(PYTEST) --numprocesses auto --dist loadfile
# What the core is made of: no server, cluster, export or child process of the command's.
CORE := tests/data tests/evaluation tests/models tests/training tests/test_layers.py tests/test_packaging.py
# Nothing waits for another: types take as long on one core as the rest does on the other.
ALL_AT_ONCE := $(MAKE) --no-print-directory --jobs 4 style types house
SPAM := WINNER!! You have been selected to receive a £900 prize. To claim call 09061701461. Valid 12 hours only.
HAM := Running late, see you at the station around seven. Shall I bring anything?

.PHONY: demo demo-images test check style types house tests core-tests lines tree lower faults bench install clean
.DELETE_ON_ERROR:

# pip's constraints pin what was tested; what is imported is compiled then, a part of what is installed. The stamp is
# written last, so an interrupted install starts again.
.venv/installed: pyproject.toml constraints.txt
	@echo "== installing rehead and what it needs into .venv (a few minutes the first time)"
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "rehead needs Python 3.11 or newer"'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: .venv/installed

demo: .venv/installed
	@echo "== fine-tuning MiniLM as a spam filter on sample:sms (fetches 90 MB the first time)"
	@$(BIN)/rehead fit sample:sms --model minilm --output demo/sms
	@echo
	@echo "== classifying two messages"
	@printf '%s\n' '$(SPAM)' '$(HAM)' | $(BIN)/rehead predict demo/sms -

demo-images: .venv/installed
	@echo "== fine-tuning EfficientNet-lite0 to read handwritten digits (fetches 17 MB the first time)"
	@$(BIN)/rehead fit sample:digits --strategy head --output demo/digits

test: .venv/installed
	@echo "== checking format, types and layers, and running every test (about half an hour on two cores)"
	+@$(ALL_AT_ONCE) tests

check: .venv/installed
	+@$(ALL_AT_ONCE) core-tests

style: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed
	$(BIN)/mypy

house: .venv/installed
	$(BIN)/lint-imports
	$(BIN)/python tools/lines.py
	$(BIN)/python tools/words.py
	$(BIN)/python tools/tree.py --check

tests: .venv/installed
	OMP_NUM_THREADS=1 $(PYTEST) tests/cluster
	$(SIDE_BY_SIDE) --ignore tests/cluster --ignore tests/test_real_weights.py
	$(PYTEST) tests/test_real_weights.py

core-tests: .venv/installed
	$(SIDE_BY_SIDE) -m 'not slow' $(CORE)

lines: .venv/installed
	@$(BIN)/python tools/lines.py

tree: .venv/installed
	@$(BIN)/python tools/tree.py

lower: .venv/installed
	@$(BIN)/python tools/lines.py --lower
	@$(BIN)/python tools/words.py --lower

faults: .venv/installed
	@echo "== kills, full disks, limits, flipped bits and clocks that jump (about seven minutes)"
	@$(BIN)/python -m tests.faults

bench: .venv/installed
	$(BIN)/python benchmarks/book_split.py $(DATA)

clean:
	rm -rf .venv demo
