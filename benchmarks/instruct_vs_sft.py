"""Instruction fine-tuning: `rehead instruct` against trl's SFTTrainer, from the same base, conversations and recipe.

Both learn from the same 85 % of the file for the same number of epochs in batches of 8, and are measured on the same
10 %. Compared are the seconds of training alone: rehead's command measures the base, writes answers before and after,
and saves, too.

    python benchmarks/instruct_vs_sft.py FILE.json [--epochs 1] [--runs 1] [--tune lora full] [--out FILE.md]
"""

import sys
import tempfile
from pathlib import Path

import measure
import peers
import rehead_runs
import results
from measure import Contender, Run
from rehead_runs import REHEAD, Cache

RATES = {"lora": "1e-3", "full": "5e-5", "last-2": "2e-4"}
# In a process of its own: this one must stay smaller than what it measures.
DIVIDE = """
import json, sys
from pathlib import Path
from rehead.models.loading import locate
from rehead.instruction import conversations, styles
from rehead.instruction.instruct import divided
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(locate("smollm2"))
parts = divided(conversations.read(Path(sys.argv[1])).kept, 0)
for part, file in zip(parts, ("train", "validation", "test")):
    with (Path(sys.argv[2]) / f"{file}.jsonl").open("w", encoding="utf-8") as out:
        for one in part:
            prompt = styles.request(one.request, "chat", tokenizer)
            print(json.dumps({"prompt": prompt, "completion": one.answer}), file=out)
"""


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--tune", nargs="+", choices=RATES, default=["lora", "last-2"], help="(lora last-2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure.run(Contender("", [sys.executable, "-c", DIVIDE, options.data, folder]))
        base, cache = rehead_runs.base_folder("smollm2"), Cache(folder / "cache")
        contenders = []
        for tune in options.tune:
            recipe = ["--epochs", str(options.epochs), "--learning-rate", RATES[tune]]
            ours = [*REHEAD, "instruct", options.data, "--tune", tune, *recipe, "-o", folder / "model", "--json"]
            contenders.append(Contender(f"rehead, {tune}", ours, cache.environment, cache.forget_features))
            if tune in ("lora", "full"):
                files = ["--train", folder / "train.jsonl", "--test", folder / "test.jsonl", "--model", base]
                theirs = peers.command("peer_sft.py", *files, "--output", folder / "trl", "--tune", tune, *recipe)
                contenders.append(Contender(f"trl, {tune}", theirs))
        for runs in measure.in_turn([contenders] * options.runs):
            tokens = next(run.facts["tokens"]["train"] for own in runs.values() for run in own if "tokens" in run.facts)
            results.publish([_table(runs, tokens * options.epochs), results.conditions(runs)], options.out)


def _table(runs: dict[str, list[Run]], tokens: int) -> str:
    rows = []
    for title, own in runs.items():
        seconds = [run.facts["seconds"].get("training") or run.facts["seconds"]["train"] for run in own]
        rows.append(
            [
                title,
                results.spread([run.facts["test"]["loss"] for run in own], ".4f"),
                results.spread(seconds),
                results.spread([tokens / taken for taken in seconds], ".0f"),
                results.gigabytes(own),
            ]
        )
    return results.table(["run", "test loss", "seconds of training", "tokens a second", "peak GB"], rows)


if __name__ == "__main__":
    main()
