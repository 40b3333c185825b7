"""What each command does: calls, and prints. Whatever takes time to import is imported when a command needs it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rehead.cli.inputs import is_of_images
from rehead.runtime.errors import DataError, SettingError

if TYPE_CHECKING:
    from rehead.evaluation.decisions import DecisionConfig


def duration(text: str) -> float:
    """Seconds in "90s", "10m", "2h" or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or not float(match.group(1)):
        raise SettingError(f"--budget must be a time such as 90s, 10m or 2h, not {text!r}")
    return float(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600}[match.group(2)]


def fit(options: argparse.Namespace) -> None:
    depth = options.depth
    if depth != "auto":
        try:
            depth = int(depth)
        except ValueError:
            raise SettingError(f"--depth must be auto or a number of blocks, not {depth!r}") from None
    from rehead.data.samples import require_source

    for data in filter(None, (options.data, options.validation, options.test)):
        require_source(data)  # before torch is imported, which takes seconds
    from rehead.classifier import Classifier
    from rehead.cli import printing
    from rehead.data.parts import Sources
    from rehead.workflows.fit import fit
    from rehead.workflows.plan import plan

    model = Classifier(
        options.base,
        tune=options.tune,
        preset=options.preset,
        ngrams=not options.no_ngrams,
        depth=depth,
        pool=options.pool,
        max_length=options.max_length,
        long=options.long,
        views=options.views,
        average_views=options.average_views,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        label_smoothing=options.label_smoothing,
        class_weight=options.class_weight,
        budget=None if options.budget is None else duration(options.budget),
        random_state=options.seed,
    )
    sources = Sources(
        options.data,
        options.validation,
        options.test,
        options.text_column,
        options.label_column,
        options.group_column,
        options.time_column,
        options.label_separator,
    )
    decisions = _decisions(options)
    if options.dry_run:
        expected = plan(sources, model).to_json()
        _print_json(expected) if options.json else printing.plan(expected)
        return
    facts = fit(
        sources,
        model,
        options.output,
        resume=options.resume,
        n_folds=options.cv,
        decisions=decisions,
        full_report=options.full_report,
    ).to_json()
    if options.json:
        _print_json(facts)
    else:
        printing.evaluation(facts)
        print(f"\nmodel   {facts['model']}\nreport  {facts['report']}")


def _decisions(options: argparse.Namespace) -> DecisionConfig:
    from rehead.evaluation.decisions import DecisionConfig

    given = [name for name in ("precision", "recall", "f1") if getattr(options, name)]
    if len(given) > 1:
        raise SettingError(f"--{given[0]} and --{given[1]} are two ways to choose a threshold; give one of them")
    measure = given[0] if given else None
    label, least = options.f1, 0.0
    if options.precision or options.recall:
        label, equals, number = (options.precision or options.recall).rpartition("=")
        try:
            least = float(number)
        except ValueError:
            equals = ""
        if not equals or not 0 < least <= 1:
            raise SettingError(f"--{measure} must be a class and a number up to 1, such as spam=0.99")
    return DecisionConfig(measure, label, least, _costs(options.costs), options.abstain_below, options.coverage)


def _costs(file: str | None) -> dict[str, dict[str, float]] | None:
    if file is None:
        return None
    form = 'write it as {"true label": {"answer": cost, ...}, ...}'
    try:
        told = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"--costs: cannot read {file} ({error.strerror or error})") from error
    except ValueError as error:
        raise SettingError(f"--costs: {file} is not JSON ({error}); {form}") from error
    numbers = isinstance(told, dict) and all(
        isinstance(answers, dict) and all(isinstance(cost, int | float) for cost in answers.values())
        for answers in told.values()
    )
    if not numbers:
        raise SettingError(f"--costs: {file} holds something else; {form}")
    return {truth: dict(answers) for truth, answers in told.items()}


def evaluate(options: argparse.Namespace) -> None:
    from rehead.data.samples import require_source

    require_source(options.data)
    from rehead.cli import printing
    from rehead.data.parts import Sources
    from rehead.workflows.evaluate import evaluate

    sources = Sources(options.data, text_column=options.text_column, label_column=options.label_column)
    facts = evaluate(options.model, sources, options.report).to_json()
    if options.json:
        _print_json(facts)
    else:
        printing.evaluation(facts)
        if options.report:
            print(f"\nreport  {facts['report']}")


def instruct(options: argparse.Namespace) -> None:
    from rehead.cli import printing
    from rehead.instruction.instruct import instruct as run

    done = run(
        options.data,
        options.base,
        tune=options.tune,
        style=options.style,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_length=options.max_length,
        random_state=options.seed,
        output=options.output,
        resume=options.resume,
    )
    if options.json:
        print(json.dumps(done.to_json(), ensure_ascii=False))
    else:
        printing.instruction(done.to_json())


