"""Encoders as files, and features of the user's own images: every form of an encoder gives the same features."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from analysis.records import ENCODERS
from study.cli import commands
from study.export import encoders, mlflow_models
from study.export.embed import embed
from study.export.encoders import METADATA, PROGRAM, WEIGHTS, Reading, load_encoder, read_example, write_encoder
from study.tracking.state import TrackingError
from study.tracking.sync import default_tracking_uri, run_id_of, sync
from tests.study.mlflow_stores import free_port
from tests.study.tracked_journals import study_events, trial, write
from trainables.data import load_splits
from trainables.encoders import Encoder, build_encoder
from trainables.errors import ConfigError, DataError, UserError

SIDE = 16
ABOUT_IT = {"name": "conv4", "width": 4, "image_size": SIDE}
EXAMPLE = np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    made = build_encoder("conv4", width=4, image_size=SIDE, seed=3)
    made(torch.rand(16, 3, SIDE, SIDE))  # moves the running statistics away from their defaults
    return made


@pytest.fixture
def study(tmp_path: Path, encoder: Encoder) -> Path:
    """The folder of a study with one encoder."""
    write_encoder(tmp_path / "study" / ENCODERS / "rotation", encoder, ABOUT_IT, EXAMPLE)
    return tmp_path / "study"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two photographs, one of them in a subfolder, and a text file."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    stream = np.random.default_rng(0)
    for name, size in (("b.png", (20, 30)), ("deep/a.png", (SIDE, SIDE))):
        Image.fromarray(stream.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("form", ["study", "folder", "weights", "program"])
def test_every_file_gives_the_features_of_the_encoder_itself(form: str, study: Path, encoder: Encoder) -> None:
    folder = study / ENCODERS / "rotation"
    place = {"study": study, "folder": folder, "weights": folder / WEIGHTS, "program": folder / PROGRAM}[form]
    loaded = load_encoder(str(place), task="rotation" if form == "study" else None)
    assert loaded.image_size == SIDE
    for n_images in (1, 5):
        batch = torch.rand(n_images, 3, SIDE, SIDE)
        with torch.no_grad():
            torch.testing.assert_close(loaded.features(batch), encoder.eval()(batch), rtol=0, atol=1e-6)


def test_an_encoder_of_a_plugin_is_found_by_a_relative_path(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, searched = study / ENCODERS / "rotation", []
    (folder / METADATA).write_text(json.dumps(ABOUT_IT | {"name": "of_a_plugin"}))
    monkeypatch.setattr(encoders.plugins, "load_recorded", lambda recorded, place: searched.append(place))
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match="of_a_plugin"):
        load_encoder(".")
    assert searched == [study]


def test_pages_are_embedded_one_by_one_where_the_study_read_pages(encoder: Encoder, tmp_path: Path) -> None:
    folder, output = tmp_path / "stacks", tmp_path / "features.parquet"
    folder.mkdir()
    pages = [Image.fromarray(page) for page in np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), np.uint8)]
    pages[0].save(folder / "x.tif", save_all=True, append_images=pages[1:])
    write_encoder(tmp_path / "encoder", encoder, ABOUT_IT | {"reading": Reading("pages").to_dict()}, EXAMPLE)
    loaded = load_encoder(str(tmp_path / "encoder"))
    assert embed(loaded, folder, output) == (3, encoder.feature_dim)
    features = pd.read_parquet(output).set_index("path")
    assert list(features.index) == [f"x.tif/page {i}" for i in (1, 2, 3)]
    second = torch.from_numpy(np.stack([np.asarray(pages[1])] * 3)[None] / np.float32(255))
    torch.testing.assert_close(torch.from_numpy(features.to_numpy()[1:2].copy()), loaded.features(second))


@pytest.mark.core
@pytest.mark.slow
def test_encoders_that_mlflow_has_not_received_are_registered_by_sync_once(
    study: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    uri, deliveries = f"sqlite:///{tmp_path}/mlflow.db", []
    monkeypatch.setattr(mlflow_models, "sync", lambda *arguments: deliveries.append(sync(*arguments)))
    write(study, study_events("s"))
    for number, task in enumerate(("rotation", "simclr")):
        about = ABOUT_IT | {"study": "s", "trial_id": trial(number).trial_id, "step": 3}
        write_encoder(study / ENCODERS / task, encoder, about, EXAMPLE)
    for _ in range(2):
        commands.sync_command(study, tracking_uri=uri)
        assert "models: models:/s-rotation/1, models:/s-simclr/1\n" in capsys.readouterr().out
        for file in study.glob(f"{ENCODERS}/*/*[!n]"):  # all but encoder.json: they are not read again
            file.unlink()
    assert len(deliveries) == 1
    (version,) = MlflowClient(tracking_uri=uri).search_model_versions("name = 's-rotation'")
    assert version.run_id == run_id_of(study, uri, trial(0).trial_id)[0]
    assert version.description == (
        f"Float images [n, 3, {SIDE}, {SIDE}] in [0, 1] to features, after 3 steps of trial {trial(0).trial_id}."
    )


def test_an_encoder_that_cannot_be_registered_is_named_with_the_reason(study: Path, encoder: Encoder) -> None:
    about = ABOUT_IT | {"study": "s", "trial_id": trial(0).trial_id, "step": 3}
    write_encoder(study / ENCODERS / "rotation", encoder, about, EXAMPLE)
    write(study, study_events("s"))
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:\d+ cannot be written: "):
        mlflow_models.log_models(study, f"http://127.0.0.1:{free_port()}")
    (study / ENCODERS / "rotation" / "example.npy").write_bytes(b"no images")
    with pytest.raises(UserError, match=r"rotation/example.npy cannot be read"):
        read_example(study / ENCODERS / "rotation")


def test_a_model_of_mlflow_gives_the_features_of_the_encoder_itself(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "study"
    write(folder, study_events("s"))
    sync(folder, uri)
    key = trial(0).trial_id
    model = mlflow_models.log_model(folder, uri, trial_id=key, encoder=encoder, example=EXAMPLE, name="s-rotation")
    batch = torch.rand(5, 3, SIDE, SIDE)
    for name in (model, f"runs:/{run_id_of(folder, uri, key)[0]}/s-rotation"):
        loaded = load_encoder(name, tracking_uri=uri)
        assert loaded.image_size == SIDE
        with torch.no_grad():
            torch.testing.assert_close(loaded.features(batch), encoder.eval()(batch), rtol=0, atol=1e-6)
    with pytest.raises(TrackingError, match="MLflow has no model models:/nothing/1"):
        load_encoder("models:/nothing/1", tracking_uri=uri)
    with pytest.raises(ConfigError, match=f"^--task rotation: {model} is one encoder"):
        load_encoder(model, task="rotation")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert default_tracking_uri() == uri
    with pytest.raises(TrackingError, match="MLflow has no model models:/nothing/1 that can be read: "):
        load_encoder("models:/nothing/1", tracking_uri="sqlite:////nowhere/mlflow.db")


def test_features_are_written_one_row_per_image(study: Path, images: Path, tmp_path: Path, encoder: Encoder) -> None:
    output = tmp_path / "features.parquet"
    arguments = ["embed", str(study), str(images), "--task", "rotation", "--output", str(output)]
    commands.app(arguments, standalone_mode=False)
    frame = pd.read_parquet(output)
    assert frame["path"].tolist() == ["b.png", "deep/a.png"]
    assert frame.columns.tolist() == ["path", *(f"f{index}" for index in range(encoder.feature_dim))]
    pixels = np.asarray(Image.open(images / "deep" / "a.png")).transpose(2, 0, 1)
    with torch.no_grad():
        expected = encoder.eval()(torch.tensor(pixels)[None] / 255)[0]
    np.testing.assert_allclose(frame.set_index("path").loc["deep/a.png"].to_numpy(np.float32), expected, atol=1e-6)


def test_a_broken_image_is_named_or_left_out(study: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.jpg").write_bytes(b"no jpeg")
    loaded, output = load_encoder(str(study), task="rotation"), tmp_path / "features.parquet"
    with pytest.raises(DataError, match=r"1 of 3 images.*broken.jpg"):
        embed(loaded, images, output)
    assert not output.exists()
    assert embed(loaded, images, output, on_bad_image="skip") == (2, 32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no images"):
        embed(loaded, tmp_path / "empty", output)
    with pytest.raises(DataError, match="is not a folder of images"):
        embed(loaded, tmp_path / "nowhere", output)


def test_anything_but_an_encoder_is_refused_in_one_line(study: Path, tmp_path: Path) -> None:
    for task, given in ((None, "--task is missing"), ("simclr", "--task simclr")):
        with pytest.raises(ConfigError, match=f"{given}: .* has encoders of rotation"):
            load_encoder(str(study), task=task)
    with pytest.raises(ConfigError, match="is not an encoder: give an MLflow model"):
        load_encoder(str(tmp_path))
    for form in (study / ENCODERS / "rotation", study / ENCODERS / "rotation" / "encoder.pt2"):
        with pytest.raises(ConfigError, match=r"^--task simclr: .* is one encoder"):
            load_encoder(str(form), task="simclr")
    (tmp_path / "broken.pt2").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"broken.pt2: not a torch.export program"):
        load_encoder(str(tmp_path / "broken.pt2"))


def test_no_code_in_the_weights_of_a_study_is_run(study: Path, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "was-here",)  # type: ignore[return-value]

    folder = study / ENCODERS / "rotation"
    torch.save({"weights": Malicious()}, folder / WEIGHTS)
    with pytest.raises(UserError, match="cannot be read or do not match"):
        load_encoder(str(folder))
    assert not (tmp_path / "was-here").exists()


def test_an_encoders_metadata_says_how_to_build_it(study: Path) -> None:
    about = json.loads((study / ENCODERS / "rotation" / METADATA).read_text())
    assert about == {**ABOUT_IT, "feature_dim": 32, "in_channels": 3}


def write_arrays(folder: Path, values: np.ndarray, factor: int) -> Path:
    """Write images [N, C, S, S] in [0, 1] as arrays of whole numbers up to `factor`."""
    folder.mkdir(parents=True)
    for index, image in enumerate(values):
        np.save(folder / f"{index}.npy", (image * factor).astype(np.uint16))
    return folder


@pytest.mark.parametrize("form", ["folder", "program", "mlflow"])
def test_new_images_of_five_channels_are_scaled_like_the_training_images(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half as bright as the training images, they must stay so: windows of their own would hide it."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    values = np.random.default_rng(0).random((20, 5, SIDE, SIDE))
    splits = load_splits(f"folder:{write_arrays(tmp_path / 'training', values, 4095)}", root=None, image_size=SIDE)
    table = splits.pretext_train
    encoder = build_encoder("conv4", width=4, image_size=SIDE, in_channels=5).eval()
    folder = tmp_path / "study" / ENCODERS / "rotation"
    about = ABOUT_IT | {"study": "s", "trial_id": trial(0).trial_id, "step": 3}
    write_encoder(folder, encoder, about | {"reading": Reading("first", table.intensity).to_dict()}, table.images[:2])
    place = {"folder": folder, "program": folder / PROGRAM, "mlflow": "models:/s-rotation/1"}[form]
    if form == "mlflow":
        write(tmp_path / "study", study_events("s"))
        mlflow_models.log_models(tmp_path / "study", uri)
    loaded = load_encoder(str(place), tracking_uri=uri)
    assert loaded.in_channels == 5
    embed(loaded, write_arrays(tmp_path / "new", values / 2, 4095), tmp_path / "features.parquet")
    found = pd.read_parquet(tmp_path / "features.parquet").sort_values("path").set_index("path")
    order = [int(path.removesuffix(".npy")) for path in found.index]
    with torch.no_grad():
        expected = encoder(torch.tensor(values[order] / 2).float())
    torch.testing.assert_close(torch.tensor(found.to_numpy()), expected, rtol=0, atol=0.01)
    write_arrays(tmp_path / "others", values[:, :4], 4095)
    with pytest.raises(DataError, match="4 channels; they must have 5"):
        embed(loaded, tmp_path / "others", tmp_path / "others.parquet")


def test_csv_has_the_numbers_of_parquet(study: Path, images: Path, tmp_path: Path) -> None:
    loaded = load_encoder(str(study), task="rotation")
    outputs = [tmp_path / f"features.{suffix}" for suffix in ("parquet", "csv", "CSV")]
    for output in outputs:
        embed(loaded, images, output)
    expected = pd.read_parquet(outputs[0])
    for output in outputs[1:]:
        pd.testing.assert_frame_equal(
            pd.read_csv(output, dtype=dict.fromkeys(expected.columns[1:], "float32")), expected
        )


@pytest.mark.parametrize("name", ["features.xlsx", "features", "features.csv.gz"])
def test_another_format_is_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["study", "embed", "nowhere", "nowhere", "--output", name])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    assert ended.value.code == 2
    assert f"error: --output {name}: must end with .parquet or .csv" in capsys.readouterr().err


def original_path(written: str) -> str:
    """Return the path that `written_path` has written."""
    encoded = re.sub(
        rb"\\(?:\\|x([0-9a-f]{2}))",
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\",
        written.encode(),
    )
    return os.fsdecode(encoded)


def test_names_in_any_encoding_are_written_so_that_they_can_be_read_back(
    study: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = (images / "b.png").read_bytes()
    odd = [os.fsdecode(b"caf\xe9.png"), "back\\slash.png", "back\\xe9.png", "été.png"]
    for name in odd:
        (images / name).write_bytes(content)
    embed(load_encoder(str(study), task="rotation"), images, tmp_path / "features.parquet")
    written = list(pd.read_parquet(tmp_path / "features.parquet")["path"])
    assert {r"caf\xe9.png", r"back\\slash.png", r"back\\xe9.png", "été.png"} <= set(written)
    assert {original_path(path) for path in written} == {*odd, "b.png", "deep/a.png"}
    (line,) = caplog.messages
    assert line.startswith("3 file names have a backslash or bytes that are not UTF-8")
