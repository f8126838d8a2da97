import hashlib
import http.server
import pickle
import tarfile
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import cifar10_at_hand
from torchvision.datasets import CIFAR10

from lib import data
from lib.config import InputError
from lib.data import NoData, load_dataset, resolve_dataset
from lib.splits import Split, stratified_order, stratified_subset

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
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(data.CIFAR10_CLASSES)}))
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")}
    for attribute, value in (("train_list", names), ("test_list", tests), ("meta", meta)):
        monkeypatch.setattr(CIFAR10, attribute, value)
    return folder


@pytest.fixture
def archive(batches, monkeypatch):
    """The same as the original archive."""
    path = batches.parent.parent / "served" / data.ARCHIVE
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(batches, batches.name)
    monkeypatch.setattr(data, "ARCHIVE_MD5", md5(path))
    return path


@pytest.fixture
def parquet(tmp_path):
    """The same as the Hub's parquet shards, one image marked inexact."""
    import io

    from PIL import Image

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
    found = [load_dataset("cifar10", root) for root in (batches.parent, archive.parent, parquet)]
    for dataset in found:
        assert_made(dataset)
    assert len({dataset.fingerprint for dataset in found}) == 1
    assert found[0].note == ""
    assert "69 of 70 images are bit-exact; 1 training and 0 test" in found[2].note


def test_extracted_files_come_before_the_archive_before_parquet(batches, archive, parquet, cache):
    root = parquet
    assert load_dataset("cifar10", root).source == "parquet files"
    archive.rename(root / data.ARCHIVE)
    assert load_dataset("cifar10", root).source == "archive files"
    batches.rename(root / batches.name)
    assert load_dataset("cifar10", root).source == "extracted files"


def test_decoded_once(parquet, cache, monkeypatch):
    load_dataset("cifar10", parquet)
    monkeypatch.setattr(data, "READERS", {})
    assert_made(load_dataset("cifar10", parquet))


