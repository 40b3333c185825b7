"""Packages that extras of rehead bring."""

from importlib.util import find_spec

from rehead.runtime.errors import SettingError

_TITLES = {"skimage": "scikit-image", "optuna": "Optuna", "ray": "Ray"}


def require(what: str, extra: str, *packages: str) -> None:
    """Raise SettingError where a package that something needs, which an extra brings, is not installed."""
    missing = [_TITLES.get(name, name) for name in packages if find_spec(name) is None]
    if missing:
        raise SettingError(f"{what} needs {', '.join(missing)}; pip install 'rehead[{extra}]'")
