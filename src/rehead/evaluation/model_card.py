"""Write a classifier's model card: a README.md that begins with what the model hub reads of it, as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rehead.evaluation.rendering import render
from rehead.models.registry import CATALOGUE
from rehead.runtime.results import Json
from rehead.runtime.wording import escaped

# Signs that Markdown or HTML would act on inside a line.
_SIGNS = re.compile(r"[\\`*_\[\]<>|~&]")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def render_model_card(
    result: Json, transformers_class: str | None, languages: Iterable[str] = (), dataset: str | None = None
) -> str:
    """Return a model card.

    Args:
        result: what a fit gives, as JSON; or what rehead.json holds, and `what`, where nothing was tested.
        transformers_class: the class of Transformers that reads the folder with the same answers, if there is one.
        languages: of the texts, as two-letter codes.
        dataset: the hub's name of what was learned from, if it is there.
    """
    body = render(
        "model_card.md.jinja",
        result=result,
        data=plain(_shown(result["data"])) if "data" in result else None,
        base=plain(result["base"] if base_on_the_hub(result["base"]) else _shown(result["base"])),
        labels=[plain(label) for label in result["labels"]],
        licence=_licence(result["base"]),
        transformers_class=transformers_class,
        plain=plain,
    )
    return f"---\n{_header(result, transformers_class, languages, dataset)}\n---\n\n{body}"


def plain(text: str) -> str:
    """Return a text of others' as Markdown that shows it in one line, whatever is in it."""
    return _SIGNS.sub(r"\\\g<0>", escaped(" ".join(text.split())))


def _header(result: Json, transformers_class: str | None, languages: Iterable[str], dataset: str | None) -> str:
    """Return the YAML header. What is not known is left out; nothing is guessed but the languages."""
    from huggingface_hub import ModelCardData

    task = "text-classification" if result["what"] == "texts" else "image-classification"
    known = {
        "language": list(languages) or None,
        "license": (_licence(result["base"]) or "").lower() or None,
        "base_model": base_on_the_hub(result["base"]),
        "datasets": [dataset] if dataset else None,
        "library_name": "rehead",
        "pipeline_tag": task,
        "tags": [task, "rehead", *(["transformers"] if transformers_class else [])],
    }
    if "test" in result:
        known |= {"metrics": ["accuracy", "f1"], **_measured(result, task, dataset)}
    return str(ModelCardData(**known).to_yaml()).strip()


def _measured(result: Json, task: str, dataset: str | None) -> Json:
    """Return the entries of the model index."""
    from huggingface_hub import EvalResult

    name = _shown(result["data"])
    kind = dataset or re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "data"
    accuracy, f1 = (round(result["test"][measure], 6) for measure in ("accuracy", "macro_f1"))
    measures = [("accuracy", None, accuracy), ("f1", "macro F1", f1)]
    return {
        "model_name": name,
        "eval_results": [
            EvalResult(
                task_type=task,
                dataset_type=kind,
                dataset_name=name,
                dataset_split="test",
                metric_type=metric,
                metric_name=title,
                metric_value=value,
            )
            for metric, title, value in measures
        ],
    }


def _shown(path: str) -> str:
    """Return the name of a file or folder, without the folders that it lies in."""
    return Path(path).name or path


def _licence(base: str) -> str | None:
    return CATALOGUE[base].licence if base in CATALOGUE else None


def base_on_the_hub(base: str) -> str | None:
    """Return the base's name on the hub; None for files, folders and what is not there."""
    if base in CATALOGUE:
        return CATALOGUE[base].hub
    return base if _HUB_NAME.fullmatch(base) and not Path(base).exists() else None
