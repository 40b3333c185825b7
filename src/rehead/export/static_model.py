"""A static model of a classifier: one vector a token, the mean of a text's, and a linear head, without a network.

The vectors are what the classifier's layers make of each token alone, as in Model2Vec (van Dongen and Tulkens, 2024):
their principal components, each token weighted down by how frequent it is (SIF; Arora et al., ICLR 2017). The head is
fitted to the texts that the classifier has learned from.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.artifact.artifact import NetworkArtifact
from rehead.data.examples import Examples
from rehead.data.labels import are_right
from rehead.data.preparation import Columns, DataConfig, read_examples
from rehead.evaluation import likelihood
from rehead.evaluation.calibration import temperature
from rehead.export.results import Accuracies, Difference, ExportComparison, Speeds
from rehead.models.forward_pass import pooled_features
from rehead.models.sequences import Ragged
from rehead.models.text_backbone import TextBackbone
from rehead.runtime.errors import RheadError, SettingError
from rehead.training.probe import solve

Array = npt.NDArray[np.float32]

# Both as Model2Vec has them: components of a vector, and the frequency at which a token counts half.
_WIDTH, _SIF = 256, 1e-3
# Short texts are over in milliseconds: at least this number is timed, the test's own as often as it takes.
_TIMED = 20_000


def parts_of(
    classifier: NetworkArtifact, folder: Path, data: str | None, text_column: str | None
) -> tuple[Examples, Examples, Examples]:
    """Return the training, validation and test examples that the classifier had.

    Args:
        folder: the classifier's.
        data: labelled examples to test on instead.
        text_column: of `data`.

    Raises:
        SettingError: what it has learned from is not to be had any more.
        DataError: `data` cannot be read, or holds no labels that the classifier knows.
    """
    columns = Columns.of(classifier.manifest.to_json())

    def read(source: str, config: DataConfig) -> Examples:
        return read_examples(source, config, classifier.labels, columns)[0]

    parts = ("train", "validation") if data else ("train", "validation", "test")
    try:
        split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
        sources = {name: str(split[name]["source"]) for name in parts}
        whole = {source: read(source, DataConfig(source)) for source in set(sources.values())}
    except (OSError, ValueError, KeyError, TypeError, RheadError) as error:
        raise SettingError(
            f"what {folder} has learned from cannot be read any more ({error}), and a static model is fitted to it; "
            "put it back where it was, or fit again"
        ) from error
    train, validation, *test = (
        whole[source].take(np.flatnonzero(np.isin(whole[source].lines, split[name]["rows"])))
        for name, source in sources.items()
    )
    return train, validation, read(data, DataConfig(data, text_column=text_column)) if data else test[0]


def distil(classifier: NetworkArtifact, train: Examples, validation: Examples, max_length: int) -> Any:
    """Return Model2Vec's pipeline of a static model and a head.

    Args:
        max_length: tokens of a text that are used.
    """
    from model2vec import StaticModel
    from model2vec.inference import StaticModelPipeline
    from model2vec.inference.mlp import Activation, Layer, MLPHead
    from sklearn.decomposition import PCA

    assert isinstance(classifier.backbone, TextBackbone)
    tokenizer = classifier.backbone.tokenizer.backend_tokenizer
    vectors = _token_vectors(classifier, tokenizer)
    principal = PCA(min(_WIDTH, *vectors.shape), svd_solver="covariance_eigh").fit_transform(vectors)
    weighted = principal.astype(np.float32) * _weights(tokenizer, train.texts)
    config = {"model_type": "model2vec", "architectures": ["StaticModel"]}
    model = StaticModel(weighted, tokenizer, config, normalize=True, max_length=max_length)
    labels = classifier.labels
    features, held_out = (np.asarray(model.encode(list(part.texts)), dtype=np.float32) for part in (train, validation))
    probe = solve(features, train.labels, (held_out, validation.labels), len(labels), intercept=True)
    divisor = np.float32(temperature(probe.logits, validation.labels))
    layer = Layer(weight=probe.weight / divisor, bias=probe.bias / divisor)
    activation = Activation.SIGMOID if classifier.multilabel else Activation.SOFTMAX
    return StaticModelPipeline(model, MLPHead([layer], activation, np.array(labels)))


def _token_vectors(classifier: NetworkArtifact, tokenizer: Any) -> Array:
    """(n_tokens, width): the mean of what a token's text of its own becomes after the layers that are kept."""
    n_tokens = tokenizer.get_vocab_size(with_added_tokens=True)
    around = tokenizer.encode("").ids
    before, behind = around[:1], around[1:]
    texts = Ragged.from_lists([[*before, token, *behind] for token in range(n_tokens)])
    features, _ = pooled_features(
        classifier.backbone, texts, depths=[len(classifier.backbone.layers)], pooling="mean", label="distilling"
    )
    return features.numpy()


def _weights(tokenizer: Any, texts: Sequence[str]) -> Array:
    """(n_tokens, 1): 1 for a token that no text has, a half for one that has the share `_SIF` of all tokens."""
    counts: Counter[int] = Counter()
    for read in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        counts.update(read.ids)
    shares = np.zeros((tokenizer.get_vocab_size(with_added_tokens=True), 1), dtype=np.float32)
    shares[list(counts), 0] = np.array(list(counts.values())) / max(1, counts.total())
    weights: Array = np.float32(_SIF) / (np.float32(_SIF) + shares)
    return weights


def read(folder: Path) -> Any:
    """Return the pipeline that was saved there, as anybody loads it."""
    from model2vec.inference import StaticModelPipeline

    return StaticModelPipeline.from_pretrained(str(folder))


def compare(pipeline: Any, classifier: NetworkArtifact, test: Examples) -> tuple[ExportComparison, Accuracies, Speeds]:
    """Measure a static model on labelled texts, beside the classifier."""
    texts, rule = list(test.texts), classifier.rule
    begun = time.perf_counter()
    expected = classifier.scores(texts).probabilities
    speed = len(texts) / (time.perf_counter() - begun)
    found = np.asarray(pipeline.predict_proba(texts), dtype=np.float64)
    timed = texts * -(-_TIMED // len(texts))
    begun = time.perf_counter()
    pipeline.predict_proba(timed)
    seconds = time.perf_counter() - begun
    logits, right_logits = (likelihood.logits_of(each, classifier.multilabel) for each in (found, expected))
    shares = np.abs(logits - right_logits).max(1) / np.maximum(np.abs(right_logits).max(1), 1)
    answers, wanted = (rule.without_abstention().choose(each) for each in (found, expected))
    same = int(are_right(answers, wanted).sum())
    n = len(texts)
    comparison = ExportComparison(
        compared=n,
        alone=0,
        same=same,
        agreement=same / n,
        largest_difference=Difference(float(np.abs(found - expected).max()), float(shares.max())),
        unexplained=0.0,
        speed=len(timed) / seconds,
    )
    right = (float(are_right(test.labels, each).mean()) for each in (answers, wanted))
    return comparison, Accuracies(*right), Speeds(export=comparison.speed, rehead=speed)