def generate(options: argparse.Namespace) -> None:
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not prompt.strip():
        raise SettingError("the prompt is empty; give a request")
    import time
    from dataclasses import asdict

    from transformers import TextStreamer

    from rehead.instruction.generation import Sampling
    from rehead.instruction.writer import Writer

    sampling = Sampling(options.max_tokens, options.temperature, options.top_p, options.seed)
    writer = Writer.load(options.model)
    shown = None
    if not options.json:
        shown = TextStreamer(writer.base.tokenizer, skip_prompt=True, skip_special_tokens=True)
    begun = time.perf_counter()
    answer = writer.generate(prompt, **asdict(sampling), streamer=shown)
    if options.json:
        seconds = time.perf_counter() - begun
        print(json.dumps({"answer": answer, "seconds": {"generate": seconds}}, ensure_ascii=False))


def inspect(options: argparse.Namespace) -> None:
    from rehead.data.samples import require_source

    *models, data = options.given
    studies = options.label_errors is not None or options.learning_curve
    if len(models) > 1 or bool(models) != studies:
        raise SettingError("give DATA alone, or MODEL and DATA with --label-errors or --learning-curve")
    for source in filter(None, (data, options.test)):
        require_source(source)
    from rehead.analysis import label_study
    from rehead.analysis.inspection import inspect
    from rehead.cli import printing
    from rehead.data.parts import Sources

    sources = Sources(
        data,
        test=options.test,
        text_column=options.text_column,
        label_column=options.label_column,
        label_separator=options.label_separator,
    )
    if not models:
        facts = inspect(sources, options.base, options.max_length).to_json()
        _print_json(facts) if options.json else printing.inspection(facts)
        return
    facts = label_study.LabelReport(
        errors=None
        if options.label_errors is None
        else label_study.label_errors(models[0], sources, options.label_errors or None),
        learning_curve=label_study.curve_of_model(models[0], sources) if options.learning_curve else None,
    ).to_json()
    _print_json(facts) if options.json else printing.label_study(facts)


def explain(options: argparse.Namespace) -> None:
    from rehead.data.samples import require_source

    if options.data:
        require_source(options.data)
    from rehead.cli import printing

    if is_of_images(options.text):
        _explain_image(options)
        return
    from rehead.analysis.explanation import explain
    from rehead.data.parts import Sources

    sources = (
        Sources(options.data, text_column=options.text_column, label_column=options.label_column)
        if options.data
        else None
    )
    facts = explain(options.model, options.text, sources).to_json()
    _print_json(facts) if options.json else printing.explanation(facts)


def _explain_image(options: argparse.Namespace) -> None:
    if not Path(options.text).is_file():
        raise DataError(f"{options.text}: no such file; check the path")
    if options.data:
        raise SettingError("--data is for texts; for an image leave it out")
    from rehead.analysis.image_explanation import explain_image

    output = options.output or f"{Path(options.text).stem}.explained.png"
    facts = explain_image(options.model, options.text, output).to_json()
    if options.json:
        _print_json(facts)
    else:
        label = facts["label"]
        print(f"{label} {facts['probabilities'][label]:.4f}\nheat map  {facts['heat_map']}")


def bases(options: argparse.Namespace) -> None:
    from rehead.models.registry import CATALOGUE

    entries: dict[str, dict[str, Any]] = {
        name: {"about": entry.about, "licence": entry.licence, "package": entry.package}
        for name, entry in CATALOGUE.items()
    }
    _print_catalogue(entries, options.json)
    if not options.json:
        print("tfidf\tword and character n-grams with logistic regression; no pretrained model, nothing to fetch")


def samples(options: argparse.Namespace) -> None:
    from rehead.data.samples import PREFIX, SAMPLES

    entries: dict[str, dict[str, Any]] = {
        f"{PREFIX}{name}": {"about": sample.about, "licence": sample.licence, "package": sample.package}
        for name, sample in SAMPLES.items()
    }
    _print_catalogue(entries, options.json)
    if not options.json:
        print("sample:digits\t1,797 images of handwritten digits; CC BY 4.0; comes with scikit-learn")


def cache(options: argparse.Namespace) -> None:
    from rehead.training import cache_room

    facts = {"freed_bytes": cache_room.clear()} if options.clear else cache_room.overview()
    if options.json:
        _print_json(facts)
    elif options.clear:
        print(f"{cache_room.megabytes(facts['freed_bytes'])} freed")
    else:
        print(*cache_room.as_lines(facts), sep="\n")


def _print_catalogue(entries: dict[str, dict[str, Any]], as_json: bool) -> None:
    from rehead.runtime.downloads import is_fetched

    rows = [
        {
            "name": name,
            "about": entry["about"],
            "licence": entry["licence"],
            "package": entry["package"].title,
            "megabytes": entry["package"].megabytes,
            "fetched": is_fetched(entry["package"]),
        }
        for name, entry in entries.items()
    ]
    if as_json:
        _print_json({"entries": rows})
        return
    for row in rows:
        state = "on this machine" if row["fetched"] else f"{row['megabytes']:g} MB to fetch"
        print(f"{row['name']}\t{row['about']}; {row['licence']}; {state}")


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False))
