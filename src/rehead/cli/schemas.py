"""Write the JSON schema of what each command prints with `--json`: python -m rehead.cli.schemas FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rehead.analysis.image_explanation import ImageExplanation
from rehead.analysis.inspection import Audit
from rehead.analysis.label_study import LabelReport
from rehead.artifact.explanation import Explanation
from rehead.batch.scoring import ScoredTable
from rehead.cli.catalogue import Catalogue
from rehead.comparison.results import ComparisonResult
from rehead.comparison.search import SearchedFit
from rehead.drift.workflow import DriftResult
from rehead.export.results import ExportResult
from rehead.instruction.results import GeneratedAnswer, InstructionResult
from rehead.runtime.diagnosis import Diagnosis
from rehead.runtime.results import Result, schema_of
from rehead.training.cache_overview import CacheOverview, ClearedCache
from rehead.workflows.results import EvaluateResult, FitPlan, FitResult

# The result of each command, by the name of its schema.
RESULTS: dict[str, type[Result]] = {
    "fit": FitResult,
    "fit-dry-run": FitPlan,
    "evaluate": EvaluateResult,
    "predict-table": ScoredTable,
    "inspect": Audit,
    "inspect-labels": LabelReport,
    "drift": DriftResult,
    "compare": ComparisonResult,
    "search": SearchedFit,
    "instruct": InstructionResult,
    "generate": GeneratedAnswer,
    "export": ExportResult,
    "doctor": Diagnosis,
    "explain": Explanation,
    "explain-image": ImageExplanation,
    "bases": Catalogue,
    "samples": Catalogue,
    "cache": CacheOverview,
    "cache-clear": ClearedCache,
}


def write_schemas(folder: Path) -> None:
    """Write the schema of each command's result into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in RESULTS.items():
        (folder / f"{name}.json").write_text(json.dumps(schema_of(result), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
