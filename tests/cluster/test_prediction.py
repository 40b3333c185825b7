"""`rehead predict --on ray`: the rows that plain `predict -o` writes, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rehead import Classifier
from rehead.artifact.loading import load_artifact
from rehead.batch.scoring import score_table
from rehead.cluster import outputs
from rehead.cluster.connection import require_ray
from rehead.cluster.inputs import inputs_of
from rehead.cluster.prediction import score_on_ray
from rehead.runtime.errors import DataError, Interrupted, SettingError
from rehead.workflows.fit import fit
from tests.batch.running import rows_of
from tests.batch.test_predict_command import write_long
from tests.cluster.bucket import Bucket, address
from tests.tiny_images import save_folders
from tests.tiny_vision_models import save_tiny_vision_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(spam: Path) -> Path:
    return spam


def parts_of(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder that was committed, in the order of its parts."""
    listed = json.loads((folder / outputs.COMMIT).read_text())["parts"]
    there = sorted(path.name for path in folder.iterdir() if not path.name.startswith("_"))
    assert there == [part["file"] for part in listed]
    rows = [rows_of(folder / part["file"]) for part in listed]
    assert [len(one) for one in rows] == [part["rows"] for part in listed]
    return [row for one in rows for row in one]


def assert_same(rows: list[dict[str, Any]], plain: list[dict[str, Any]]) -> None:
    """The same columns in the same order with the same cells; probabilities as far as bfloat16 may round them."""
    assert len(rows) == len(plain)
    for ours, theirs in zip(rows, plain, strict=True):
        assert list(ours) == list(theirs)
        for name in theirs:
            if name.startswith("p("):
                assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=2e-2)
            else:
                assert ours[name] == theirs[name], name


def plain(model: Path, source: object, output: Path, **settings: Any) -> list[dict[str, Any]]:
    loaded = load_artifact(model)
    score_table(loaded, loaded.predictor(steady=True, label=None), str(source), output, **settings)
    return rows_of(output)


