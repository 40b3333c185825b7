"""What stands around the source: metadata, hooks, workflow, forms and image say what the project says."""

import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.+(?:\n +.+)*)", DOCKERFILE.replace("\\\n", "\n"), re.MULTILINE)


def parsed(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def commands_of(target: str) -> str:
    make = ["make", "--dry-run", "--always-make", target]
    return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_citation_is_of_this_version() -> None:
    citation = parsed("CITATION.cff")
    found = citation["title"], citation["version"], citation["license"], citation["repository-code"]
    assert found == (PROJECT["name"], PROJECT["version"], PROJECT["license"], PROJECT["urls"]["Source"])


def test_hooks_are_commands_of_make_check() -> None:
    checked = re.split(r" && |\n", commands_of("check"))
    (local,) = parsed(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in local["hooks"] if hook["entry"] not in checked] == []
    assert len(local["hooks"]) == 3


def test_workflow_checks_requests_and_tests_main() -> None:
    workflow = parsed(".github/workflows/ci.yml")
    assert workflow[True].keys() == {"pull_request", "push"}  # YAML takes `on` for true
    for job in workflow["jobs"].values():
        (python,) = (step["with"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
        assert PROJECT["requires-python"] == f">={python['python-version']}"
    ran = {name: job["steps"][-1]["run"] for name, job in workflow["jobs"].items()}
    assert ran == {"check": "make check", "test": "make test"}


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_forms_are_as_they_have_to_be(form: Path) -> None:
    content = parsed(str(form.relative_to(ROOT)))
    assert {"name", "description", "body"} <= content.keys()
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_image_stands_on_the_python_that_is_tested_and_runs_without_root() -> None:
    bases = [content for name, content in INSTRUCTIONS if name == "FROM"]
    assert bases == [f"python:{PROJECT['requires-python'].removeprefix('>=')}-slim"]
    users = [content for name, content in INSTRUCTIONS if name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    assert [name for name, _ in INSTRUCTIONS].index("USER") < [name for name, _ in INSTRUCTIONS].index("ENTRYPOINT")


def test_image_asks_the_server_how_it_is() -> None:
    from rehead.serving.gate import OPEN
    from rehead.serving.settings import ServerSettings

    (check,) = (content for name, content in INSTRUCTIONS if name == "HEALTHCHECK")
    address = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", check)
    assert address
    assert int(address[1]) == ServerSettings().port
    assert address[2] in OPEN


def test_image_serves_a_folder_to_other_machines_with_keys_alone() -> None:
    start = dict(INSTRUCTIONS)
    assert (start["ENTRYPOINT"], start["CMD"]) == ('["rehead"]', '["serve", "/model", "--host", "0.0.0.0"]')
    set_there = " ".join(content for name, content in INSTRUCTIONS if name in ("ENV", "ARG"))
    assert not re.search(r"KEY|TOKEN|SECRET|PASSWORD", set_there)
    assert "--insecure" not in DOCKERFILE


def test_image_is_built_of_what_is_let_in_and_no_more() -> None:
    everything, *patterns = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] != "#"
    ]
    assert everything == "*"
    let_in = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    copied = {file for name, content in INSTRUCTIONS if name == "COPY" for file in content.split()[:-1]}
    assert copied == let_in
    assert all((ROOT / file).exists() for file in copied)
    assert not [file for file in copied if fnmatch.fnmatch(file, ".*")]


def test_image_is_installed_of_what_was_tested() -> None:
    (install,) = (" ".join(content.split()) for name, content in INSTRUCTIONS if "pip install" in content)
    assert "--constraint constraints.txt" in install
    wanted = re.search(r"'\.\[(.+)\]'", install)
    assert wanted
    assert set(wanted[1].split(",")) <= PROJECT["optional-dependencies"].keys()
