import io
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import photo, write_tree
from PIL import Image

from lib import packing, sources
from lib.config import ROOT, InputError
from lib.packing import decode, packed
from lib.sources import Tree
from lib.splits import ImageFile, fingerprint, in_memory

SIZE = 8


@pytest.fixture(autouse=True)
def _small_chunks_decoded_in_order(monkeypatch, cache):
    monkeypatch.setattr(sources, "FILES", 2)
    monkeypatch.setattr(packing, "cores", lambda: 1)


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "data", size=(16, 16))


def pack(tree, **options):
    return packed("made", Tree(tree), SIZE, **options)


def folders(tree):
    return sorted((tree / "packed").iterdir())


def counted(monkeypatch):
    """A list that grows with every image decoded from here on."""
    decoded, true_decode = [], decode

    def count(data, size):
        decoded.append(data)
        return true_decode(data, size)

    monkeypatch.setattr(packing, "decode", count)
    return decoded


def colours(split):
    """The one colour of each image, [N, 3]."""
    return in_memory(split.images).double().mean((2, 3)).round().long()


def test_a_pack_has_every_image_in_its_place(tree):
    dataset = pack(tree)
    assert isinstance(dataset.train.images, ImageFile)
    assert dataset.train.images.shape == (11, 3, SIZE, SIZE)
    assert dataset.train.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    numbers = torch.tensor([0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3])
    expected = torch.stack((100 * dataset.train.labels, 10 * numbers, 0 * numbers), 1)
    assert (colours(dataset.train) - expected).abs().max() <= 3  # JPEG's loss
    assert (colours(dataset.test)[:, 2] - 200).abs().max() <= 3
    assert dataset.classes == ("n01", "n02", "n03")
    assert dataset.source == "tree files, at 8x8 pixels"
    assert dataset.note == ""
    assert dataset.fingerprint == fingerprint(dataset.train, dataset.test)


def test_packed_once(tree, monkeypatch):
    first = pack(tree)
    decoded = counted(monkeypatch)
    assert pack(tree).fingerprint == first.fingerprint
    assert decoded == []
    packed("made", Tree(tree), SIZE + 1)
    assert len(decoded) == 17
    (tree / "val" / "n02" / "n02_000.JPEG").write_bytes(photo((1, 2, 3), (20, 20)))
    assert pack(tree).fingerprint != first.fingerprint


def test_a_pack_of_some_classes_holds_only_those(tree, monkeypatch):
    decoded = counted(monkeypatch)
    some = pack(tree, classes=2)
    assert some.classes == ("n01", "n02")
    assert some.train.labels.tolist() == [0] * 4 + [1] * 3
    assert len(decoded) == len(some.train) + len(some.test) == len(some.train.images.array) + 4
    with pytest.raises(InputError, match="4 classes are outside the allowed range 2 to 3"):
        pack(tree, classes=4)


@pytest.mark.parametrize("torn", ["", "\n[3, {"])
def test_after_a_kill_only_what_is_missing_is_decoded(tree, monkeypatch, torn):
    whole = pack(tree).fingerprint
    shutil.rmtree(tree / "packed")
    decoded, true_decode = [], decode

    def killed(data, size):
        decoded.append(data)
        if len(decoded) == 6:  # in the third chunk
            raise KeyboardInterrupt
        return true_decode(data, size)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "decode", killed)
        with pytest.raises(KeyboardInterrupt):
            pack(tree)
    (log,) = (tree / "packed").glob("*/packing.jsonl")
    assert not (log.parent / "meta.json").exists()
    log.write_text(log.read_text() + torn)
    rest = counted(monkeypatch)
    assert pack(tree).fingerprint == whole
    assert len(rest) == 17 - 4
    assert not set(rest) & set(decoded[:4])


def test_an_error_between_chunks_does_not_wait_for_the_others(tree, monkeypatch):
    """Else a full disk would show only once all images are decoded, for nothing."""
    decoded, true_decode = [], decode
    monkeypatch.setattr(packing, "decode", lambda *how: (time.sleep(0.05), decoded.append(how), true_decode(*how))[2])
    monkeypatch.setattr(packing.json, "dumps", raise_disk_full)
    with pytest.raises(OSError, match="disk full"):
        pack(tree)
    assert len(decoded) < 17