def actors() -> list[int]:
    """The processes of this test's cluster that hold the classifier."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            title = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            raylet = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if title else 0
            parent = int(Path(f"/proc/{raylet}/stat").read_text().rpartition(")")[2].split()[1]) if title else 0
        except OSError:
            continue
        if b"MapWorker(MapBatches(_Scoring))" in title and parent == os.getpid():
            found.append(int(entry.name))
    return found


def kill_an_actor(output: Path, after: int, killed: list[int]) -> None:
    """Wait until some parts are written, and end one of the actors without a warning."""
    records = output.with_name(f".{output.name}.rehead-run") / "_records"
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if records.is_dir() and len(list(records.iterdir())) >= after and (running := actors()):
            os.kill(running[0], signal.SIGKILL)
            killed.append(running[0])
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_actor_loses_and_doubles_nothing(cluster: None, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_long(data / "a.csv", 6_000)
    (data / "b.csv").write_text('id,text\n=1+1,free prize\nx,\nbad,row,here\ny,"now, call"\n')
    output, killed = tmp_path / "out.csv", []
    killer = threading.Thread(target=kill_an_actor, args=(output, 5, killed))
    killer.start()
    result = score_on_ray(str(model), str(data), str(output), part_rows=128, escape_formulas=True)
    killer.join()
    assert len(killed) == 1
    assert not Path(f"/proc/{killed[0]}").exists()
    rows = parts_of(output)
    assert [row["id"] for row in rows] == [*map(str, range(6_000)), "'=1+1", "x", "y"]
    assert_same(rows, plain(model, data, tmp_path / "plain.csv", escape_formulas=True))
    assert (result.rows, result.bad_rows, result.empty, result.resumed_rows) == (6_003, 1, 1, 0)
    assert result.first_empty == "b.csv row 3"
    (bad,) = (rows_of(file)[0] for file in (output / "_bad").iterdir())
    assert (bad["source"], bad["row"]) == ("b.csv", 4)
    assert not output.with_name(".out.csv.rehead-run").exists()


@pytest.mark.slow
def test_what_was_interrupted_goes_on_and_late_keys_are_kept(
    cluster: None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, output = tmp_path / "lines", tmp_path / "out.jsonl"
    lines.mkdir()
    (lines / "a.jsonl").write_text('{"text": "free prize", "n": 1}\n{"text": "at noon", "n": [2]}\n' * 300)
    (lines / "b.jsonl").write_text('{"late": {"x": null}, "text": "call now"}\n')

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outputs.Output, "commit", interrupt)
        with pytest.raises(Interrupted, match="the same command goes on"):
            score_on_ray(str(model), str(lines), str(output), part_rows=250)
    assert not output.exists()
    working = output.with_name(f".{output.name}.rehead-run")
    (working / "_records" / "000000-000002.json").unlink()
    (working / "part-000000-000002.jsonl").write_text("half a li")
    result = score_on_ray(str(model), str(lines), str(output), part_rows=250)
    assert (result.rows, result.resumed_rows) == (601, 501)
    assert_same(parts_of(output), plain(model, lines, tmp_path / "plain.jsonl"))


@pytest.mark.slow
def test_classifier_and_tables_may_lie_in_a_store_of_objects(cluster: None, model: Path, tmp_path: Path) -> None:
    table = pa.table({"id": pa.array(range(300), pa.int32()), "text": ["lunch at noon", "win cash", None] * 100})
    pq.write_table(table, tmp_path / "table.parquet")
    output = tmp_path / "out.parquet"
    pattern = address(tmp_path / "tab*.parquet")
    result = score_on_ray(address(model), pattern, address(output), part_rows=128)
    assert (result.rows, result.empty, result.parts) == (300, 100, 3)
    assert_same(parts_of(output), plain(model, tmp_path / "table.parquet", tmp_path / "plain.parquet"))
    assert pq.read_table(output).schema.field("id").type == pa.int32()
    assert not (output / "_records").exists()
    with pytest.raises(DataError, match="no table lies there"):
        score_on_ray(str(model), address(tmp_path / "none*.csv"), str(tmp_path / "other.csv"))
    with pytest.raises(DataError, match=r"has a column 'p\(ham\)' already"):
        score_on_ray(str(model), str(tmp_path / "plain.parquet"), str(tmp_path / "other.csv"))


@pytest.mark.slow
def test_images_of_folders_are_scored(cluster: None, in_process: Run, tmp_path: Path) -> None:
    folders = save_folders(tmp_path / "images", n=8)
    base = save_tiny_vision_model(tmp_path / "base", "vit")
    fit(str(folders), Classifier(str(base), tune="head", depth=2, views=1), tmp_path / "model")
    (folders / "lying" / "broken.png").write_bytes(b"no image")
    code, _, err = in_process("predict", tmp_path / "model", folders, "-o", tmp_path / "plain.jsonl")
    assert code == 0, err
    output = tmp_path / "out.jsonl"
    code, out, err = in_process("predict", tmp_path / "model", folders, "-o", output, "--on", "ray", "--json")
    assert code == 0, err
    assert (json.loads(out)["rows"], json.loads(out)["bad_rows"]) == (16, 1)
    assert_same(parts_of(output), rows_of(tmp_path / "plain.jsonl"))


def test_images_at_an_address_are_those_of_the_folder(tmp_path: Path) -> None:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    folders = save_folders(tmp_path / "images", n=2)
    (near,) = inputs_of(str(folders), "out.csv", takes="images")
    (far,) = inputs_of(address(folders), "out.csv", takes="images")
    read = [next(iter(one.portions("image", [], ["image"], 10))) for one in (near, far)]
    assert read[0].values == read[1].values == [[f"{kind}/{n:03}.png"] for kind in ("lying", "upright") for n in (0, 1)]
    assert [image.content for image in read[0].texts] == [image.content for image in read[1].texts]


def test_without_ray_a_line_says_how_to_install_it(
    in_process: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    data = write_long(tmp_path / "data.csv", 3)
    code, out, err = in_process("predict", model, data, "-o", tmp_path / "out.csv", "--on", "ray")
    assert (code, out) == (2, "")
    assert err == "rehead: --on ray needs Ray; pip install 'rehead[ray]'\n"
    with pytest.raises(SettingError, match="must be ray or ray://"):
        require_ray("spark")


def test_a_place_that_is_not_of_this_command_is_left_alone(tmp_path: Path) -> None:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    others = tmp_path / "out.csv"
    others.mkdir()
    for name in ("part-0.csv", outputs.COMMIT):  # as Spark leaves it
        (others / name).touch()
        for place in (str(others), address(others)):
            with pytest.raises(DataError, match="is there already and not of this command"):
                outputs.Output.at(place)
    (others / outputs.COMMIT).write_text('{"parts": []}')
    assert outputs.Output.at(address(others)).begin({"run": "new"}) is False
    assert [path.name for path in others.iterdir()] == ["_run.json"]
    assert outputs.Output.at(address(others)).begin({"run": "new"}) is True
    with pytest.raises(DataError, match="tables are written as"):
        outputs.Output.at("bucket://bucket/out")
    with pytest.raises(SettingError, match="ocifs"):  # a store that hardly anybody has the package for
        outputs.Output.at("oci://bucket@space/out.csv")


def test_importing_rehead_does_not_import_ray() -> None:
    modules = "rehead, rehead.cli.predict, rehead.cluster.connection"
    code = f"import sys, {modules}; print('ray' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "False\n"
