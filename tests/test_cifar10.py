import hashlib
import io
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from lib import cifar10 as module
from lib.cifar10 import cifar10
from lib.config import InputError, data_root
from lib.data import IMAGES, at_hand, load_dataset, resolve_dataset
from lib.files import NoData

TRAIN, TEST = 50, 20


def made_arrays():
    """A data set of CIFAR's shape and layout: [N, 32, 32, 3] uint8 and labels, by split."""
    rng = np.random.default_rng(0)
    return {
        split: (rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), [i % 10 for i in range(count)])
        for split, count in (("train", TRAIN), ("test", TEST))
    }


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """The made data set as CIFAR's extracted archive; torchvision is told its checksums."""
    folder = tmp_path / "made" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    arrays = made_arrays()

    def write(name, images, labels):
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        (folder / name).write_bytes(pickle.dumps({"data": flat, "labels": labels}))
        return [name, md5(folder / name)]

    images, labels = arrays["train"]
    tenth = TRAIN // 5
    names = [
        write(f"data_batch_{i + 1}", images[i * tenth : (i + 1) * tenth], labels[i * tenth : (i + 1) * tenth])
        for i in range(5)
    ]
    tests = [write("test_batch", *arrays["test"])]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(module.CLASSES)}))
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")}
    for attribute, value in (("train_list", names), ("test_list", tests), ("meta", meta)):
        monkeypatch.setattr(CIFAR10, attribute, value)
    return folder


@pytest.fixture
def archive(batches, monkeypatch):
    """The same as the original archive."""
    path = batches.parent.parent / "served" / module.ARCHIVE
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(batches, batches.name)
    monkeypatch.setattr(module, "ARCHIVE_MD5", md5(path))
    return path


@pytest.fixture
def parquet(tmp_path):
    """The same as the Hub's parquet shards, one image marked inexact."""
    folder = tmp_path / "hub" / "cifar10"
    folder.mkdir(parents=True)
    for split, (images, labels) in made_arrays().items():
        encoded = []
        for image in images:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            encoded.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"img": encoded, "label": labels, "exact": [split == "test"] + [True] * (len(labels) - 1)})
        half = len(labels) // 2
        for shard, part in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(part, folder / f"{split}-0000{shard}-of-00002.parquet")
    return folder.parent


def assert_made(dataset):
    arrays = made_arrays()
    for split, (images, labels) in (("train", arrays["train"]), ("test", arrays["test"])):
        found = getattr(dataset, split)
        assert found.images.dtype == torch.uint8
        assert torch.equal(found.images.permute(0, 2, 3, 1), torch.from_numpy(images))
        assert found.labels.tolist() == labels
    assert dataset.name == "cifar10"
    assert len(dataset.fingerprint) == 64


def test_every_source_gives_the_same_arrays_and_fingerprint(batches, archive, parquet, cache):
    found = [cifar10(root) for root in (batches.parent, archive.parent, parquet)]
    for dataset in found:
        assert_made(dataset)
    assert len({dataset.fingerprint for dataset in found}) == 1
    assert found[0].note == ""
    assert "69 of 70 images are bit-exact; 1 training and 0 test" in found[2].note
    assert [dataset.inexact for dataset in found] == [{}, {}, {"train": [0], "test": []}]


def test_extracted_files_come_before_the_archive_before_parquet(batches, archive, parquet, cache):
    root = parquet
    assert cifar10(root).source == "parquet files"
    archive.rename(root / module.ARCHIVE)
    assert cifar10(root).source == "archive files"
    batches.rename(root / batches.name)
    assert cifar10(root).source == "extracted files"


def test_decoded_once(parquet, cache, monkeypatch):
    cifar10(parquet)
    monkeypatch.setattr(module, "READERS", {})
    assert_made(cifar10(parquet))