def test_damaged_cache_is_named(parquet, cache):
    load_dataset("cifar10", parquet)
    file = next(cache.glob("cifar10-*/train_images.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"{file.parent} is damaged"):
        load_dataset("cifar10", parquet)


def test_damaged_archive_is_named(archive, cache):
    archive.write_bytes(archive.read_bytes()[:-10])
    with pytest.raises(InputError, match=f"{archive} is damaged"):
        load_dataset("cifar10", archive.parent)


def test_damaged_batch_is_named(batches, cache):
    (batches / "data_batch_3").write_bytes(b"no pickle")
    with pytest.raises(InputError, match=f"{batches} is damaged"):
        load_dataset("cifar10", batches.parent)


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet", None])
def test_damaged_parquet_is_named(parquet, cache, content):
    path = parquet / "cifar10" / "test-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(InputError, match=rf"{path} is damaged"):
        load_dataset("cifar10", parquet)


def test_parquet_of_one_split_is_refused(parquet, cache):
    for path in (parquet / "cifar10").glob("test*"):
        path.unlink()
    with pytest.raises(InputError, match="one split only"):
        load_dataset("cifar10", parquet)


def test_full_disk_is_refused_before_decoding(parquet, cache, monkeypatch):
    monkeypatch.setattr(data, "CACHE_BYTES", 1 << 60)
    with pytest.raises(InputError, match="free disk space"):
        load_dataset("cifar10", parquet)


@pytest.fixture
def server(archive):
    """A local HTTP server of mirrors: /good serves the archive, /bad a damaged one, /flaky only at the second try."""
    content, tries = archive.read_bytes(), []

    class Mirror(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            tries.append(self.path)
            if "missing" in self.path or ("flaky" in self.path and tries.count(self.path) < 2):
                self.send_error(503)
                return
            body = content[:-5] if "bad" in self.path else content
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", tries
        httpd.shutdown()


def mirrors(monkeypatch, host, *names):
    monkeypatch.setattr(data, "MIRRORS", tuple(f"{host}/{name}" for name in names))


def test_download_goes_on_to_the_first_intact_mirror(server, tmp_path, cache, monkeypatch):
    host, tries = server
    mirrors(monkeypatch, host, "missing", "bad", "good", "never-asked")
    assert_made(load_dataset("cifar10", tmp_path / "new"))
    assert list(dict.fromkeys(tries)) == ["/missing", "/bad", "/good"]
    assert tries.count("/bad") >= data.ATTEMPTS
    assert md5(tmp_path / "new" / data.ARCHIVE) == data.ARCHIVE_MD5


def test_download_retries(server, tmp_path, cache, monkeypatch):
    mirrors(monkeypatch, server[0], "flaky")
    assert_made(load_dataset("auto", tmp_path / "new"))


def test_without_cifar10_auto_takes_digits_and_says_what_was_tried(server, tmp_path, cache, monkeypatch, capsys):
    host, _ = server
    mirrors(monkeypatch, host, "missing", "bad")
    assert resolve_dataset("auto", tmp_path / "new") == "digits"
    said = capsys.readouterr().err
    assert "digits" in said
    for name in (f"{host}/missing", f"{host}/bad", "cifar-10-batches-py", "parquet"):
        assert name in said
    assert not (tmp_path / "new" / data.ARCHIVE).exists()
    with pytest.raises(NoData, match="Tried"):
        load_dataset("cifar10", tmp_path / "new")


def test_unwritable_data_root_is_no_traceback(tmp_path, cache, monkeypatch):
    mirrors(monkeypatch, "http://127.0.0.1:9", "x")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NoData, match="cannot write"):
        load_dataset("cifar10", tmp_path / "file" / "below")


def test_unknown_dataset_is_refused():
    with pytest.raises(InputError, match="unknown dataset 'mnist'; allowed: auto, cifar10, digits"):
        load_dataset("mnist")


def test_digits_have_cifars_shape_and_a_stratified_split(digits):
    assert digits.train.images.shape == (data.IMAGES["digits"]["train"], 3, 32, 32)
    assert digits.test.images.shape == (data.IMAGES["digits"]["test"], 3, 32, 32)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images[:, :, :2].max() == 0  # the frame
    assert digits.train.images.max() == 255
    whole = digits.train.labels.bincount() + digits.test.labels.bincount()
    assert ((digits.test.labels.bincount() - 0.2 * whole).abs() <= 1).all()
    assert load_dataset("digits").fingerprint == digits.fingerprint


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_subsets_are_stratified_and_seeded(digits, size):
    subset = stratified_subset(digits.train, size, seed=0)
    assert len(subset) == size
    share = digits.train.labels.bincount(minlength=10) * size / len(digits.train)
    assert ((subset.labels.bincount(minlength=10) - share).abs() <= 1).all()
    assert torch.equal(subset.images, stratified_subset(digits.train, size, seed=0).images)
    assert not torch.equal(subset.images, stratified_subset(digits.train, size, seed=1).images)


def test_stratified_order_is_a_permutation():
    labels = torch.tensor([0] * 90 + [1] * 10)
    order = stratified_order(labels, 0)
    assert sorted(order.tolist()) == list(range(100))
    assert labels[order[:50]].sum() == 5


@pytest.mark.parametrize("size", [0, -1, 1439])
def test_impossible_subsets_are_refused(digits, size):
    with pytest.raises(InputError, match="1 to 1438"):
        stratified_subset(digits.train, size, 0)


def test_loading_a_subset_keeps_the_whole_sets_fingerprint(digits):
    subset = load_dataset("digits", train_size=50, seed=3)
    assert len(subset.train) == 50
    assert subset.fingerprint == digits.fingerprint


def test_split_length_and_subset():
    split = Split(torch.arange(4).view(4, 1, 1, 1), torch.arange(4))
    assert len(split.subset(torch.tensor([3, 1]))) == 2
    assert split.subset(torch.tensor([3, 1])).labels.tolist() == [3, 1]


@pytest.mark.skipif(not cifar10_at_hand(), reason="no CIFAR-10 under DATA_ROOT")
def test_real_cifar10():
    dataset = load_dataset("cifar10")
    assert dataset.train.images.shape == (data.IMAGES["cifar10"]["train"], 3, 32, 32)
    assert dataset.test.images.shape == (data.IMAGES["cifar10"]["test"], 3, 32, 32)
    assert dataset.train.labels.bincount().tolist() == [5000] * 10
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    mean = dataset.train.images.double().mean((0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64), rtol=0, atol=1e-4)
