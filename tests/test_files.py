import errno
import hashlib
import resource
import shutil

import pytest
import torch

from lib import files
from lib.config import InputError
from lib.files import NoData, download, make_room, one_line, save, writable

CONTENT = b"0123456789"
MD5 = hashlib.md5(CONTENT).hexdigest()
SOUGHT = "It is not to be had. Tried here"


def urls(host, *names):
    return [f"{host}/{name}" for name in names]


def test_download_goes_on_to_the_first_intact_mirror(serve, tmp_path):
    host, tries = serve(CONTENT)
    path = download(urls(host, "missing", "bad", "good", "never-asked"), tmp_path / "new", "name", MD5, SOUGHT)
    assert path == tmp_path / "new" / "name"
    assert path.read_bytes() == CONTENT
    assert list(dict.fromkeys(tries)) == ["/missing", "/bad", "/good"]
    assert tries.count("/bad") >= files.ATTEMPTS


def test_download_retries(serve, tmp_path):
    host, tries = serve(CONTENT)
    assert download(urls(host, "flaky"), tmp_path, "name", MD5, SOUGHT).read_bytes() == CONTENT
    assert tries.count("/flaky") > 1


def test_what_an_interrupted_download_left_is_begun_anew(serve, tmp_path):
    host, _ = serve(CONTENT)
    (tmp_path / "name.partial").write_bytes(CONTENT[:3])
    assert download(urls(host, "good"), tmp_path, "name", MD5, SOUGHT).read_bytes() == CONTENT
    assert not (tmp_path / "name.partial").exists()


def test_a_file_that_another_process_has_downloaded_is_taken(tmp_path):
    (tmp_path / "name").write_bytes(CONTENT)
    assert download(["http://127.0.0.1:9/x"], tmp_path, "name", MD5, SOUGHT) == tmp_path / "name"


def test_download_names_what_it_tried_and_leaves_nothing(serve, tmp_path):
    host, _ = serve(CONTENT)
    told = rf"{SOUGHT}, {host}/missing .*503.*{host}/bad .what it sends is cut off or another file.\. Set DATA_ROOT"
    with pytest.raises(NoData, match=told):
        download(urls(host, "missing", "bad"), tmp_path, "name", MD5, SOUGHT)
    assert not (tmp_path / "name").exists()


def test_offline_nothing_is_asked_for(serve, tmp_path, monkeypatch):
    host, tries = serve(CONTENT)
    monkeypatch.setenv("OFFLINE", "1")
    with pytest.raises(NoData, match=f"{SOUGHT}; with OFFLINE=1 nothing is downloaded"):
        download(urls(host, "good"), tmp_path, "name", MD5, SOUGHT)
    assert (tries, list(tmp_path.iterdir())) == ([], [])


def test_a_full_disk_is_no_fault_of_a_mirror(tmp_path, monkeypatch):
    asked = []

    def fill(url, *_):
        asked.append(url)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fill)
    with pytest.raises(InputError, match=f"{tmp_path} has no room for name") as refused:
        download(["http://one", "http://other"], tmp_path, "name", MD5, SOUGHT)
    assert not isinstance(refused.value, NoData)  # DATASET=auto goes on with other data only where there is none
    assert asked == ["http://one"]


def test_an_answer_that_is_no_http_counts_as_no_answer(serve, tmp_path):
    host, _ = serve(CONTENT)
    with pytest.raises(NoData, match=f"{host}/garbage .*{host}/missing "):
        download(urls(host, "garbage", "missing"), tmp_path, "name", MD5, SOUGHT)


def test_what_a_full_disk_does_not_take_leaves_what_was_there(tmp_path):
    path, limits = tmp_path / "name.pt", resource.getrlimit(resource.RLIMIT_FSIZE)
    save(torch.zeros(3), path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"cannot write {tmp_path}/name.partial"):
            save(torch.zeros(100_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(torch.load(path), torch.zeros(3))
    assert [file.name for file in tmp_path.iterdir()] == ["name.pt"]


def test_download_to_an_unwritable_folder_is_no_traceback(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NoData, match="cannot write"):
        download(["http://127.0.0.1:9/x"], tmp_path / "file" / "below", "name", MD5, SOUGHT)


def test_make_room_creates_the_folder_or_says_what_is_in_the_way(tmp_path, monkeypatch):
    make_room(tmp_path / "a" / "b", 1)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot create"):
        make_room(tmp_path / "file" / "below", 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 5 << 20))
    with pytest.raises(InputError, match="5 MiB of free disk space; needed: 6 MiB"):
        make_room(tmp_path, 6 << 20)


def test_a_folder_marked_read_only_is_not_writable_even_for_root(tmp_path):
    assert writable(tmp_path)
    tmp_path.chmod(0o555)
    assert not writable(tmp_path)
    tmp_path.chmod(0o755)


def test_one_line():
    assert one_line(ValueError("a\nb")) == "a"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
