"""What labels are worth: which of them are probably wrong, and what more of them would bring.

Both are told by probes on the features of the base as it was pretrained, which are in the cache after a fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import Manifest
from rehead.data import writing
from rehead.data.duplicates import drop_duplicates, near_of, with_near
from rehead.data.examples import Examples, named, require_learnable
from rehead.data.parts import Columns, Sources, read_examples
from rehead.evaluation import learning_curve
from rehead.evaluation.label_noise import rank, rank_several
from rehead.runtime import progress
from rehead.runtime.errors import DataError
from rehead.training.frozen_probes import Frozen, frozen_features

# So many of the suspects are shown.
_SHOWN = 20
# A curve of fewer sizes than this is none.
_LEAST_SIZES = 3


def label_errors(folder: str | Path, sources: Sources | str, output: str | Path | None = None) -> dict[str, Any]:
    """Ranks the labels of data by how probably they are wrong.

    Args:
        folder: a saved classifier: its base, depth and pooling are used, but none of the weights that were trained,
            which may have learned the wrong labels by heart.
        sources: `data` and the columns are used.
        output: a file that all rows are written to, the most suspicious first.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    if output is not None:
        writing.require_writable(Path(output))
    examples, frozen, seed = _of_model(folder, sources)
    rows = ranked(examples, frozen, seed)
    if output is not None:
        writing.write(Path(output), rows)
        progress.say(f"{len(rows):,} rows, the most suspicious first, written to {output}")
    return {"model": str(Path(folder).resolve()), "data": examples.source, **suspects(rows)}


def ranked(examples: Examples, frozen: Frozen, seed: int) -> list[dict[str, Any]]:
    """One row an example, the most suspicious label first."""
    probabilities = frozen.out_of_fold(seed, near_of(examples))
    ranking = (rank_several if examples.multilabel else rank)(probabilities, examples.labels)
    return [
        {
            "row": int(examples.lines[i]),
            "label": examples.named(i),
            "suggested": named(ranking.suggested[i], examples.label_names),
            "margin": round(float(ranking.margin[i]), 4),
            "suspected": bool(ranking.is_suspected[i]),
            "text": examples.texts[i],
        }
        for i in ranking.order.tolist()
    ]


def suspects(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What of these rows is told."""
    suspected = sum(row["suspected"] for row in rows)
    return {"examined": len(rows), "suspected": suspected, "most_suspicious": rows[:_SHOWN]}


def of_training(train: Examples, validation: Examples, trained: Manifest) -> dict[str, Any]:
    """Both for the examples that a classifier has learned from, as JSON can hold it.

    Args:
        trained: the classifier's manifest.

    Returns:
        `errors`, and `curve`, which is None where there are too few examples.
    """
    examples = train.followed_by(validation)
    frozen = frozen_features(examples, trained.to_json())
    try:
        drawn = curve(frozen, trained.seed)
    except DataError:
        drawn = None
    return {"errors": suspects(ranked(examples, frozen, trained.seed)), "curve": drawn}


def curve_of_model(folder: str | Path, sources: Sources | str) -> dict[str, Any]:
    """What more labels would bring; arguments and errors as for `label_errors`."""
    examples, frozen, seed = _of_model(folder, sources)
    return {"model": str(Path(folder).resolve()), "data": examples.source, **curve(frozen, seed)}


def curve(frozen: Frozen, seed: int) -> dict[str, Any]:
    """The learning curve of probes, as JSON can hold it.

    Raises:
        DataError: there are too few examples for one.
    """
    sizes, errors = frozen.errors_by_size(seed)
    if len(sizes) < _LEAST_SIZES:
        raise DataError(f"{len(frozen.labels):,} examples are too few for a learning curve; give 256 or more")
    return learning_curve.fit(sizes, errors, len(frozen.labels)).to_json()


def _of_model(folder: str | Path, sources: Sources | str) -> tuple[Examples, Frozen, int]:
    sources = Sources(sources) if isinstance(sources, str) else sources
    manifest = load_artifact(Path(folder)).manifest
    examples, _, _, _ = read_examples(sources.data, sources, manifest.labels, Columns.of(manifest.to_json()))
    (unique,) = with_near(drop_duplicates(examples)[0])
    # A class with one example is suspected whole: no fold that is told of it has learned it.
    require_learnable(unique, least=1)
    frozen = frozen_features(unique, manifest.to_json())
    return unique, frozen, manifest.seed
