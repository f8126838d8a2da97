"""Shared pieces: a small data set, small runs, and no test that touches the user's records."""

import contextlib
import html
import http.server
import io
import os
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: results are bitwise equal only for one number of threads

import numpy as np
import pytest
import torch
from PIL import Image

from lib import study
from lib.data import load_dataset
from lib.runs import Run, RunStore
from lib.splits import Dataset, ImageFile, Split, fingerprint

SMOKE = "smoke", "digits", "cpu", {"seeds": 2}  # of a report.Choice


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Records go to a folder of the test's own, and one thread trains."""
    monkeypatch.setenv("STORE", str(tmp_path / "store"))
    monkeypatch.setenv("OFFLINE", "0")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The whole smoke report on digits, built once."""
    from lib import report  # needs Jupyter, without which the other tests run

    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORE", str(root / "store"))
        patch.setattr(report, "EXECUTED", root / "executed")
        cover = report.build(report.Choice(*SMOKE), RunStore(root / "store"), root / "html")
        assert cover == root / "html" / "index.html"
    return root


@pytest.fixture(scope="session")
def built_on_photographs(tmp_path_factory):
    """The smoke report on made photographs in Tiny ImageNet's layout."""
    from lib import report

    root = tmp_path_factory.mktemp("photographs")
    write_tiny_tree(root / "data" / "tiny-imagenet-200", train=12, test=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_ROOT", str(root / "data"))
        patch.setenv("STORE", str(root / "store"))
        patch.setattr(report, "EXECUTED", root / "executed")
        choice = report.Choice("smoke", "tiny-imagenet", "cpu", {})
        (root / "html").mkdir()
        (root / "html" / "label_corruption.html").write_text("of an older report, on digits")
        report.build(choice, RunStore(root / "store"), root / "html")
    return root


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def colours() -> Dataset:
    """200 + 40 random colour images of CIFAR's shape, for what grey digits cannot show."""
    generator = torch.Generator().manual_seed(0)
    splits = [
        Split(
            torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8),
            torch.arange(count) % 10,
        )
        for count in (200, 40)
    ]
    return Dataset("colours", *splits, tuple("abcdefghij"), fingerprint(*splits), "made here")


@pytest.fixture
def photos(tmp_path) -> Dataset:
    """40 + 20 random images of 48x48 pixels and 5 classes in files, as a packed data set of photographs."""
    generator, splits = np.random.default_rng(0), []
    for name, count in (("train", 40), ("test", 20)):
        np.save(tmp_path / f"{name}.npy", generator.integers(0, 256, (count, 3, 48, 48), dtype=np.uint8))
        images = ImageFile(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        splits.append(Split(images, torch.arange(count) % 5))
    return Dataset("photos", *splits, tuple("abcde"), fingerprint(*splits), "made here")


@pytest.fixture
def small_run() -> Run:
    """An MLP on 64 digits: milliseconds an epoch."""
    return Run(
        "digits", "mlp_1x512", width=0.1, train_size=64, test_size=32, learning_rate=0.01, batch_size=16, epochs=4
    )


@pytest.fixture
def runs(small_run) -> list[Run]:
    """The same with three seeds."""
    return [replace(small_run, seed=seed) for seed in range(3)]


@pytest.fixture
def store(tmp_path) -> RunStore:
    """An empty store of the test's own."""
    return RunStore(tmp_path / "store")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of decoded data sets of the test's own."""
    folder = tmp_path / "cache"
    for module in ("cifar10", "packing"):
        monkeypatch.setattr(f"lib.{module}.CACHE", folder)
    return folder


@pytest.fixture
def serve():
    """A local HTTP server of some bytes: serve(content) returns its address and the list of paths asked for.

    /good has the bytes, /bad fewer, /missing nothing, /garbage what is no HTTP, and /flaky has them only at the second
    try.
    """
    with contextlib.ExitStack() as stack:

        def serve(content: bytes) -> tuple[str, list[str]]:
            tries = []

            class Mirror(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    tries.append(self.path)
                    if "missing" in self.path or ("flaky" in self.path and tries.count(self.path) < 2):
                        self.send_error(503)
                        return
                    if "garbage" in self.path:
                        self.wfile.write(b"no status line\r\n\r\n")
                        return
                    body = content[:-5] if "bad" in self.path else content
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_):
                    pass

            httpd = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror))
            threading.Thread(target=httpd.serve_forever, daemon=True).start()
            stack.callback(httpd.shutdown)
            return f"http://127.0.0.1:{httpd.server_port}", tries

        yield serve


def photo(colour=(0, 0, 0), size=(64, 64), mode="RGB", form="JPEG", **options) -> bytes:
    """An encoded image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(file, form, **options)
    return file.getvalue()


def write_tree(root: Path, train: int = 4, test: int = 2, size: tuple[int, int] = (64, 64)) -> Path:
    """ImageNet's layout of three made classes, the second of which has one training image less; every image of its
    own colour: red is its class, green its number, blue 0 in train/ and 200 in val/."""
    for split, count, blue in (("train", train, 0), ("val", test, 200)):
        for label, wnid in enumerate(("n01", "n02", "n03")):
            (root / split / wnid).mkdir(parents=True)
            for number in range(count - (label == 1 and split == "train")):
                image = photo((100 * label, 10 * number % 250, blue), size)
                (root / split / wnid / f"{wnid}_{number:03}.JPEG").write_bytes(image)
    return root


def write_tiny_tree(root: Path, **counts: int) -> Path:
    """The same images in Tiny ImageNet's layout."""
    made = write_tree(root / "made", **counts)
    lines = []
    for path in sorted(made.glob("*/*/*")):
        split, wnid = path.parent.parent.name, path.parent.name
        folder = root / split / wnid / "images" if split == "train" else root / "val" / "images"
        name = path.name if split == "train" else f"val_{len(lines)}.JPEG"
        if split == "val":
            lines.append(f"{name}\t{wnid}\t0\t0\t9\t9")
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / name)
        (root / "train" / wnid / f"{wnid}_boxes.txt").touch()
    (root / "val" / "val_annotations.txt").write_text("\n".join(reversed(lines)) + "\n")
    (root / "words.txt").write_text("n00\tentity\nn01\ttench, Tinca tinca\nn03\ta wolf\n")
    shutil.rmtree(made)
    return root


def write_kaggle_tree(root: Path) -> Path:
    """The same images as Kaggle's archive of ImageNet has them, the last validation image first."""
    made = write_tree(root / "ILSVRC" / "Data" / "CLS-LOC")
    lines = ["ImageId,PredictionString"]
    for number, path in enumerate(sorted(made.glob("val/*/*"), reverse=True), 1):
        name = f"ILSVRC2012_val_{number:08}"
        path.rename(made / "val" / f"{name}.JPEG")
        lines.append(f"{name},{path.parent.name} 85 1 499 272 {path.parent.name} 9 9 99 99 ")
    for folder in made.glob("val/n*"):
        folder.rmdir()
    (made / "test").mkdir()
    (made / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"x")
    (root / "LOC_val_solution.csv").write_text("\n".join(lines) + "\n")
    (root / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn03 a wolf\n")
    return root


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A repository without records."""
    monkeypatch.setattr(study, "RECORDED", tmp_path)


def cells(text):
    """The table's rows, each a list of plain texts."""
    rows = re.findall(r"<tr.*?</tr>", text, re.DOTALL)
    plain = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    return [[" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in row] for row in plain]
