import hashlib
import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from conftest import photo, write_kaggle_tree, write_tiny_tree, write_tree

from lib import imagenet, inputs
from lib.config import InputError, data_root
from lib.files import NoData
from lib.imagenet import image_size, photographs
from lib.packing import decode
from lib.runs import Run
from lib.training import train


@pytest.fixture(autouse=True)
def _elsewhere(cache, monkeypatch):
    """The cache is the test's own, and nothing is downloaded."""
    monkeypatch.setattr(imagenet, "ZIP_MIRRORS", ("http://127.0.0.1:9/none",))
    monkeypatch.delenv("IMAGE_SIZE", raising=False)


@pytest.fixture
def tiny(tmp_path):
    return write_tiny_tree(tmp_path / "tiny-imagenet-200")


@pytest.fixture
def tiny_zip(tiny):
    """The same as the official zip, elsewhere."""
    return Path(shutil.make_archive(str(tiny.parent / "served" / "tiny"), "zip", tiny.parent, tiny.name))


@pytest.mark.parametrize("text", ["31", "513", "64.0", "large", "-64"])
def test_wrong_image_sizes_are_refused(monkeypatch, text):
    monkeypatch.setenv("IMAGE_SIZE", text)
    with pytest.raises(InputError, match=f"IMAGE_SIZE '{text}' is not a whole number of pixels from 32 to 512"):
        image_size("imagenet")


def test_image_sizes(monkeypatch):
    assert (image_size("imagenet"), image_size("tiny-imagenet")) == (299, 64)
    monkeypatch.setenv("IMAGE_SIZE", "512")
    assert (image_size("imagenet"), image_size("tiny-imagenet")) == (512, 512)


def test_tree_and_zip_of_the_same_images_have_the_same_fingerprint(tiny, tiny_zip, tmp_path):
    (tmp_path / "zip").mkdir()
    tiny_zip.rename(tmp_path / "zip" / imagenet.ZIP)
    tree, packed = (photographs("tiny-imagenet", root) for root in (tmp_path, tmp_path / "zip"))
    assert (tree.source, packed.source) == ("tree files, at 64x64 pixels", "zip files, at 64x64 pixels")
    assert tree.fingerprint == packed.fingerprint
    assert tree.classes == packed.classes == ("n01 tench, Tinca tinca", "n02", "n03 a wolf")
    assert tree.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_tiny_imagenets_tree_comes_before_its_zip_before_parquet(tiny, tiny_zip, tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "tiny-imagenet").mkdir(parents=True)
    for split in ("train", "valid"):
        (root / "tiny-imagenet" / f"{split}-00000-of-00001.parquet").touch()
    assert imagenet._tiny_imagenet(root).kind == "parquet"
    shutil.copy(tiny_zip, root / imagenet.ZIP)
    assert imagenet._tiny_imagenet(root).kind == "zip"
    tiny.rename(root / tiny.name)
    assert imagenet._tiny_imagenet(root).kind == "tree"


def test_tiny_imagenet_is_downloaded_where_there_is_none(tiny_zip, serve, tmp_path, monkeypatch):
    host, _ = serve(tiny_zip.read_bytes())
    monkeypatch.setattr(imagenet, "ZIP_MD5", hashlib.md5(tiny_zip.read_bytes()).hexdigest())
    monkeypatch.setattr(imagenet, "ZIP_MIRRORS", (f"{host}/bad", f"{host}/good"))
    dataset = photographs("tiny-imagenet", tmp_path / "new")
    assert (len(dataset.train), len(dataset.test)) == (11, 6)
    assert (tmp_path / "new" / imagenet.ZIP).is_file()


def test_a_download_with_a_wrong_checksum_is_refused(serve, tmp_path, monkeypatch):
    host, _ = serve(b"another file")
    monkeypatch.setattr(imagenet, "ZIP_MIRRORS", (f"{host}/good",))
    with pytest.raises(NoData, match=f"Tried .*tiny-imagenet-200, .*parquet, {host}/good"):
        photographs("tiny-imagenet", tmp_path / "new")
    assert not (tmp_path / "new" / imagenet.ZIP).exists()


