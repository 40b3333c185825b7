"""`rehead export`: write a saved classifier for use without rehead, compared before it is kept."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from rehead.artifact.artifact import Artifact, NetworkArtifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import WEIGHTS
from rehead.artifact.saving import new_folder, require_replaceable
from rehead.export import (
    adapter_folder,
    comparison,
    documents,
    inputs,
    ngram_file,
    onnx_file,
    quantisation,
    static_model,
    transformers_folder,
)
from rehead.export.comparison import ReferenceLogits
from rehead.export.graphs import graph_of
from rehead.export.results import ExportComparison, ExportResult, Speeds
from rehead.models.model_inputs import save_preparation
from rehead.models.ngrams import Ngrams
from rehead.models.text_backbone import TextBackbone
from rehead.models.vision_backbone import VisionBackbone
from rehead.runtime import extras
from rehead.runtime.errors import SettingError
from rehead.runtime.results import Json

FORMATS = ("onnx", "transformers", "peft", "static")
# What a form is written with, by the extra that brings it.
_NEEDED = {"onnx": ("onnx", "onnxruntime", "onnxscript"), "static": ("model2vec",)}


def export(
    model: str | Path,
    form: str,
    output: str | Path,
    *,
    int8: bool = False,
    data: str | None = None,
    text_column: str | None = None,
) -> ExportResult:
    """Write a saved classifier as a folder that needs no rehead; it gets its name only if it scores as the classifier.

    Args:
        model: a folder that `rehead fit` has written.
        form: `onnx` or `transformers`; `peft` for low-rank adapters and head alone; or `static`, another classifier,
            distilled of this one, which is many times as fast and less often right.
        output: a new folder, or an earlier export, which is replaced.
        int8: with `onnx`: matrix products in 8-bit integers.
        data: texts or images to compare on; what the classifier has learned from if None. With `static` labelled texts
            to test on; those that the classifier was tested on if None.
        text_column: of `data`.

    Raises:
        RheadError: a child of it, for whatever the user can mend; nothing is written then.
    """
    started = time.perf_counter()
    model, output = Path(model), Path(output)
    if form not in FORMATS:
        raise SettingError(f"`form` must be {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {form!r}")
    if int8 and form != "onnx":
        raise SettingError("`int8` is for `form='onnx'`: the others have no such model; leave it out")
    extras.require(f"`form={form!r}`", form, *_NEEDED.get(form, ()))
    require_replaceable(output, documents.DESCRIPTION, "not an export of rehead's")
    if form == "static":
        return _export_static(model, output, data, text_column, started)
    classifier = _require_exportable(load_artifact(model, with_transformers=True), form)
    if form == "transformers":
        transformers_folder.require_family_head(classifier)
    if form == "peft":
        adapter_folder.require_adapters(classifier, model)
    sample, source = inputs.read(data, text_column, classifier.manifest.to_json(), model)
    expected = comparison.reference(classifier, sample)
    with new_folder(output.resolve()) as partial:
        save_preparation(classifier.backbone, partial, classifier.max_length)
        if form != "peft":
            shutil.copyfile(model / "config.json", partial / "config.json")
        if form == "onnx":
            found = _write_onnx(classifier, partial, expected, int8)
        else:
            found = _write_for_transformers(classifier, partial, expected, model, form)
        n_bytes = sum(file.stat().st_size for file in _model_files(partial, form, int8))
        readme = documents.readme(classifier, form, int8, found, output.resolve().name)
        _write_documents(partial, documents.description(classifier, form, int8, found), readme)
    return ExportResult(
        model=str(model.resolve()),
        output=str(output.resolve()),
        format=form,
        int8=int8,
        base=classifier.manifest.base,
        what=classifier.takes,
        data=source,
        comparison=found,
        a_second=Speeds(export=found.speed, rehead=expected.speed),
        bytes=n_bytes,
        seconds={"total": time.perf_counter() - started},
    )


def _export_static(
    model: Path, output: Path, data: str | None, text_column: str | None, started: float
) -> ExportResult:
    classifier = load_artifact(model)
    if not isinstance(classifier, NetworkArtifact) or not isinstance(classifier.backbone, TextBackbone):
        raise SettingError("a static model is distilled of a network that reads texts, and this classifier has none")
    train, validation, test = static_model.parts_of(classifier, model, data, text_column)
    max_length = documents.longest(classifier)
    with new_folder(output.resolve()) as partial:
        static_model.distil(classifier, train, validation, max_length).save_pretrained(str(partial))
        found, accuracy, speeds = static_model.compare(static_model.read(partial), classifier, test)
        n_bytes = sum(file.stat().st_size for file in partial.glob("*.safetensors"))
        _write_documents(
            partial,
            documents.static_description(classifier, found, accuracy, speeds),
            documents.static_readme(classifier, found, accuracy, speeds),
        )
    return ExportResult(
        model=str(model.resolve()),
        output=str(output.resolve()),
        format="static",
        int8=False,
        base=classifier.manifest.base,
        what="texts",
        data=test.source,
        comparison=found,
        a_second=speeds,
        accuracy=accuracy,
        bytes=n_bytes,
        seconds={"total": time.perf_counter() - started},
    )


def _model_files(folder: Path, form: str, int8: bool) -> list[Path]:
    file = {
        "onnx": onnx_file.INT8_FILE if int8 else onnx_file.FILE,
        "peft": adapter_folder.FILE,
        "transformers": WEIGHTS,
    }[form]
    return [*folder.glob(f"{file}*"), *folder.glob("ngrams.*")]


def _require_exportable(classifier: Artifact, form: str) -> NetworkArtifact:
    """Return the classifier, or raise SettingError where it would be another one after an export."""
    if not isinstance(classifier, NetworkArtifact):
        raise SettingError(
            "this classifier was fitted with `base='tfidf'` and has no network to export: it counts n-grams with numpy "
            "alone; use rehead predict, rehead serve or rehead.load"
        )
    manifest = classifier.manifest
    if manifest.baseline_factor and classifier.takes == "images":
        raise SettingError(
            "colours and edges stand beside this classifier's head, which are computed before the network sees an "
            "image, and without them it would be another classifier; fit with `ngrams=False` for one that can be "
            "exported"
        )
    if manifest.baseline_factor and form in ("transformers", "peft"):
        raise SettingError(
            "word and character n-grams stand beside this classifier's head, which no class of Transformers has, and "
            "without them it would be another classifier; fit with `ngrams=False`, or use `form='onnx'`"
        )
    if manifest.long != "truncate":
        raise SettingError(
            f"the classifier was fitted with `long={manifest.long!r}`, which is done before the network sees a "
            "text; only what was fitted with `long='truncate'` can be exported"
        )
    if manifest.average_views:
        raise SettingError(
            "the classifier averages augmentations of an image that are made before the network sees them; only what "
            "was fitted with `views=1` can be exported"
        )
    return classifier


def _write_onnx(classifier: NetworkArtifact, folder: Path, expected: ReferenceLogits, int8: bool) -> ExportComparison:
    """Write the ONNX model, and a tokenizer that needs no more settings."""
    backbone = classifier.backbone
    if not isinstance(backbone, VisionBackbone):
        _settle_tokenizer(classifier, folder)
    if classifier.beside:
        known = classifier.beside[0].features
        if not isinstance(known, Ngrams):
            raise SettingError(
                "this classifier's n-grams are an earlier version's, which cannot be exported; fit again"
            )
        ngram_file.write(known, folder)
    file = folder / onnx_file.FILE
    file.parent.mkdir()
    onnx_file.write(graph_of(backbone, classifier.head, classifier.beside), file)
    found = comparison.compared(expected, onnx_file.OnnxRunner(folder, backbone))
    comparison.require_equal(found, classifier.manifest.base)
    if int8:
        quantisation.quantise(folder)
        found = comparison.compared(expected, onnx_file.OnnxRunner(folder, backbone, onnx_file.INT8_FILE))
        comparison.require_agreement(found, classifier.takes)
    return found


def _settle_tokenizer(classifier: NetworkArtifact, folder: Path) -> None:
    """Make `tokenizer.json` cut off and pad as rehead does, whoever loads it."""
    from tokenizers import Tokenizer

    assert isinstance(classifier.backbone, TextBackbone)
    padding = classifier.backbone.tokenizer
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.enable_truncation(documents.longest(classifier), direction=padding.truncation_side)
    tokenizer.enable_padding(pad_id=padding.pad_token_id, pad_token=padding.pad_token, direction="right")
    tokenizer.save(path)


def _write_for_transformers(
    classifier: NetworkArtifact, folder: Path, expected: ReferenceLogits, model: Path, form: str
) -> ExportComparison:
    """Write adapters and head, for the published base; or the saved weights, whose head is the family's own."""
    run: comparison.Run
    if form == "peft":
        adapter_folder.write(classifier, folder, model)
        run = adapter_folder.Runner(folder, classifier)
    else:
        shutil.copyfile(model / WEIGHTS, folder / WEIGHTS)
        run = transformers_folder.TransformersRunner(folder, classifier.backbone)
    found = comparison.compared(expected, run)
    comparison.require_equal(found, classifier.manifest.base)
    return found


def _write_documents(folder: Path, description: Json, readme: str) -> None:
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (folder / documents.DESCRIPTION).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(readme, encoding="utf-8")