def raise_disk_full(*_, **__):
    raise OSError("disk full")


def test_two_processes_take_turns(tree):
    code = """
import sys
from pathlib import Path
from lib import sources
from lib.packing import packed
sources.FILES = 2
print(packed("made", sources.Tree(Path(sys.argv[1])), 8).fingerprint)
"""
    command, environment = [sys.executable, "-c", code, str(tree)], os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert said == {pack(tree).fingerprint}
    (log,) = (tree / "packed").glob("*/packing.jsonl")
    assert len([line for line in log.read_text().splitlines() if line]) == 6 + 3  # every chunk once


def test_a_full_disk_is_refused_before_decoding(tree, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 17 * 3 * SIZE**2 - 1))
    with pytest.raises(InputError, match=r"free disk space; needed: 0 MiB"):
        pack(tree)
    assert not list(tree.glob("packed/*/*.npy"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 17 * 3 * SIZE**2))
    assert len(pack(tree).train) == 11


def test_the_pack_of_a_read_only_folder_lies_in_the_cache(tree, cache, monkeypatch):
    tree.chmod(0o555)
    try:
        first = pack(tree)
    finally:
        tree.chmod(0o755)
    assert not (tree / "packed").exists()
    assert len(list(cache.glob("made-8-*/meta.json"))) == 1
    decoded = counted(monkeypatch)
    assert pack(tree).fingerprint == first.fingerprint
    assert decoded == []


