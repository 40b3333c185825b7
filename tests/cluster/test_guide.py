"""The guide's commands and its manifest are of this version."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from rehead.cli.command_line import _parse

GUIDE = Path(__file__).parents[2] / "docs" / "guide"


def test_commands_of_the_guide_are_commands() -> None:
    lines = re.findall(r"^    (?:.* )?rehead (.*)$", (GUIDE / "cluster.md").read_text(), re.MULTILINE)
    assert {line.split()[0] for line in lines} == {"predict", "fit", "search", "serve"}
    for line in lines:
        _parse(shlex.split(line, comments=True))


def test_manifest_runs_a_command_where_it_says() -> None:
    (job,) = yaml.safe_load_all((GUIDE / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, *arguments = shlex.split(job["spec"]["entrypoint"])
    options = _parse(arguments)
    assert (program, options.on) == ("rehead", "ray")
    cluster = job["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    containers = [group["template"]["spec"]["containers"][0] for group in (head, workers)]
    assert containers[0]["image"] == containers[1]["image"]
    assert "nvidia.com/gpu" in containers[1]["resources"]["limits"]
    assert head["rayStartParams"]["num-cpus"] == "0"


def test_manifest_is_for_the_ray_that_was_tested() -> None:
    (job,) = yaml.safe_load_all((GUIDE / "kuberay.yaml").read_text())
    tested = (GUIDE.parents[1] / "constraints.txt").read_text().splitlines()
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}" in tested
