"""Learns from counted words and letters, TF-IDF with a linear model, as whoever knows scikit-learn would write it.

Words and pairs of words, and two to five letters within words; C is chosen on the validation part where there is one,
by five-fold cross-validation where the training part is small, and on a fifth of it otherwise. Of the numbers of this
repository it uses none.
"""

import argparse
from pathlib import Path

from labelled import read
from peer_answers import keep

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
# Five folds of more texts, times four strengths, would take hours where there are many classes, for the same choice.
FOLDS_UP_TO = 5000


def main() -> None:
    options = _options()
    import numpy as np
    from scipy.sparse import vstack
    from sklearn.base import clone
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import KFold, PredefinedSplit, ShuffleSplit, StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_union
    from sklearn.preprocessing import MultiLabelBinarizer
    from sklearn.svm import LinearSVC

    (texts, labels), (test_texts, _) = read(options.train), read(options.test)
    more, more_labels = read(options.validation) if options.validation else ([], [])
    union = make_union(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True, dtype=np.float32),
    )
    known = union.fit_transform(texts)
    X = vstack([known, union.transform(more)]).tocsr() if more else known.tocsr()
    binarizer = MultiLabelBinarizer() if options.separator else None
    everything = [*labels, *more_labels]
    y = (
        binarizer.fit_transform([label.split(options.separator) for label in everything])
        if binarizer
        else np.array(everything)
    )
    if options.model == "svm":
        model = OneVsRestClassifier(LinearSVC(random_state=options.seed))
    else:
        # One against the rest: the joint solver keeps 20 dense copies of the weights, which are 8 GB with 52 classes.
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear", random_state=options.seed))
    if more:
        splits = PredefinedSplit([-1] * len(labels) + [0] * len(more)).split()
    elif len(labels) <= FOLDS_UP_TO:
        folds = KFold if binarizer else StratifiedKFold
        splits = folds(5, shuffle=True, random_state=options.seed).split(X, y)
    else:
        splits = ShuffleSplit(1, test_size=0.2, random_state=options.seed).split(X)
    points = dict.fromkeys(STRENGTHS, 0.0)
    for learned, held_out in splits:
        for strength in STRENGTHS:
            tried = clone(model).set_params(estimator__C=strength).fit(X[learned], y[learned])
            points[strength] += f1_score(y[held_out], tried.predict(X[held_out]), average="macro", zero_division=0)
    chosen = max(points, key=lambda strength: points[strength])
    model.set_params(estimator__C=chosen).fit(X, y)
    test = union.transform(test_texts)
    predicted = model.predict(test)
    classes = [str(name) for name in (binarizer.classes_ if binarizer else model.classes_)]
    rows = binarizer.inverse_transform(predicted) if binarizer else [[str(label)] for label in predicted]
    keep(options.predictions, classes, rows, None if options.model == "svm" else model.predict_proba(test))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("train", "test", "predictions"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--model", choices=("logistic", "svm"), required=True)
    parser.add_argument("--separator", help="between the labels of a text that may have several")
    parser.add_argument("--seed", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