def test_unreadable_images_are_left_out_named_and_counted(tmp_path, capsys):
    tree = write_tree(tmp_path / "data", train=130, test=20, size=(16, 16))
    whole = pack(tree)
    (tree / "train" / "n01" / "n01_007.JPEG").write_text("not an image")
    truncated = tree / "val" / "n03" / "n03_002.JPEG"
    truncated.write_bytes(truncated.read_bytes()[:-30])
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    noise.save(tree / "train" / "n03" / "n03_001.JPEG")
    cut = (tree / "train" / "n03" / "n03_001.JPEG").read_bytes()
    (tree / "train" / "n03" / "n03_001.JPEG").write_bytes(cut[: len(cut) * 3 // 4])
    dataset = pack(tree)
    assert dataset.note.startswith("3 of 449 images could not be read and were left out: train/n01/n01_007.JPEG (")
    assert "train/n03/n03_001.JPEG (" in dataset.note
    assert "val/n03/n03_002.JPEG (" in dataset.note
    assert dataset.note in capsys.readouterr().err
    lost = 130 + 129 + 1
    kept = [row for row in range(389) if row not in (7, lost)]
    assert torch.equal(dataset.train.labels, whole.train.labels[kept])
    assert torch.equal(dataset.train.images.read(), whole.train.images.read()[kept])
    assert len(dataset.test) == len(whole.test) - 1


@pytest.mark.parametrize(
    ("error", "raised"), [(OSError(116, "Stale file handle"), InputError), (MemoryError(), MemoryError)]
)
def test_what_may_pass_leaves_no_image_out(tree, monkeypatch, error, raised):
    read = Tree.read

    def fail(self, path):
        if path.endswith("n02_001.JPEG"):
            raise error
        return read(self, path)

    monkeypatch.setattr(Tree, "read", fail)
    with pytest.raises(raised):
        pack(tree)
    monkeypatch.undo()
    assert len(pack(tree).train) == 11


def test_too_many_unreadable_images_are_refused_and_tried_again(tree):
    path = tree / "train" / "n01" / "n01_001.JPEG"
    content = path.read_bytes()
    path.write_bytes(b"x" * len(content))
    with pytest.raises(
        InputError, match=r"1 of 17 images could not be read \(train/n01/n01_001.*\); allowed: 1% at most"
    ):
        pack(tree)
    path.write_bytes(content)
    assert len(pack(tree).train) == 11


def test_converted_images_are_counted(tree):
    (tree / "train" / "n01" / "n01_000.JPEG").write_bytes(photo((60, 60, 60), mode="L"))
    (tree / "train" / "n01" / "n01_001.JPEG").write_bytes(photo((60, 120, 180), mode="CMYK"))
    dataset = pack(tree)
    assert dataset.note == "2 of 17 images were not RGB and were converted."
    expected = torch.tensor([[60, 60, 60], [60, 120, 180]])
    assert (colours(dataset.train)[:2] - expected).abs().max() <= 3


@pytest.mark.parametrize("left", [0, 60, -1])
@pytest.mark.parametrize("name", ["train_images.npy", "test_rows.npy", "test_labels.npy", "meta.json"])
def test_a_shortened_pack_is_named(tree, name, left):
    pack(tree)
    (folder,) = folders(tree)
    (folder / name).write_bytes((folder / name).read_bytes()[:left])
    with pytest.raises(InputError, match=f"{folder} are damaged: delete this folder"):
        pack(tree)


def test_a_changed_pack_is_named_where_it_is_small_enough_to_check(tree, monkeypatch):
    pack(tree)
    (folder,) = folders(tree)
    content = bytearray((folder / "train_images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "train_images.npy").write_bytes(content)
    with pytest.raises(InputError, match=f"{folder} are damaged: delete this folder"):
        pack(tree)
    monkeypatch.setattr(packing, "CHECKED_BYTES", 17 * 3 * SIZE**2 - 1)
    assert len(pack(tree).train) == 11


@pytest.mark.parametrize(
    ("mode", "form"), [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")]
)
def test_every_mode_is_decoded_to_rgb(mode, form):
    pixels, was_rgb = decode(photo((51, 102, 153), (50, 40), mode, form), 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.uint8
    assert was_rgb == (mode == "RGB")
    grey = round(0.299 * 51 + 0.587 * 102 + 0.114 * 153)
    expected = (grey,) * 3 if mode in ("L", "LA") else (51, 102, 153)
    assert np.abs(pixels.astype(int).mean((1, 2)) - expected).max() <= 3


def test_an_image_of_the_size_is_taken_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    assert np.array_equal(decode(file.getvalue(), 32)[0], image.transpose(2, 0, 1))


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (1600, 800), (20, 10)])
def test_the_centre_is_kept(width, height):
    """The middle half of the longer side is red, the rest blue: only red is left, but for the blur of JPEG."""
    image = Image.new("RGB", (width, height), (0, 0, 255))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image.paste((255, 0, 0), (left, top, left + side, top + side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0)
    pixels = decode(file.getvalue(), 32)[0].astype(int)
    assert pixels[0, 4:-4, 4:-4].min() > 245
    assert pixels[2, 4:-4, 4:-4].max() < 10
    assert pixels[0].mean() > 245


def test_rotation_tags_are_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    image = Image.new("RGB", (40, 40), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 40, 20))
    plain, tagged = io.BytesIO(), io.BytesIO()
    image.save(plain, "JPEG")
    image.save(tagged, "JPEG", exif=exif)
    assert np.array_equal(decode(plain.getvalue(), 32)[0], decode(tagged.getvalue(), 32)[0])


def test_large_jpegs_are_decoded_at_a_fraction_to_nearly_the_same(monkeypatch):
    sizes, convert = [], Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda image, mode: sizes.append(image.size) or convert(image, mode))
    x, y = np.meshgrid(np.arange(1600), np.arange(1200))
    image = Image.fromarray(np.stack((x // 7, y // 5, (x + y) // 12), -1).astype(np.uint8))
    jpeg, png = io.BytesIO(), io.BytesIO()
    image.save(jpeg, "JPEG", quality=95)
    image.save(png, "PNG")
    difference = decode(jpeg.getvalue(), 64)[0].astype(int) - decode(png.getvalue(), 64)[0]
    assert np.abs(difference).max() <= 6
    assert sizes == [(200, 150), (1600, 1200)]
