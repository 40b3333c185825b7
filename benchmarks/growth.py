"""More texts: whether the time of `rehead fit` grows in line with their number, and its memory hardly at all.

1,000 to 64,000 text messages, a head on all six blocks of MiniLM: with "auto" the depth would differ from size to size.
The texts are made of the sentences of sample:sms, which has 4,862: each takes the length in words of one message and
sentences of others with the same label, so that lengths are distributed as in the sample and no text stands twice.

    python benchmarks/growth.py [--runs 3] [--out FILE.md]
"""

import csv
import random
import re
import tempfile
from pathlib import Path
from statistics import median

import measure
import rehead_runs
import results
from measure import Run
from rehead_runs import Cache

from rehead.data import samples

SIZES = (1000, 4000, 16000, 64000)
# A text more may take so much longer between the two largest sizes than between the two before.
LINEAR = 1.25
# Peak memory beyond the features at the largest size, as a multiple of that at the second smallest.
FLAT = 1.3
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="numbers of texts, rising, three or more"
    )
    options = parser.parse_args()
    if len(options.sizes) < 3:
        parser.error("--sizes needs three numbers or more")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caches = {size: Cache(folder / f"cache-{size}") for size in options.sizes}
        contenders = []
        for size, cache in caches.items():
            file = folder / f"{size}.csv"
            _write(size, file)
            how = ["--base", "minilm", "--tune", "head", "--pool", "mean", "--depth", "6"]
            contenders.append(rehead_runs.cold(f"{size:,}", [file], how, cache, folder / "model"))
        for runs in measure.in_turn([contenders] * options.runs):
            features = [cache.features_bytes() for cache in caches.values()]
            by_size = dict(zip(caches, runs.values(), strict=True))
            parts = [_table(by_size, features), _verdicts(by_size, features), results.conditions(runs)]
            results.publish(parts, options.out)


def _write(n: int, file: Path) -> None:
    """Makes `n` different texts, the same for the same `n`."""
    generator = random.Random(0)  # noqa: S311
    messages = samples.read("sms").rows
    lengths = [(label, len(text.split())) for label, text in messages]
    sentences: dict[str, list[list[str]]] = {}
    for label, text in messages:
        sentences.setdefault(label, []).extend(sentence.split() for sentence in _SENTENCE_END.split(text))
    made: dict[str, str] = {}
    while len(made) < n:
        label, length = generator.choice(lengths)
        words: list[str] = []
        while len(words) < length:
            words += generator.choice(sentences[label])
        # Case is no difference to rehead. Of very short texts there are few, so another length may come up instead.
        made.setdefault(" ".join(words[:length]).lower(), label)
    with file.open("w", encoding="utf-8", newline="") as output:
        csv.writer(output).writerows([["label", "text"], *((label, text) for text, label in made.items())])


def _table(runs: dict[int, list[Run]], features: list[int]) -> str:
    rows = []
    for (size, own), n_bytes in zip(runs.items(), features, strict=True):
        speeds = [size / run.seconds for run in own]
        row = [f"{size:,}", results.seconds(own), results.spread(speeds, ".0f"), results.gigabytes(own)]
        rows.append([*row, f"{n_bytes / 1e6:.0f}", results.score(own)])
    head = ["texts", "seconds", "texts a second", "peak GB", "features on disk, MB", "test accuracy"]
    return results.table(head, rows)


def _verdicts(runs: dict[int, list[Run]], features: list[int]) -> str:
    sizes = list(runs)
    seconds = [median(run.seconds for run in own) for own in runs.values()]
    peaks = [median(run.peak_bytes for run in own) for own in runs.values()]
    slopes = [(seconds[i] - seconds[i - 1]) / (sizes[i] - sizes[i - 1]) for i in (-2, -1)]
    beyond = [peak - n_bytes for peak, n_bytes in zip(peaks, features, strict=True)]
    growth, without = peaks[-1] / peaks[1], beyond[-1] / beyond[1]
    return (
        f"A thousand texts more take {1000 * slopes[0]:.2f} s from {sizes[-3]:,} to {sizes[-2]:,} and "
        f"{1000 * slopes[1]:.2f} s from there to {sizes[-1]:,}: time is "
        f"{'linear' if slopes[1] <= LINEAR * slopes[0] else 'not linear'} (at most {LINEAR}×).\n\n"
        f"Peak memory at {sizes[-1]:,} is {growth:.2f}× that at {sizes[1]:,}, and {without:.2f}× without the features: "
        f"{'flat' if without <= FLAT else 'not flat'} (at most {FLAT}×)."
    )


if __name__ == "__main__":
    main()
