"""`rehead fit`: from labelled data to a saved and measured classifier."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rehead.cli import arguments
from rehead.cli.inputs import sources_of
from rehead.cli.terminal import console, print_json
from rehead.runtime import progress
from rehead.runtime.errors import SettingError
from rehead.runtime.wording import counted

if TYPE_CHECKING:
    from rehead.evaluation.decisions import DecisionConfig
    from rehead.training.callbacks import Callback
    from rehead.workflows.results import FitPlan, FitResult

EXAMPLE = "rehead fit tickets.csv --text-column message --label-column team -o tickets-model"
_LONG = ("truncate", "head-tail", "windows")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fit`, by what they are about."""
    data = parser.add_argument_group("data")
    data.add_argument("data", metavar="DATA", help=f"labelled texts or images: {arguments.DATA}")
    arguments.add_columns(data)
    arguments.add_separator(data)
    data.add_argument("--group-column", metavar="C", help="rows with the same value there are never parted")
    data.add_argument("--time-column", metavar="C", help="split by time: train on the oldest, test on the newest")
    data.add_argument("--validation", metavar="DATA", help="validation set of your own; else divided off DATA")
    arguments.add_test(data)
    data.add_argument("--cv", type=int, metavar="K", help="test by cross-validation with K folds; learn from all")

    model = parser.add_argument_group("model")
    arguments.add_backbone(
        model,
        "a name of rehead bases, a folder, or a hub name; tfidf for n-grams without a pretrained model; auto chooses "
        "by language, a few hundred examples and budget (%(default)s)",
        default="auto",
    )
    model.add_argument(
        "--depth", type=_depth, default="auto", metavar="N", help="layers to keep; auto measures it (%(default)s)"
    )
    poolings = ("auto", "last", "mean", "both", "cls", "layers")
    model.add_argument(
        "--pool",
        default="auto",
        choices=poolings,
        help="which tokens' states the head reads; auto measures it (%(default)s)",
    )
    model.add_argument(
        "--no-ngrams", action="store_true", help="nothing beside the head, so that the folder is a Transformers model"
    )
    arguments.add_max_length(model)
    model.add_argument(
        "--long",
        type=_long,
        default="truncate",
        metavar="HOW",
        help="truncate uses the beginning of longer texts; head-tail beginning and end; windows all, in sliding "
        "windows that are averaged (%(default)s)",
    )

    training = parser.add_argument_group("training")
    arguments.add_option(
        training,
        "--strategy",
        "--tune",
        dest="tune",
        metavar="HOW",
        default="auto",
        help="head; last-K for the last K layers too; contrastive; lora; full; auto tries what the preset says "
        "(%(default)s)",
    )
    training.add_argument(
        "--preset",
        default="balanced",
        choices=("quick", "balanced", "best"),
        help="of auto. quick: the head alone, in seconds; balanced: the last layers too; best: all of them "
        "(%(default)s)",
    )
    training.add_argument(
        "--budget", type=arguments.duration, metavar="T", help="for auto: 90s, 10m, 2h in all (by preset 2m, 10m, 1h)"
    )
    arguments.add_option(
        training,
        "--augmentations",
        "--views",
        dest="views",
        type=int,
        metavar="N",
        help="of each training image, turned, cut (1; auto averages 4 if there is time)",
    )
    arguments.add_option(
        training,
        "--test-time-augmentation",
        "--average-views",
        dest="average_views",
        action="store_true",
        help="average as many in prediction; more accurate, N times as slow",
    )
    training.add_argument("--epochs", type=int, metavar="N", help="for training layers (what suits the strategy)")
    training.add_argument("--batch-size", type=int, metavar="N", help="for training layers (likewise)")
    training.add_argument("--learning-rate", type=float, metavar="X", help="for training layers (likewise)")
    training.add_argument(
        "--label-smoothing", type=float, default=0.0, metavar="X", help="for training layers (%(default)s)"
    )
    training.add_argument(
        "--class-weight", choices=("balanced",), help="each class weighs the same, however few it has (by its examples)"
    )
    arguments.add_seed(training)
    training.add_argument("--resume", action="store_true", help="go on with an interrupted fit to the same folder")
    training.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")

    decisions = parser.add_argument_group("decisions")
    decisions.add_argument(
        "--precision",
        metavar="LABEL=X",
        help="call a text LABEL only where that is right X of the time; with several labels a text, LABEL may be all",
    )
    decisions.add_argument("--recall", metavar="LABEL=X", help="call texts LABEL so readily that X of those are found")
    decisions.add_argument("--f1", metavar="LABEL", help="call texts LABEL where that gives it the best F1; likewise")
    decisions.add_argument("--costs", metavar="FILE", help="JSON: what it costs to take one label for another")
    decisions.add_argument(
        "--abstain-below", type=float, default=0.0, metavar="P", help="no label where none is so probable (%(default)s)"
    )
    decisions.add_argument("--coverage", type=float, metavar="X", help="sets of labels, X of which hold the true one")

    cluster = parser.add_argument_group("cluster")
    arguments.add_on(cluster)
    cluster.add_argument("--workers", type=int, metavar="N", help="processes there (one a GPU, or else a machine)")

    output = parser.add_argument_group("output")
    arguments.add_output(output, "rehead-model")
    output.add_argument("--recipe", metavar="FILE", help="take settings from a TOML file; options go before it")
    output.add_argument("--save-recipe", metavar="FILE", help="write the settings of this fit, for --recipe")
    output.add_argument(
        "--track",
        action="append",
        choices=("mlflow", "tensorboard", "wandb"),
        help="hand settings, losses by step, measures and report to a tracker; can be repeated",
    )
    output.add_argument(
        "--full-report", action="store_true", help="and labels that may be wrong, a learning curve, mistakes explained"
    )
    arguments.add_verbose(output)


