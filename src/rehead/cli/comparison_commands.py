"""The commands `compare` and `search`; see `rehead.cli.commands`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from rehead.cli.commands import duration

if TYPE_CHECKING:
    from rehead.data.parts import Sources


def compare(options: argparse.Namespace) -> None:
    sources = _sources(options)
    from rehead.cli import printing
    from rehead.comparison.approaches import TITLES
    from rehead.comparison.compare import compare as run

    result = run(
        sources,
        names=_listed(options.approaches) if options.approaches else list(TITLES),
        bases=_listed(options.base),
        n_examples=options.examples,
        budget=duration(options.budget),
        max_length=options.max_length,
        random_state=options.seed,
        output=options.output,
        resume=options.resume,
    )
    if options.json:
        print(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        printing.comparison(result.to_json())


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def search(options: argparse.Namespace) -> None:
    sources = _sources(options)
    from rehead.classifier import Classifier
    from rehead.cli import printing
    from rehead.comparison.search import search as run
    from rehead.workflows.fit import fit

    model = Classifier(options.base, max_length=options.max_length, random_state=options.seed)
    budget = None if options.budget is None else duration(options.budget)
    found = run(sources, model, n_trials=options.trials, storage=options.storage, budget=budget)
    fitted = fit(sources, found.model, options.output).to_json()
    if options.json:
        print(json.dumps({**fitted, "search": found.to_json()}, ensure_ascii=False))
    else:
        printing.search(found.to_json())
        printing.evaluation(fitted)


def _sources(options: argparse.Namespace) -> Sources:
    """What is given; names that nothing has are refused before torch is imported, which takes seconds."""
    from rehead.data.samples import require_source

    for data in filter(None, (options.data, options.test)):
        require_source(data)
    from rehead.data.parts import Sources

    return Sources(options.data, test=options.test, text_column=options.text_column, label_column=options.label_column)
