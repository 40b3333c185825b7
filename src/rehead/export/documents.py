"""What lies beside an exported model: `export.json`, what it is; a README, how it is used without rehead."""

from __future__ import annotations

import json
from pathlib import Path

from rehead.artifact.artifact import NetworkArtifact
from rehead.evaluation.model_card import plain
from rehead.evaluation.rendering import render
from rehead.export import adapter_folder
from rehead.export.onnx_file import FILE, INT8_FILE
from rehead.export.results import Accuracies, ExportComparison, Speeds
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import longest_input
from rehead.models.vision_backbone import VisionBackbone
from rehead.runtime.results import Json, as_json

DESCRIPTION = "export.json"


def description(classifier: NetworkArtifact, form: str, int8: bool, found: ExportComparison) -> Json:
    """Return what `export.json` holds: what somebody needs who has no rehead, and where the model comes from."""
    manifest = classifier.manifest
    kept = ("base", "tune", "pool", "depth", "blocks_of_base", "labels", "multilabel")
    return {
        "format": form,
        "int8": int8,
        **{name: getattr(manifest, name) for name in kept},
        "max_length": longest(classifier) if classifier.takes == "texts" else None,
        # Not to be divided by once more.
        "temperature_in_weights": manifest.temperature,
        # In the graph likewise.
        "baseline_factor": manifest.baseline_factor,
        "decisions": manifest.decisions,
        "weights_sha256": manifest.weights_sha256,
        "versions": manifest.versions,
        "checked": {name: value for name, value in as_json(found).items() if name != "agreement"},
    }


def readme(classifier: NetworkArtifact, form: str, int8: bool, found: ExportComparison, name: str) -> str:
    """Say how to use the folder of that name, and how it was checked, as Markdown."""
    backbone = classifier.backbone
    is_text = isinstance(backbone, TextBackbone)
    causal = isinstance(backbone, TextBackbone) and backbone.family.causal
    content = render(
        "export_readme.md.jinja",
        what=classifier.takes,
        form=form,
        int8=int8,
        manifest=classifier.manifest,
        labels=_labels(classifier),
        options=adapter_folder.options(classifier) if form == "peft" else None,
        file=INT8_FILE if int8 else FILE,
        max_length=longest(classifier) if is_text else None,
        pad_token=backbone.tokenizer.pad_token_id if isinstance(backbone, TextBackbone) and causal else None,
        transform=backbone.transform if isinstance(backbone, VisionBackbone) else None,
        # Of encoders, whatever their pooling is, transformers.js has a class.
        in_javascript=form == "onnx" and is_text and not causal and not classifier.manifest.baseline_factor,
        name=json.dumps(name),
        found=found,
    )
    return f"{content.rstrip()}\n"


def _labels(classifier: NetworkArtifact) -> str:
    """Return the first of them."""
    shown = [plain(label) for label in classifier.labels[:20]]
    return ", ".join([*shown, "..."] if len(classifier.labels) > 20 else shown)


def static_description(
    classifier: NetworkArtifact, found: ExportComparison, accuracy: Accuracies, speeds: Speeds
) -> Json:
    """Return what `export.json` holds of a static model."""
    common = description(classifier, "static", False, found)
    left_out = ("temperature_in_weights", "baseline_factor")
    measured = {"accuracy": as_json(accuracy), "a_second": as_json(speeds)}
    return {**{name: value for name, value in common.items() if name not in left_out}, **measured}


def static_readme(classifier: NetworkArtifact, found: ExportComparison, accuracy: Accuracies, speeds: Speeds) -> str:
    """Say how to use a static model, and what it is worth, as Markdown."""
    base, labels = plain(Path(classifier.manifest.base).name), _labels(classifier)
    content = render("static_readme.md.jinja", base=base, labels=labels, found=found, accuracy=accuracy, speeds=speeds)
    return f"{content}\n"


def longest(classifier: NetworkArtifact) -> int:
    """Return the tokens of a text that are used."""
    assert isinstance(classifier.backbone, TextBackbone)
    return longest_input(classifier.backbone, classifier.max_length)