def test_without_imagenet_what_was_looked_for_is_named(tmp_path):
    with pytest.raises(NoData, match=r"train and .*val with.*ILSVRC2012_img_train\.tar.*train-\*\.parquet"):
        photographs("imagenet", tmp_path)


def test_parquet_of_one_split_is_refused(tmp_path):
    (tmp_path / "imagenet" / "data").mkdir(parents=True)
    (tmp_path / "imagenet" / "data" / "train-00000-of-00001.parquet").touch()
    with pytest.raises(InputError, match="imagenet/data has parquet files of one split only"):
        photographs("imagenet", tmp_path)


def test_some_classes_of_a_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_SIZE", "32")
    write_tree(tmp_path / "imagenet")
    dataset = photographs("imagenet", tmp_path, classes=2)
    assert dataset.classes == ("n01", "n02")
    assert dataset.train.labels.unique().tolist() == [0, 1]
    assert dataset.test.images.shape == (4, 3, 32, 32)


def test_kaggles_archive_of_imagenet_as_it_is_extracted(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_SIZE", "32")
    root = write_kaggle_tree(tmp_path / "imagenet")
    dataset = photographs("imagenet", tmp_path)
    assert dataset.classes == ("n01 tench, Tinca tinca", "n02", "n03 a wolf")
    assert dataset.train.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert dataset.test.images.read()[:, 0].double().mean((1, 2)).div(100).round().tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    solution = root / "LOC_val_solution.csv"
    solution.write_text(solution.read_text().replace("00000001,n03 ", "00000001,n01 "))
    assert photographs("imagenet", tmp_path).test.labels.tolist() == [0, 0, 0, 1, 1, 2]


# --- the official archives ----------------------------------------------------------------------------


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def tar_of(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            add(tar, name, content)
    return packed.getvalue()


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Two classes as ILSVRC2012's three archives; torchvision is told their checksums."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    train, val, devkit = (folder / name for name in imagenet.ARCHIVES)
    wnids = ("n02", "n01")  # not in the order of the devkit's numbers
    inner = {w: tar_of({f"{w}_{i}.JPEG": photo((50 * int(w[1:]), i, 0)) for i in range(3)}) for w in wnids}
    train.write_bytes(tar_of({f"{wnid}.tar": content for wnid, content in inner.items()}))
    val.write_bytes(tar_of({f"ILSVRC2012_val_{i}.JPEG": photo((0, 0, 50 * i)) for i in range(4)}))
    rows = [(1, "n02", "goldfish, Carassius auratus", "a fish", 0), (2, "n01", "tench", "a fish", 0)]
    rows += [(3, "n00", "fish", "an animal", 2)]
    fields = [(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children")]
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": np.array(rows, dtype=fields)})
    with tarfile.open(devkit, "w:gz") as tar:
        add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        add(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", b"1\n2\n2\n1\n")
    sums = {
        split: (path.name, hashlib.md5(path.read_bytes()).hexdigest())
        for split, path in (("train", train), ("val", val), ("devkit", devkit))
    }
    monkeypatch.setattr(torchvision.datasets.imagenet, "ARCHIVE_META", sums)
    monkeypatch.setenv("IMAGE_SIZE", "32")
    return folder


def test_official_archives_are_extracted_beside_and_are_a_tree_then(archives, capsys):
    dataset = photographs("imagenet", archives.parent)
    assert dataset.classes == ("n01 tench", "n02 goldfish, Carassius auratus")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    blue = dataset.test.images.read()[:, 2].double().mean((1, 2))
    assert (blue - torch.tensor([50.0, 100, 0, 150])).abs().max() <= 3
    assert not (archives / "partial").exists()
    assert "extracting" in capsys.readouterr().err
    for name in imagenet.ARCHIVES:
        (archives / name).unlink()
    assert photographs("imagenet", archives.parent).fingerprint == dataset.fingerprint


def test_a_killed_extraction_starts_anew_in_the_room_that_it_took(archives, monkeypatch):
    (archives / "partial" / "train" / "n01").mkdir(parents=True)

    def disk_usage(_):
        return shutil._ntuple_diskusage(0, 0, 0 if (archives / "partial").exists() else 1 << 30)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert len(photographs("imagenet", archives.parent).train) == 6


def test_archives_need_room_a_writable_folder_and_their_checksums(archives, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 1000))
        with pytest.raises(InputError, match="free disk space"):
            photographs("imagenet", archives.parent)
    archives.chmod(0o555)
    with pytest.raises(InputError, match=f"{archives} is read-only"):
        photographs("imagenet", archives.parent)
    archives.chmod(0o755)
    (archives / imagenet.ARCHIVES[1]).write_bytes(b"x")
    with pytest.raises(InputError, match=f"an archive in {archives} is damaged"):
        photographs("imagenet", archives.parent)
    assert not (archives / "val").exists()


# --- real photographs ---------------------------------------------------------------------------------

TINY = data_root() / "tiny-imagenet"
SAMPLE = data_root() / "imagenet-sample"


@pytest.mark.skipif(not any(TINY.glob("*.parquet")), reason="no Tiny ImageNet under DATA_ROOT")
def test_ten_classes_of_real_tiny_imagenet(tmp_path, monkeypatch):
    (tmp_path / "tiny-imagenet").mkdir()
    for path in TINY.iterdir():
        (tmp_path / "tiny-imagenet" / path.name).symlink_to(path)
    dataset = photographs("tiny-imagenet", tmp_path, classes=10)
    assert dataset.train.images.shape == (5000, 3, 64, 64)
    assert dataset.train.labels.bincount().tolist() == [500] * 10
    assert dataset.test.labels.bincount().tolist() == [50] * 10
    assert dataset.classes[0] == "n01443537 goldfish, Carassius auratus"
    lines = (TINY / "classes.txt").read_text().splitlines()
    assert dataset.classes == tuple(line.replace("\t", " ") for line in lines[::10])
    assert "could not be read" not in dataset.note


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample of ImageNet under DATA_ROOT")
def test_real_photographs_at_299_pixels(tmp_path):
    for split in ("train", "val"):
        shutil.copytree(SAMPLE, tmp_path / "imagenet" / split, copy_function=shutil.copyfile)
    for path in tmp_path.rglob("n*"):
        path.chmod(0o755)
    dataset = photographs("imagenet", tmp_path)
    assert dataset.train.images.shape == dataset.test.images.shape == (40, 3, 299, 299)
    assert dataset.train.labels.tolist() == list(range(40))
    assert dataset.note == ""
    first = next(iter(sorted(SAMPLE.iterdir())[7].iterdir()))
    assert np.array_equal(dataset.train.images.read()[7].numpy(), decode(first.read_bytes(), 299)[0])


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no sample of ImageNet under DATA_ROOT")
@pytest.mark.parametrize("share", [0.5, 0.0], ids=["in memory", "from the file"])
def test_an_epoch_on_real_photographs_at_299_pixels(tmp_path, monkeypatch, share):
    for split in ("train", "val"):
        shutil.copytree(SAMPLE, tmp_path / "imagenet" / split, copy_function=shutil.copyfile)
    for path in tmp_path.rglob("n*"):
        path.chmod(0o755)
    monkeypatch.setattr(inputs, "SHARE", share)
    run = Run("imagenet", "inception_v3", width=1 / 16, optimizer="rmsprop", batch_size=20, epochs=1)
    record = train(replace(run, photo_augmentation=True, dropout=0.2), photographs("imagenet", tmp_path))
    assert record.outcome == "epochs"
    assert 1 < record.history["train_loss"][0] < 10  # log 40 is 3.7
    assert 0 <= record.final["test_accuracy"] <= record.final["test_top5_accuracy"] <= 1
