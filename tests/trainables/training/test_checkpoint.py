"""Checkpoints: all or nothing on disk, no code on loading, and never the wrong trial's."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables import files
from trainables.errors import CheckpointError, StorageError
from trainables.ray_adapter.storage import KEPT, CheckpointStore, below
from trainables.training import checkpoint

Roots = pytest.mark.parametrize("as_uri", [False, True], ids=["path", "file-uri"])


def state_of(step: int, trial_id: str = "abc") -> dict[str, Any]:
    weights = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
    return {"trial_id": trial_id, "step": step, "task": {"weight": weights}, "optimizer": {"groups": [{"lr": 0.1}]}}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    weights = torch.equal(first["task"]["weight"], second["task"]["weight"])
    return weights and {**first, "task": 0} == {**second, "task": 0}


# --- bytes -------------------------------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_went_in() -> None:
    content = checkpoint.to_bytes(state_of(3))
    assert same(checkpoint.from_bytes(content, where="here", trial_id="abc"), state_of(3))


def test_another_trials_state_is_refused() -> None:
    content = checkpoint.to_bytes(state_of(3, trial_id="other"))
    with pytest.raises(CheckpointError, match=r"^here: belongs to trial other, not to abc$"):
        checkpoint.from_bytes(content, where="here", trial_id="abc")
    assert same(checkpoint.from_bytes(content, where="here"), state_of(3, trial_id="other"))


class Malicious:
    """What an attacker puts into a checkpoint: unpickling it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    content = checkpoint.to_bytes({**state_of(3), "extra": Malicious(tmp_path / "owned")})
    with pytest.raises(CheckpointError, match="here: not a readable checkpoint"):
        checkpoint.from_bytes(content, where="here")
    assert not (tmp_path / "owned").exists()


def test_broken_bytes_are_never_taken_for_a_state() -> None:
    content = checkpoint.to_bytes(state_of(3))
    chance = random.Random(0)
    broken = [content[:n] for n in range(0, len(content), 37)] + [chance.randbytes(n) for n in range(200)]
    for _ in range(300):
        flipped = bytearray(content)
        flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        broken.append(bytes(flipped))
    refused = 0
    for bytes_ in broken:
        try:
            found = checkpoint.from_bytes(bytes_, where="here")
        except CheckpointError as error:
            refused += 1
            assert str(error).startswith("here: not a readable checkpoint (")  # noqa: PT017 - most are refused
        else:
            assert same(found, state_of(3))  # the bit was one of the padding
    assert refused > len(broken) / 2


@pytest.mark.parametrize("content", [[1, 2], {"step": 3}, torch.zeros(2)])
def test_something_else_than_a_state_is_refused(content: Any) -> None:
    with pytest.raises(CheckpointError, match="here: not a checkpoint of a trial"):
        checkpoint.from_bytes(checkpoint.to_bytes(content), where="here")


# --- the store ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "place"),
    [
        ("s3://bucket/a?region=eu-central-1&scheme=http", "s3://bucket/a/x/y?region=eu-central-1&scheme=http"),
        ("s3://bucket/a/", "s3://bucket/a/x/y"),
        ("/mnt/really?", "/mnt/really?/x/y"),  # a folder has no query
    ],
)
def test_a_place_below_a_location_keeps_the_query_of_a_uri_at_its_end(root: str, place: str) -> None:
    assert below(root, "x", "y") == place


def test_studies_in_one_location_with_a_query_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    stores = [CheckpointStore(below(f"{tmp_path.as_uri()}?region=here", name)) for name in ("first", "second")]
    stores[0].save("abc", state_of(3))
    assert (tmp_path / "first" / "abc").is_dir()
    assert stores[1].load("abc") is None


def store_at(folder: Path, as_uri: bool) -> CheckpointStore:
    return CheckpointStore(folder.as_uri() if as_uri else str(folder))


@Roots
def test_the_newest_state_is_loaded_and_the_last_two_are_kept(as_uri: bool, tmp_path: Path) -> None:
    root = tmp_path / "with space"
    store = store_at(root, as_uri)
    assert store.load("abc") is None
    for step in (0, 25, 1000, 50_000):
        assert Path(store.save("abc", state_of(step))).is_file()
        newest = store.load("abc")
        assert newest is not None
        assert same(newest, state_of(step))
    names = sorted(path.name for path in (root / "abc").iterdir())
    assert names == ["step-000001000.pt", "step-000050000.pt"]
    assert len(names) == KEPT


