"""What lies beside an exported model: `export.json`, what it is; a README, how it is used without rehead."""

from __future__ import annotations

import json
from pathlib import Path

from rehead.artifact.artifact import NetworkArtifact
from rehead.evaluation.model_card import plain
from rehead.export import adapter_folder
from rehead.export.onnx_file import FILE, INT8_FILE
from rehead.export.results import Accuracies, ExportComparison, Speeds
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import longest_input
from rehead.models.vision_backbone import VisionBackbone
from rehead.runtime.results import Json, as_json

DESCRIPTION = "export.json"

_TEXTS = """\
import json

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer
{imports}
labels = json.load(open("export.json", encoding="utf-8"))["labels"]
tokenizer = Tokenizer.from_file("tokenizer.json")  # cuts texts off at {max_length} tokens and pads them
session = InferenceSession("{file}")

texts = {texts}
read = tokenizer.encode_batch(texts)
ids = np.array([text.ids for text in read], dtype=np.int64)
mask = np.array([text.attention_mask for text in read], dtype=np.int64)
inputs = {{"input_ids": ids, "attention_mask": mask}}
{ngrams}(logits,) = session.run(["logits"], inputs)
"""
_IMPORT_NGRAMS = """
from ngrams import features  # this folder's; it needs numpy alone
"""
_NGRAMS = """\
inputs["ngram_ids"], inputs["ngram_values"] = features(texts, **np.load("ngrams.npz"))
"""
_IMAGES = """\
import json

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image, ImageOps

labels = json.load(open("export.json", encoding="utf-8"))["labels"]
session = InferenceSession("{file}")

image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
{square}
pixels = (np.asarray(image) / 255 - {mean}) / {std}
pixels = pixels.transpose(2, 0, 1)[None].astype(np.float32)
(logits,) = session.run(["logits"], {{"pixel_values": pixels}})
"""
_ONE_LABEL = """\
odds = np.exp(logits - logits.max(1, keepdims=True))
for row in odds / odds.sum(1, keepdims=True):
    print(labels[row.argmax()], dict(zip(labels, row.round(4).tolist())))
"""
_SEVERAL_LABELS = """\
for row in 1 / (1 + np.exp(-logits)):  # each label by itself; they need not add up to 1
    print([label for label, p in zip(labels, row) if p >= 0.5], dict(zip(labels, row.round(4).tolist())))
"""
_JAVASCRIPT = """\
import {{ env, pipeline }} from "@huggingface/transformers";

env.allowRemoteModels = false;
env.localModelPath = "..";  // of the folder that holds this one
const classify = await pipeline("text-classification", {name}, {{ dtype: "{dtype}" }});
console.log(await classify("a text", {{ top_k: null }}));
"""
_PIPELINE = """\
from transformers import pipeline

classify = pipeline("text-classification", model=".", truncation=True, top_k=None)
print(classify({texts}))
"""
_IMAGE_PIPELINE = """\
from transformers import pipeline

classify = pipeline("image-classification", model=".", top_k=None)
print(classify("photo.jpg"))
"""


_ADAPTERS = """\
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

labels = {labels}
model = AutoPeftModelForSequenceClassification.from_pretrained(".", **{options}).eval()
tokenizer = AutoTokenizer.from_pretrained(".")

read = tokenizer({texts}, padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**read).logits.numpy()
"""
_WHAT = {"onnx": "an ONNX model", "transformers": "a Transformers model", "peft": "adapters for peft"}


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
    """Say how to use the folder, and how it was checked, as Markdown.

    Args:
        name: of the folder.
    """
    what = classifier.takes
    number = "8-bit integers" if int8 else "float32"
    parts = [
        f"# A classifier of {what}, as {_WHAT[form]}",
        f"Made by rehead of {classifier.manifest.base}; {number}; labels: {_labels(classifier)}. It needs no rehead:",
        f"```python\n{_code(classifier, form, int8)}```",
        *_javascript(classifier, form, int8, name),
        f"Compared with the classifier that it was made of on {found.compared:,} {what}: {found.same:,} have "
        f"the same label, and probabilities differ by {found.largest_difference.probability:.1e} at most.",
        *_remarks(classifier, form, int8),
    ]
    return "\n\n".join(parts) + "\n"


def _labels(classifier: NetworkArtifact) -> str:
    """Return the first of them."""
    shown = [plain(label) for label in classifier.labels[:20]]
    return ", ".join([*shown, "..."] if len(classifier.labels) > 20 else shown)