def test_damaged_cache_is_named(parquet, cache):
    cifar10(parquet)
    file = next(cache.glob("cifar10-*.pt"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"{file} is damaged"):
        cifar10(parquet)


def test_damaged_archive_is_named(archive, cache):
    archive.write_bytes(archive.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"{archive} is damaged"):
        cifar10(archive.parent)


def test_damaged_batch_is_named(batches, cache):
    (batches / "data_batch_3").write_bytes(b"no pickle")
    with pytest.raises(InputError, match=f"{batches} is damaged"):
        cifar10(batches.parent)


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet", None])
def test_damaged_parquet_is_named(parquet, cache, content):
    path = parquet / "cifar10" / "test-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(InputError, match=rf"{path} is damaged"):
        cifar10(parquet)


def test_parquet_of_one_split_is_refused(parquet, cache):
    for path in (parquet / "cifar10").glob("test*"):
        path.unlink()
    with pytest.raises(InputError, match="one split only"):
        cifar10(parquet)


def test_parquet_that_a_download_left_incomplete_is_refused(parquet, cache):
    (parquet / "cifar10" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"cifar10 has 1 files like train-00000-of-00002\.parquet; needed: 2"):
        cifar10(parquet)


def test_parquet_is_found_where_the_hub_has_it(parquet, cache):
    (parquet / "cifar10").rename(parquet / "plain_text")
    (parquet / "cifar10").mkdir()
    (parquet / "plain_text").rename(parquet / "cifar10" / "plain_text")
    assert_made(cifar10(parquet))


def test_a_cache_cut_short_is_named(parquet, cache):
    cifar10(parquet)
    path = next(cache.glob("cifar10-*.pt"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{path} is damaged"):
        cifar10(parquet)


def test_a_cache_that_is_not_to_be_written_is_one_line(parquet, cache, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "FileLock", refuse)
    with pytest.raises(InputError, match=r"cannot decode the data set into .*Permission denied"):
        cifar10(parquet)


def test_a_copy_that_was_moved_is_not_decoded_again(parquet, cache, monkeypatch):
    cifar10(parquet)
    monkeypatch.setattr(module, "READERS", {})
    assert_made(cifar10(parquet.rename(parquet.with_name("moved"))))


def test_full_disk_is_refused_before_decoding(parquet, cache, monkeypatch):
    monkeypatch.setattr(module, "CACHE_BYTES", 1 << 60)
    with pytest.raises(InputError, match="free disk space"):
        cifar10(parquet)


def test_downloaded_where_there_is_none(archive, serve, tmp_path, cache, monkeypatch):
    host, _ = serve(archive.read_bytes())
    monkeypatch.setattr(module, "MIRRORS", (f"{host}/good",))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "new"))
    assert_made(load_dataset("auto"))
    assert md5(tmp_path / "new" / module.ARCHIVE) == module.ARCHIVE_MD5


def test_without_cifar10_auto_takes_digits_and_says_what_was_tried(serve, tmp_path, cache, monkeypatch, capsys):
    host, _ = serve(b"not the archive")
    monkeypatch.setattr(module, "MIRRORS", (f"{host}/missing", f"{host}/good"))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "new"))
    assert resolve_dataset("auto") == "digits"
    said = capsys.readouterr().err
    assert "digits" in said
    for name in (f"{host}/missing", f"{host}/good", "cifar-10-batches-py", "parquet"):
        assert name in said
    assert not (tmp_path / "new" / module.ARCHIVE).exists()
    with pytest.raises(NoData, match="Tried"):
        cifar10(tmp_path / "new")


def test_what_is_at_hand_is_never_downloaded(parquet, serve, cache, monkeypatch):
    host, asked = serve(b"not the archive")
    monkeypatch.setattr(module, "MIRRORS", (f"{host}/good",))
    monkeypatch.setenv("DATA_ROOT", str(parquet / "none"))
    assert at_hand("cifar10") is None
    assert asked == []
    monkeypatch.setenv("DATA_ROOT", str(parquet))
    assert_made(at_hand("cifar10"))
    assert at_hand("tiny-imagenet") is None


@pytest.mark.parametrize("wrong", ["label", "size"])
def test_parquet_of_other_images_or_labels_is_refused(parquet, cache, wrong):
    path = parquet / "cifar10" / "train-00001-of-00002.parquet"
    table = pq.read_table(path)
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    large = [{"bytes": file.getvalue(), "path": None}] * len(table)
    column, values = ("img", large) if wrong == "size" else ("label", [10] * len(table))
    pq.write_table(table.set_column(table.column_names.index(column), column, [values]), path)
    with pytest.raises(InputError, match=f"{path} is damaged .* its images are not all of 32x32 pixels, or its labels"):
        cifar10(parquet)


@pytest.mark.skipif(not any(find(data_root()) for find in module.READERS), reason="no CIFAR-10 under DATA_ROOT")
def test_real_cifar10():
    dataset = load_dataset("cifar10")
    assert dataset.train.images.shape == (IMAGES["cifar10"]["train"], 3, 32, 32)
    assert dataset.test.images.shape == (IMAGES["cifar10"]["test"], 3, 32, 32)
    assert dataset.train.labels.bincount().tolist() == [5000] * 10
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    mean = dataset.train.images.double().mean((0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64), rtol=0, atol=1e-4)
