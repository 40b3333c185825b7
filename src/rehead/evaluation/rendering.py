"""Fill in the templates of this package: pages, and model cards."""

from typing import Any

from rehead.evaluation.baselines import LOOKS_AT, NAMES, rivals, said_beside
from rehead.runtime.wording import percent


def render(template: str, **values: Any) -> str:
    """Return a template of this package with its values; a missing one is a fault."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("rehead.evaluation"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"baseline_names": NAMES, "looks_at": LOOKS_AT, "rivals": rivals, "said_beside": said_beside}
    environment.filters["percent"] = percent
    return environment.get_template(template).render(**values)
