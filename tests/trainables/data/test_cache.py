"""Large images are decoded once and shared by processes; what is killed, cut off or forbidden breaks no study."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import load_splits, near_duplicates, row_hashes, table
from trainables.data.cache import arrays, copied, empty, file_of, folder, joined, key_of, remembered, rows
from trainables.data.readers import decoded
from trainables.data.readers.bad_image import decoding
from trainables.data.readers.images import ImageReader
from trainables.data.readers.masks import MaskedReader
from trainables.data.table import ImageTable, Splits
from trainables.errors import ConfigError, DataError

SIDE = 16


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, in which images of any size are kept."""
    path = tmp_path / "cache"
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", str(path))
    monkeypatch.setattr(arrays, "LARGE_BYTES", 1)
    monkeypatch.setattr(decoded, "LARGE_BYTES", 1)
    folder._say.cache_clear()
    return path


@pytest.fixture
def photos(tmp_path: Path, write_photo: Callable[..., Path]) -> list[Path]:
    return [write_photo(tmp_path / "photos" / f"{i}.png") for i in range(12)]


def decode_counted(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> tuple[decoded.Decoded, ImageReader, int]:
    """Decode the files; return the images, their reader, and how many files were read."""
    read: list[Path] = []
    original = ImageReader.__call__
    monkeypatch.setattr(ImageReader, "__call__", lambda self, path: read.append(path) or original(self, path))
    reader = ImageReader(SIDE)
    result = decoded.decode_all(paths, reader)
    monkeypatch.setattr(ImageReader, "__call__", original)
    return result, reader, len(read)


def test_images_are_decoded_once(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    photos[3].write_bytes(b"\xff\xd8\xff broken")
    first, first_reader, n_first = decode_counted(photos, monkeypatch)
    second, second_reader, n_second = decode_counted(photos, monkeypatch)
    assert (n_first, n_second) == (12, 0)
    assert first.images is not None
    assert second.images is not None
    np.testing.assert_array_equal(first.images, second.images)
    in_memory = np.stack([ImageReader(SIDE)(path) for path in photos[:3]])
    np.testing.assert_array_equal(second.images[:3], in_memory)
    assert {index: str(bad) for index, bad in second.bad.items()} == {3: str(first.bad[3])}
    assert vars(first_reader) == vars(second_reader)


def test_a_changed_file_is_decoded_again(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decode_counted(photos, monkeypatch)
    photos[5].write_bytes(photos[6].read_bytes())
    changed, _, n_read = decode_counted(photos, monkeypatch)
    assert n_read == 12
    assert changed.images is not None
    np.testing.assert_array_equal(changed.images[5], changed.images[6])
    assert decode_counted(photos[:-1], monkeypatch)[2] == 11


def test_a_file_that_the_system_could_not_read_is_tried_again(
    photos: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ImageReader.read

    def failing(self: ImageReader, path: Path, *, oriented: bool = True) -> np.ndarray:
        with decoding():
            if path == photos[3]:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(self, path, oriented=oriented)

    with monkeypatch.context() as patch:
        patch.setattr(ImageReader, "read", failing)
        first = decoded.decode_all(photos, ImageReader(SIDE))
    assert {index: str(bad) for index, bad in first.bad.items()} == {3: "Input/output error"}
    assert not decode_counted(photos, monkeypatch)[0].bad


def test_another_version_of_a_decoder_decodes_again(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "version_of", lambda name: "")
    decode_counted(photos, monkeypatch)
    for package in ("pillow", "pillow-heif", "tifffile", "imagecodecs", "torchvision"):
        monkeypatch.setattr(decoded, "version_of", lambda name, other=package: "new" if name == other else "")
        assert decode_counted(photos, monkeypatch)[2] == 12


def test_an_entry_that_another_process_has_just_stored_is_used(
    photos: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = decoded._decode_all

    def overtaken(paths: list[Path], read: ImageReader) -> decoded.Decoded:
        monkeypatch.setattr(decoded, "_decode_all", original)
        result = original(paths, read)
        decoded.decode_all(paths, ImageReader(SIDE))
        (entry,) = (cache / "decoded").iterdir()
        (entry / "of the first").touch()
        return result

    monkeypatch.setattr(decoded, "_decode_all", overtaken)
    result = decoded.decode_all(photos, ImageReader(SIDE))
    (entry,) = (cache / "decoded").iterdir()
    assert (entry / "of the first").exists()
    assert result.images is not None
    held = file_of(result.images)
    assert held is not None
    assert Path(held.path) == entry / decoded.DATA


def test_an_entry_that_is_cut_off_is_replaced(photos: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _, _ = decode_counted(photos, monkeypatch)
    assert before.images is not None
    expected = np.array(before.images)
    (entry,) = (cache / "decoded").iterdir()
    for file, content in (("images.bin", b"short"), ("facts.json", b"{"), ("facts.json", b"[]")):
        (entry / f"{file}.new").write_bytes(content)
        (entry / f"{file}.new").replace(entry / file)
        after, _, n_read = decode_counted(photos, monkeypatch)
        assert n_read == 12
        np.testing.assert_array_equal(after.images, expected)
        assert decode_counted(photos, monkeypatch)[2] == 0


def test_a_folder_gives_the_same_splits_with_and_without_cache(
    tmp_path: Path, write_classes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "classes")
    (root / "loose.png").write_bytes((root / "cat" / "1.png").read_bytes())  # also joined with others
    stored = [load_splits(f"folder:{root}", root=None, image_size=SIDE) for _ in range(2)]
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", "off")
    plain = load_splits(f"folder:{root}", root=None, image_size=SIDE)
    assert {splits.fingerprint for splits in stored} == {plain.fingerprint}
    assert stored[1].inventory == plain.inventory
    assert file_of(stored[1].pretext_train.images) is not None
    assert file_of(plain.pretext_train.images) is None


@pytest.fixture
def masked(tmp_path: Path, write_photo: Callable[..., Path]) -> Path:
    """A folder whose manifest names a mask for two thirds of its images."""
    rows = ["path,mask"]
    for i in range(18):
        write_photo(tmp_path / "masked" / f"{i}.png")
        classes = np.random.default_rng(i).integers(0, 4, (40, 48), np.uint8)
        Image.fromarray(classes).save(tmp_path / "masked" / f"{i}.gif")
        rows.append(f"{i}.png," + (f"{i}.gif" if i % 3 else ""))
    (tmp_path / "masked" / "manifest.csv").write_text("\n".join(rows))
    return tmp_path / "masked"


def test_masks_are_read_once_and_again_after_a_change(masked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Splits:
        return load_splits(f"folder:{masked}", root=None, image_size=SIDE)

    first = load()
    with monkeypatch.context() as patch:
        patch.setattr(MaskedReader, "__call__", None)
        second = load()
    assert second.fingerprint == first.fingerprint
    assert second.masked
    assert second.test.mask_names == first.test.mask_names == ("0", "1", "2", "3")
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(masked / "1.gif")
    changed = load()
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", "off")
    assert changed.fingerprint == load().fingerprint != first.fingerprint


def test_images_and_masks_are_on_disk_before_their_entry_is_there(
    masked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        decoded.os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink().name)
    )
    load_splits(f"folder:{masked}", root=None, image_size=SIDE)
    assert {decoded.DATA, decoded.FACTS, decoded._MASKS} <= {*synced}


def test_pages_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stacks").mkdir()
    for i in range(6):
        pages = [np.random.default_rng([i, page]).integers(0, 9999, (SIDE, SIDE), np.uint16) for page in range(3)]
        first, *others = map(Image.fromarray, pages)
        first.save(tmp_path / "stacks" / f"{i}.tif", save_all=True, append_images=others)
    found = [load_splits(f"folder:{tmp_path / 'stacks'}", root=None, image_size=SIDE, stack="pages")]
    monkeypatch.setattr(ImageReader, "__call__", None)
    found.append(load_splits(f"folder:{tmp_path / 'stacks'}", root=None, image_size=SIDE, stack="pages"))
    assert found[0].fingerprint == found[1].fingerprint
    assert found[1].inventory == found[0].inventory


def test_images_from_the_cache_are_hashed_once(
    tmp_path: Path, write_classes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "LARGE_BYTES", 1)
    root = write_classes(tmp_path / "classes")
    first = load_splits(f"folder:{root}", root=None, image_size=SIDE)
    expected = first.fingerprint
    monkeypatch.setattr(row_hashes, "_content", None)
    monkeypatch.setattr(ImageTable, "_digest", None)
    second = load_splits(f"folder:{root}", root=None, image_size=SIDE)
    assert second.fingerprint == expected
    monkeypatch.undo()
    for one, other in zip(second.test.hashes, row_hashes.hash_rows(np.array(second.test.images)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert second.pretext_train.hashes.keys == row_hashes.hash_rows(np.array(second.pretext_train.images)).keys


def test_neighbors_in_a_file_are_joined_without_a_copy() -> None:
    array = empty((8, 3, SIDE, SIDE), np.uint8)
    array[:] = np.arange(8)[:, None, None, None]
    both = joined(array[2:5], array[5:7])
    assert np.shares_memory(both, array)
    np.testing.assert_array_equal(both, array[2:7])
    for first, second in ((array[2:4], array[5:7]), (array[5:7], array[2:5]), (array[2:5], np.array(array[5:7]))):
        apart = joined(first, second)
        assert not np.shares_memory(apart, array)
        np.testing.assert_array_equal(apart, np.concatenate([first, second]))


def run_python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_share_a_table_by_its_file(tmp_path: Path) -> None:
    images = empty((6, 3, SIDE, SIDE), np.uint8)
    images[:] = np.arange(6)[:, None, None, None]
    table = ImageTable("shared", images).take(np.array([5, 0, 2]))
    pickled = pickle.dumps(table)
    assert len(pickled) < table.images.nbytes
    (tmp_path / "table").write_bytes(pickled)
    code = f"""if True:
        import pickle, sys
        table = pickle.load(open({str(tmp_path / "table")!r}, "rb"))
        print(table.images[:, 0, 0, 0].tolist(), table.images.flags.writeable, flush=True)
        sys.stdin.readline()
        print(table.images[1, 0, 0, 0], flush=True)"""
    with run_python(code) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "[5, 0, 2] False\n"
        table.images[1] = 7  # the other process sees it: there is no second copy
        assert other.communicate("\n")[0] == "7\n"
    held = file_of(table.images)
    assert held is not None
    del images, table
    assert not Path(held.path).exists()
    with pytest.raises(DataError, match="run the same command again"):
        pickle.loads(pickled)


@pytest.mark.skipif(folder.fcntl is None, reason="Windows does not remove files that are in use")
def test_a_writer_killed_in_the_middle_leaves_nothing_that_stays(
    photos: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""if True:
        import time
        from pathlib import Path
        from trainables.data.readers import decoded
        from trainables.data.cache import arrays
        from trainables.data.readers.images import ImageReader
        arrays.LARGE_BYTES = decoded.LARGE_BYTES = 1
        read, count = ImageReader.__call__, iter(range(12))
        def slow(self, path):
            if next(count) == 6:
                print("halfway", flush=True)
                time.sleep(60)
            return read(self, path)
        ImageReader.__call__ = slow
        decoded.decode_all([Path(each) for each in {list(map(str, photos))!r}], ImageReader({SIDE}))"""
    with run_python(code) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "halfway\n"
        (scratch,) = (cache / "scratch").iterdir()
        os.utime(scratch, (0, 0))
        folder.remove_leftovers(cache)
        assert scratch.exists()  # its writer is alive
        writer.send_signal(signal.SIGKILL)
    result, _, n_read = decode_counted(photos, monkeypatch)
    assert n_read == 12
    assert result.images is not None
    np.testing.assert_array_equal(result.images[11], ImageReader(SIDE)(photos[11]))
    assert not scratch.exists()
    assert not any((cache / "scratch").iterdir())
    assert len(list((cache / "decoded").iterdir())) == 1


def test_entries_used_least_recently_are_removed_first(
    photos: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 4 * 3 * SIDE**2
    monkeypatch.setenv("PRETEXT_STUDY_CACHE_GB", str(2.5 * size / 1e9))
    parts = [photos[0:4], photos[4:8], photos[8:12]]
    for age, part in ((30, parts[0]), (20, parts[1])):
        decode_counted(part, monkeypatch)
        newest = max((cache / "decoded").iterdir(), key=lambda entry: (entry / "facts.json").stat().st_mtime)
        os.utime(newest / "facts.json", (time.time() - age,) * 2)
    decode_counted(parts[2], monkeypatch)
    assert [decode_counted(part, monkeypatch)[2] for part in (parts[1], parts[2])] == [0, 0]
    assert decode_counted(parts[0], monkeypatch)[2] == 4


@pytest.mark.skipif(folder.fcntl is None, reason="Windows does not remove files that are in use")
def test_an_entry_in_use_is_not_removed(photos: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, _, _ = decode_counted(photos, monkeypatch)
    folder.evict(cache, limit=0)
    assert decode_counted(photos, monkeypatch)[2] == 0
    del used
    folder.evict(cache, limit=0)
    assert not list((cache / "decoded").iterdir())


@pytest.mark.parametrize("named", ["off", "/proc/cache", "FILE/cache"])
def test_without_a_folder_everything_stays_in_memory_and_one_line_says_so(
    named: str,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "FILE").touch()
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", named.replace("FILE", str(tmp_path / "FILE")))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            result, _, n_read = decode_counted(photos, monkeypatch)
            assert n_read == 12
            assert result.images is not None
            assert file_of(result.images) is None
            assert remembered("sums", key_of(1), lambda: np.arange(3)).tolist() == [0, 1, 2]
    assert caplog.text.count("cannot be used") == (named != "off")


def test_a_folder_of_a_user_who_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", "~nosuchuser/cache")
    with pytest.raises(ConfigError, match="~nosuchuser is not a home folder here"):
        folder.cache_folder()


def test_a_full_disk_leaves_images_in_memory(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(arrays, "_reserve", full)
    assert file_of(empty((4, 4), np.uint8)) is None
    assert "No space left on device" in caplog.text
    assert not any((cache / "scratch").iterdir())


def test_rows_copies_and_joins_equal_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_CHUNK_BYTES", 50)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 9, (n, 2, 5), np.uint8) for n in (7, 4))
    order = rng.permutation(7)
    np.testing.assert_array_equal(rows(first, order), first[order])
    np.testing.assert_array_equal(joined(first, second), np.concatenate([first, second]))
    assert copied(first[:, :, ::2], np.uint16).dtype == np.uint16
    np.testing.assert_array_equal(copied(first[:, :, ::2]), first[:, :, ::2])
    assert rows(first, order[:0]).shape == (0, 2, 5)
    held = file_of(joined(first, second)[3:])
    assert held is not None
    assert held.offset == 3 * 10


def test_near_duplicates_are_searched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_MANY", 1)
    images = np.random.default_rng(0).integers(0, 255, (8, 3, SIDE, SIDE), np.uint8)
    expected = [[row, row] for row in range(8)]
    assert near_duplicates.near_duplicates(images, images).tolist() == expected
    (entry,) = (cache / "near_duplicates").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(near_duplicates, "_candidates", None)
        assert near_duplicates.near_duplicates(images, images).tolist() == expected
        with pytest.raises(TypeError):
            near_duplicates.near_duplicates(images, images[1:])
    damaged = bytearray(entry.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    for content in (bytes(damaged), entry.read_bytes()[:40], b""):
        entry.write_bytes(content)
        assert near_duplicates.near_duplicates(images, images).tolist() == expected