@Roots
def test_trials_are_kept_apart(as_uri: bool, tmp_path: Path) -> None:
    store = store_at(tmp_path, as_uri)
    store.save("abc", state_of(1))
    store.save("def", state_of(2, "def"))
    assert store.load("abc")["step"] == 1  # type: ignore[index]
    assert store.load("def")["step"] == 2  # type: ignore[index]
    assert store.load("ghi") is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_broken_file_falls_back_to_the_one_before(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_at(tmp_path, as_uri=False)
    store.save("abc", state_of(1))
    newest = Path(store.save("abc", state_of(2)))
    content = bytearray(newest.read_bytes())
    weights = content.find(state_of(2)["task"]["weight"].numpy().tobytes())
    assert weights > 0
    content[weights] ^= 1
    newest.write_bytes({"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])
    found = store.load("abc")
    assert found is not None
    assert same(found, state_of(1))
    (line,) = caplog.messages
    assert line.startswith(f"{newest}: not a readable checkpoint (")
    assert line.endswith("; the newest readable one is of step 1")
    assert store.damaged == [line]


def test_with_every_file_broken_there_is_no_state(tmp_path: Path) -> None:
    store = store_at(tmp_path, as_uri=False)
    paths = [store.save("abc", state_of(step)) for step in (1, 2)]
    for path in paths:
        Path(path).write_bytes(b"broken")
    assert store.load("abc") is None
    for path, line in zip(reversed(paths), store.damaged, strict=True):
        assert line.startswith(f"{path}: not a readable checkpoint (")
        assert line.endswith("; no older checkpoint is readable")


def test_another_trials_file_is_not_loaded(tmp_path: Path) -> None:
    store = store_at(tmp_path, as_uri=False)
    path = Path(store.save("abc", state_of(1, trial_id="other")))
    with pytest.raises(CheckpointError, match="belongs to trial other, not to abc"):
        store.read(str(path), "abc")
    assert store.load("abc") is None


def test_a_write_that_was_killed_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(tmp_path, as_uri=False)
    store.save("abc", state_of(1))
    half = tmp_path / "abc" / f".step-000000002.pt{files.PARTIAL}x7"  # what SIGKILL leaves
    half.write_bytes(b"half")
    assert store.load("abc")["step"] == 1  # type: ignore[index]
    assert not half.exists()


def test_two_writers_of_one_trial_do_not_fail_of_each_other(tmp_path: Path) -> None:
    """A trial that has lost its driver may still write its last checkpoint while another driver resumes the trial."""

    def write_all(_: int) -> None:
        store = store_at(tmp_path, as_uri=False)
        for step in range(100):
            store.save("abc", state_of(step))

    with ThreadPoolExecutor(2) as writers:
        list(writers.map(write_all, range(2)))
    newest = store_at(tmp_path, as_uri=False).load("abc")
    assert newest is not None
    assert same(newest, state_of(99))


# --- marks -------------------------------------------------------------------------------------------------------


@Roots
def test_a_node_knows_by_its_mark_the_place_that_the_driver_writes(tmp_path: Path, as_uri: bool) -> None:
    token = store_at(tmp_path, as_uri).write_token()
    store_at(tmp_path, as_uri).check(token, node="10.0.0.2")
    assert store_at(tmp_path, as_uri).load("abc") is None


@Roots
def test_a_place_of_the_same_name_on_another_nodes_disk_is_refused(tmp_path: Path, as_uri: bool) -> None:
    store = store_at(tmp_path / "here", as_uri)
    with pytest.raises(
        StorageError, match=r"^storage: .*/here on node 10.0.0.2 is not the folder .* name one that all"
    ):
        store.check("another", node="10.0.0.2")
    store.write_token()  # as an earlier study has left one there
    with pytest.raises(StorageError, match=r"on node 10.0.0.2 is not the folder"):
        store.check("another", node="10.0.0.2")


@pytest.mark.parametrize("uri", ["foo://bar/studies", "s3:///studies"])
def test_a_location_that_pyarrow_cannot_open_is_an_error_that_names_it(uri: str) -> None:
    with pytest.raises(StorageError, match=f"storage: {uri}: "):
        CheckpointStore(uri)