def _depth(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be auto or a number of layers, not {text!r}") from None


def _long(text: str) -> str:
    """Return how long texts are read; saved classifiers have an older name for windows, which works here, too."""
    if text not in (*_LONG, "chunks"):
        raise argparse.ArgumentTypeError(f"must be {', '.join(_LONG[:-1])} or {_LONG[-1]}, not {text!r}")
    return "chunks" if text == "windows" else text


def run(options: argparse.Namespace) -> None:
    """Fit, evaluate and save; or say what that would take."""
    if options.variables:
        progress.say(f"settings from {', '.join(options.variables)}")
    if options.on:
        from rehead.cluster.connection import require_ray

        require_ray(options.on)
    sources = sources_of(options)  # before torch is imported, which takes seconds
    from rehead.classifier import Classifier
    from rehead.cli import evaluation_view
    from rehead.workflows.fit import fit, plan

    model = Classifier(ngrams=not options.no_ngrams, random_state=options.seed)
    # Its `verbose` is another one: the command line shows all there is to say.
    named = model.get_params().keys() & vars(options).keys() - {"verbose"}
    model.set_params(**{name: getattr(options, name) for name in named})
    decisions = _decisions(options)
    callbacks: list[Callback] = []
    if options.track:
        from rehead.tracking.trackers import tracker

        callbacks = [tracker(name) for name in dict.fromkeys(options.track)]
    if options.save_recipe:
        from rehead.cli.recipes import save_recipe

        save_recipe(options, options.save_recipe)
    if options.dry_run:
        expected = plan(sources, model)
        print_json(expected.to_json()) if options.json else _print_plan(expected, options.verbose)
        return
    settings: dict[str, Any] = {
        "resume": options.resume,
        "n_folds": options.cv,
        "decisions": decisions,
        "full_report": options.full_report,
    }
    result: FitResult | None
    if (options.on or _is_one_of_several()) and callbacks:
        raise SettingError("`track` follows a fit in one process; leave it out")
    if options.on:
        from rehead.cluster.training import fit_on_ray

        result = fit_on_ray(sources, model, Path(options.output), on=options.on, workers=options.workers, **settings)
    elif _is_one_of_several():
        from rehead.cluster.training import fit_together, joined

        with joined():
            result = fit_together(sources, model, Path(options.output), **settings)
    else:
        result = fit(sources, model, options.output, callbacks=callbacks, **settings)
    if result is None:  # another process of torchrun's prints it
        return
    if options.json:
        print_json(result.to_json())
    else:
        evaluation_view.print_evaluation(result, options.verbose)
        evaluation_view.print_saved(result)


def _is_one_of_several() -> bool:
    """Return whether torchrun has started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and "LOCAL_RANK" in os.environ


def _decisions(options: argparse.Namespace) -> DecisionConfig:
    from rehead.evaluation.decisions import DecisionConfig

    chosen = [name for name in ("precision", "recall", "f1") if getattr(options, name)]
    if len(chosen) > 1:
        raise SettingError(f"`{chosen[0]}` and `{chosen[1]}` each choose a threshold; give one of them")
    measure = chosen[0] if chosen else None
    label, least = options.f1, 0.0
    if options.precision or options.recall:
        label, equals, number = (options.precision or options.recall).rpartition("=")
        try:
            least = float(number)
        except ValueError:
            equals = ""
        if not equals or not 0 < least <= 1:
            raise SettingError(f"`{measure}` must be a class and a number up to 1, such as spam=0.99")
    return DecisionConfig(measure, label, least, _costs(options.costs), options.abstain_below, options.coverage)


def _costs(file: str | None) -> dict[str, dict[str, float]] | None:
    if file is None:
        return None
    form = 'write it as {"true label": {"answer": cost, ...}, ...}'
    try:
        costs = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"`costs`: cannot read {file} ({error.strerror or error})") from error
    except ValueError as error:
        raise SettingError(f"`costs`: {file} is not JSON ({error}); {form}") from error
    numbers = isinstance(costs, dict) and all(
        isinstance(answers, dict) and all(isinstance(cost, int | float) for cost in answers.values())
        for answers in costs.values()
    )
    if not numbers:
        raise SettingError(f"`costs`: {file} holds something else; {form}")
    return {truth: dict(answers) for truth, answers in costs.items()}


def _print_plan(plan: FitPlan, verbose: bool) -> None:
    """Print what a fit would take."""
    terminal = console()
    rows, estimate = plan.rows, plan.estimate
    terminal.print(f"\n{rows.train:,} training, {rows.validation:,} validation, {rows.test:,} test examples")
    memory, disk = f"{estimate.peak_memory_bytes / 1e9:.1f} GB", f"{estimate.features_bytes / 1e6:.0f} MB"
    terminal.print(
        f"{counted(estimate.tokens, 'token')}: about {estimate.seconds:.0f} seconds, {memory} of memory and {disk} of "
        "features on disk; nothing was trained"
    )
    if verbose:
        training = estimate.training_flops / 1e12
        operations = estimate.trunk_flops / 1e12 + training
        terminal.print(f"{operations:.1f} TFLOP, of which {training:.1f} training")