def runs_in_javascript(classifier: NetworkArtifact) -> bool:
    """Return whether transformers.js has a class for it: of encoders, whatever their pooling is."""
    backbone = classifier.backbone
    is_encoder = isinstance(backbone, TextBackbone) and not backbone.family.causal
    return is_encoder and not classifier.manifest.baseline_factor


def _javascript(classifier: NetworkArtifact, form: str, int8: bool, name: str) -> list[str]:
    if form != "onnx" or not runs_in_javascript(classifier):
        return []
    code = _JAVASCRIPT.format(name=json.dumps(name), dtype="q8" if int8 else "fp32")
    return [f"Or in JavaScript, with transformers.js:\n\n```js\n{code}```"]


def _code(classifier: NetworkArtifact, form: str, int8: bool) -> str:
    file = INT8_FILE if int8 else FILE
    texts = '["a text", "another, longer text"]'
    if form == "transformers":
        return _PIPELINE.format(texts=texts) if classifier.takes == "texts" else _IMAGE_PIPELINE
    if form == "peft":
        loaded = adapter_folder.options(classifier)
        end = _SEVERAL_LABELS if classifier.multilabel else _ONE_LABEL
        code = _ADAPTERS.format(labels=list(classifier.labels), options=loaded, texts=texts)
        return f"import numpy as np\n{code}{end}"
    end = _SEVERAL_LABELS if classifier.multilabel else _ONE_LABEL
    if not isinstance(classifier.backbone, VisionBackbone):
        has_ngrams = bool(classifier.manifest.baseline_factor)
        imports, ngrams = (_IMPORT_NGRAMS, _NGRAMS) if has_ngrams else ("", "")
        return (
            _TEXTS.format(file=file, max_length=longest(classifier), texts=texts, imports=imports, ngrams=ngrams) + end
        )
    how = classifier.backbone.transform
    square = [f"image = image.resize(({how.size}, {how.size}), {how.resample})"]
    if how.shorter:
        square = [
            f"side = min(image.size) * {how.size} / {how.shorter}  # of the square in the middle",
            "left, upper = (image.width - side) / 2, (image.height - side) / 2",
            "box = (left, upper, left + side, upper + side)",
            f"image = image.resize(({how.size}, {how.size}), {how.resample}, box=box)",
        ]
    return _IMAGES.format(file=file, square="\n".join(square), mean=list(how.mean), std=list(how.std)) + end


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
    return f"""\
---
library_name: model2vec
pipeline_tag: text-classification
tags:
- text-classification
- model2vec
- rehead
---

# A static classifier of texts

Distilled by rehead of a classifier that was made of {plain(Path(classifier.manifest.base).name)};
labels: {_labels(classifier)}. It is one vector a token and
a linear head, and needs neither rehead nor torch (`pip install model2vec`):

```python
from model2vec.inference import StaticModelPipeline

classify = StaticModelPipeline.from_pretrained(".")
print(classify.predict(["a text", "another, longer text"]))
```

It is another classifier than the one that it was distilled of:

| on {found.compared:,} test texts | right | texts a second |
| --- | --- | --- |
| this static model | {accuracy.export:.2%} | {speeds.export:,.0f} |
| the classifier | {accuracy.rehead:.2%} | {speeds.rehead:,.0f} |

Both say the same of {found.agreement:.2%} of them.
"""


def _remarks(classifier: NetworkArtifact, form: str, int8: bool) -> list[str]:
    remarks = []
    if form == "onnx" and isinstance(classifier.backbone, TextBackbone):
        remarks.append("Pad on the right, as `tokenizer.json` does.")
        if classifier.backbone.family.causal:
            token = classifier.backbone.tokenizer.pad_token_id
            remarks.append(f"An empty text that comes alone has no token: give it one of {token} with a mask of 0.")
        if classifier.manifest.baseline_factor:
            remarks.append(
                "Word and character n-grams stand beside the head, and their logits are added to its own in the graph. "
                "`ngrams.py` finds those of a text that are known, which `ngrams.npz` holds; where it has fewer than "
                "another text of the batch, its row is padded with place 0 and value 0."
            )
    if int8:
        remarks.append(
            "A text's probabilities depend a little on what else is in its batch: the scale that what flows "
            "through the network is rounded to is one for all."
        )
    if classifier.manifest.decisions:
        remarks.append(
            "`decisions` in `export.json` holds the thresholds and costs that rehead decides by, if there are any."
        )
    return [" ".join(remarks)] if remarks else []


def longest(classifier: NetworkArtifact) -> int:
    """Return the tokens of a text that are used."""
    assert isinstance(classifier.backbone, TextBackbone)
    return longest_input(classifier.backbone, classifier.max_length)
