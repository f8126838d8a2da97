import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import photo, write_kaggle_tree, write_tiny_tree, write_tree

from lib import sources
from lib.config import InputError
from lib.sources import Kaggle, Parquet, Tree, Zip

NAMES = ["n01 tench, Tinca tinca", "n02", "n03 a wolf"]


def listed(source, split, labels=None):
    """Names, labels and encoded images of a split."""
    labels = labels or {key: label for label, key in enumerate(source.keys)}
    chunks = source.chunks(split, labels)
    names = [name for chunk in chunks for name in chunk.names]
    return names, [label for chunk in chunks for label in chunk.labels], [r() for chunk in chunks for r in chunk.read()]


@pytest.fixture
def tiny(tmp_path):
    return write_tiny_tree(tmp_path / "tiny-imagenet-200")


def test_a_tree_lists_images_by_class_and_then_name(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FILES", 2)
    tree = Tree(write_tree(tmp_path))
    names, labels, encoded = listed(tree, "train")
    assert names == sorted(names)
    assert labels == [0] * 4 + [1] * 3 + [2] * 4
    assert encoded[5] == (tmp_path / "train" / "n02" / "n02_001.JPEG").read_bytes()
    assert listed(tree, "test")[1] == [0, 0, 1, 1, 2, 2]
    assert [len(chunk.names) for chunk in tree.chunks("train", {"n03": 0, "n02": 1})] == [2, 2, 2, 1]


def test_tiny_imagenets_validation_images_are_flat_and_annotated(tiny):
    names, labels, encoded = listed(Tree(tiny), "test")
    assert names == [f"val/images/val_{number}.JPEG" for number in range(6)]
    assert labels == [0, 0, 1, 1, 2, 2]
    assert encoded[2] == photo((100, 0, 200))
    assert Tree(tiny).classes == NAMES


def test_kaggles_validation_images_are_flat_and_their_classes_beside(tmp_path):
    kaggle = Kaggle(write_kaggle_tree(tmp_path / "kaggle"))
    made = Tree(write_tree(tmp_path / "made"))
    assert listed(kaggle, "train") == listed(made, "train")
    names, labels, encoded = listed(kaggle, "test")
    assert names == [f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (5, 6, 3, 4, 1, 2)]
    assert sorted(zip(labels, encoded, strict=True)) == sorted(zip(*listed(made, "test")[1:], strict=True))
    assert kaggle.classes == NAMES


def test_kaggles_annotations_serve_a_plain_folder_too(tmp_path):
    root = write_kaggle_tree(tmp_path)
    before = listed(Kaggle(root), "test")
    for folder in (root / Kaggle.below).iterdir():
        folder.rename(root / folder.name)
    assert listed(Tree(root), "test") == before
    (root / "LOC_val_solution.csv").unlink()
    with pytest.raises(InputError, match=r"or LOC_val_solution\.csv in .*: it has ILSVRC2012_val_00000001\.JPEG"):
        _ = Tree(root).keys


def test_annotations_that_break_off_are_named(tiny):
    annotations = tiny / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    annotations.write_text(whole + "val_9.JPEG")
    with pytest.raises(InputError, match=r"val_annotations.txt is damaged: 'val_9.JPEG' has no class"):
        listed(Tree(tiny), "test")
    annotations.write_text(whole)
    (tiny / "LOC_val_solution.csv").write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,")
    with pytest.raises(InputError, match=r"LOC_val_solution.csv is damaged: 'ILSVRC2012_val_00000001' has no class"):
        listed(Tree(tiny), "test")


def test_a_zip_is_read_as_the_tree_it_holds(tiny):
    tree = Tree(tiny)
    packed = Zip(Path(shutil.make_archive(str(tiny), "zip", tiny.parent, tiny.name)))
    assert packed.classes == NAMES
    for split in ("train", "test"):
        assert listed(packed, split) == listed(tree, split)


def test_hidden_files_other_files_and_empty_classes_are_left_out(tmp_path):
    root = write_tree(tmp_path)
    before = listed(Tree(root), "train")
    (root / "train" / "n00").mkdir()
    (root / "train" / "n01" / "._n01_000.JPEG").write_bytes(b"x")
    (root / "train" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "n01" / "notes.txt").write_bytes(b"x")
    assert listed(Tree(root), "train") == before
    assert Tree(root).keys == ["n01", "n02", "n03"]


def test_classes_without_training_images_are_refused(tmp_path):
    root = write_tree(tmp_path)
    shutil.rmtree(root / "train" / "n02")
    with pytest.raises(InputError, match="'n02', which train/ has none of"):
        _ = Tree(root).keys
    (root / "val" / "n03_000.JPEG").write_bytes(b"x")
    shutil.rmtree(root / "val" / "n02")
    with pytest.raises(
        InputError, match=r"/val needs a folder for each class, or val/val_annotations.txt or .*: it has n03_000\.JPEG"
    ):
        _ = Tree(root).keys
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    with pytest.raises(InputError, match="no images in val/"):
        _ = Tree(root).keys


def test_validation_images_without_their_annotations_are_named(tiny):
    (tiny / "val" / "val_annotations.txt").unlink()
    with pytest.raises(InputError, match=r"/val needs a folder for each class, or val/val_annotations\.txt or"):
        _ = Tree(tiny).keys


def test_damaged_words_are_named(tmp_path):
    root = write_tree(tmp_path)
    (root / "meta.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=f"{root}/meta.bin is damaged: delete it"):
        _ = Tree(root).classes
    (root / "words.txt").write_bytes(b"n01 t\xe4nch\n")
    assert Tree(root).classes[0].startswith("n01 t")


@pytest.mark.parametrize("file", ["classes.txt", "LOC_synset_mapping.txt", "meta.bin"])
def test_words_of_the_classes(tmp_path, file):
    root = write_tree(tmp_path)
    assert Tree(root).classes == ["n01", "n02", "n03"]
    if file == "meta.bin":
        torch.save(({"n01": ("tench", "Tinca tinca"), "n03": ("a wolf",)}, ["n01"]), root / file)
    else:
        part = "\t" if file == "classes.txt" else " "
        (root / file).write_text(f"n01{part}tench, Tinca tinca\nn03{part}a wolf\n")
    assert Tree(root).classes == NAMES


def test_a_trees_state_is_its_paths_and_sizes(tmp_path):
    root = write_tree(tmp_path / "a")
    copied = shutil.copytree(root, tmp_path / "b", copy_function=shutil.copyfile)
    assert Tree(copied).state == Tree(root).state
    (copied / "words.txt").write_text("n01 tench")
    (copied / "train" / "files.txt").write_text("what some tool left")
    assert Tree(copied).state == Tree(root).state
    (copied / "train" / "n01" / "n01_000.JPEG").write_bytes(b"other")
    assert Tree(copied).state != Tree(root).state


def test_a_damaged_zip_is_named(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match=f"{tmp_path}/x.zip is damaged"):
        _ = Zip(tmp_path / "x.zip").keys


def hub(folder, names=None, column="image"):
    """Parquet shards with labels 2 0 1 2 0 1 ..., of small row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}})} if names else None
    shards = {"train": [], "test": []}
    for split, start in (("train", 0), ("train", 6), ("test", 12)):
        images = [{"bytes": photo((number, 0, 0)), "path": None} for number in range(start, start + 6)]
        table = pa.table({column: images, "label": [2, 0, 1] * 2}).replace_schema_metadata(metadata)
        shards[split].append(folder / f"{split}-{start}.parquet")
        pq.write_table(table, shards[split][-1], row_group_size=4)
    return Parquet(folder, shards)


@pytest.mark.parametrize("column", ["image", "img"])
def test_parquet_lists_images_in_its_own_order(tmp_path, column):
    names, labels, encoded = listed(hub(tmp_path, column=column), "train")
    assert labels == [2, 0, 1] * 4
    assert encoded == [photo((number, 0, 0)) for number in range(12)]
    assert names[5] == "train-0.parquet row 1 of row group 1"


def test_parquet_of_some_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROWS", 2)
    names, labels, encoded = listed(hub(tmp_path), "test", {0: 0, 2: 1})
    assert labels == [1, 0, 1, 0]
    assert encoded == [photo((number, 0, 0)) for number in (12, 13, 15, 16)]
    assert names[2] == "test-12.parquet row 3 of row group 0"


def test_parquet_takes_class_names_from_a_list_else_the_metadata_else_the_labels(tmp_path):
    assert hub(tmp_path).classes == ["0", "1", "2"]
    source = hub(tmp_path, ["tench", "goldfish", "wolf", "fox"])
    assert source.classes == ["tench", "goldfish", "wolf"]
    assert source.keys == [0, 1, 2]  # a name without images is no class
    (tmp_path / "classes.txt").write_text("n01\ttench, Tinca tinca\nn02\tgoldfish\nn03\twolf\n")
    assert hub(tmp_path).classes == ["n01 tench, Tinca tinca", "n02 goldfish", "n03 wolf"]
    (tmp_path / "classes.txt").write_text("n01\ttench\nn02\tgoldfish\n")
    with pytest.raises(InputError, match="labels from 0 to 2; allowed: 0 to 1"):
        _ = hub(tmp_path).keys


def test_parquet_of_a_part_of_the_named_classes_has_these_alone(tmp_path):
    def only(label, split):
        for path in source.shards[split]:
            table = pq.read_table(path)
            pq.write_table(table.filter(pa.compute.not_equal(table["label"], label)), path)

    names = ["tench", "goldfish", "wolf", "fox"]
    source = hub(tmp_path, names)
    only(1, "train")
    with pytest.raises(InputError, match="test images of label 1, but no training images"):
        _ = source.keys
    only(1, "test")
    source = Parquet(tmp_path, source.shards)
    assert (source.keys, source.classes) == ([0, 2], ["tench", "wolf"])
    assert listed(source, "test")[1] == [1, 0, 1, 0]
    only(0, "test")
    only(2, "test")
    with pytest.raises(InputError, match=f"{tmp_path} has no test images"):
        _ = Parquet(tmp_path, source.shards).keys


@pytest.mark.parametrize("labels", [["tench"], [None, 0]])
def test_parquet_whose_labels_are_no_numbers_is_named(tmp_path, labels):
    source = hub(tmp_path)
    pq.write_table(pa.table({"image": [{"bytes": b"x"}] * len(labels), "label": labels}), source.shards["train"][1])
    with pytest.raises(InputError, match=r"train-6\.parquet is damaged or not in the Hub's layout"):
        _ = source.keys


def test_parquet_of_another_layout_is_named(tmp_path):
    source = hub(tmp_path)
    pq.write_table(pa.table({"image": [b"x"], "label": [0]}), source.shards["train"][1])
    with pytest.raises(InputError, match=r"train-6\.parquet is damaged or not in the Hub's layout"):
        listed(source, "train")
    source.shards["test"][0].write_bytes(b"PAR1 no parquet")
    with pytest.raises(InputError, match=r"test-12\.parquet is damaged or not in the Hub's layout"):
        _ = Parquet(tmp_path, source.shards).keys
