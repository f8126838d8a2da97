import importlib.util
import os
import shutil
import signal

import pytest

from lib import config
from lib.config import InputError, one_of, parse_parameter, resolve_device, run_command


def test_relative_folders_start_at_the_repository_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", "../elsewhere")
    monkeypatch.setenv("STORE", "")
    assert config.data_root() == config.ROOT.parent / "elsewhere"
    assert config.store_root() == config.ROOT / "report" / "runs"
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    assert config.data_root() == tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds=3", 3),
        ("rate=1e-3", 1e-3),
        ("rates=[0, 0.5]", [0, 0.5]),
        ("name=alexnet", "alexnet"),
        ("a=b=c", "b=c"),
    ],
)
def test_parameters_are_read_as_what_they_are(text, expected):
    assert parse_parameter(text)[1] == expected


@pytest.mark.parametrize("value", ["1" * 5_000, "[" * 100_000])
def test_what_json_cannot_read_is_text(value):
    assert parse_parameter(f"seeds={value}") == ("seeds", value)


def test_parameter_without_value_is_refused():
    with pytest.raises(InputError, match="name=value"):
        parse_parameter("seeds")


def test_unknown_value_names_itself_and_what_is_allowed():
    with pytest.raises(InputError, match="unknown profile 'fast'; allowed: smoke, quick"):
        one_of("profile", "fast", ("smoke", "quick"))


def test_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match="no CUDA GPU here; allowed: auto, cpu"):
        resolve_device("cuda")
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        resolve_device("tpu")


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("a message"), 2), (OSError("disk full"), 2), (KeyboardInterrupt(), 130)]
)
def test_a_command_ends_with_one_line_and_a_status(error, status, capsys):
    def main():
        raise error

    assert run_command(main) == status
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error(capfd):
    def main():
        raise BrokenPipeError

    with open(os.dup(1), "w") as kept:  # what run_command closes is the process's own
        assert run_command(main) == 141
        os.dup2(kept.fileno(), 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "a\0b"])
def test_no_name_of_a_folder_is_one_line(name, monkeypatch):
    with pytest.raises(InputError, match="is no name of a folder"):
        config.store_root(name)
    if "\0" not in name:
        monkeypatch.setenv("DATA_ROOT", name)
        with pytest.raises(InputError, match="is no name of a folder"):
            config.data_root()


def test_a_closed_terminal_ends_a_command_unless_that_is_to_be_ignored(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)
    assert config.ends() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)  # nohup
    assert config.ends() == [signal.SIGINT, signal.SIGTERM]


def test_a_notebook_shows_a_wrong_input_as_one_line(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_cell("from lib.config import one_of\none_of('profile', 'fast', ('smoke',))")
    assert capsys.readouterr().out.strip() == "error: unknown profile 'fast'; allowed: smoke"


def test_a_programming_error_keeps_its_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(main)


def test_the_records_are_known_behind_a_link_too(monkeypatch, tmp_path):
    """Else each of them would count twice: as the repository's, and as those of another store."""
    for name in ("lib", "elsewhere", "report"):
        (tmp_path / name).mkdir()
    (tmp_path / "report" / "runs").symlink_to(tmp_path / "elsewhere")
    copy = shutil.copy(config.__file__, tmp_path / "lib" / "config.py")
    spec = importlib.util.spec_from_file_location("config_elsewhere", copy)
    linked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(linked)
    monkeypatch.setenv("STORE", "report/runs")
    assert linked.store_root() == linked.RECORDED == tmp_path / "elsewhere"


def test_what_is_trained_again_has_a_store_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv("STORE")
    assert config.store_root() == config.RECORDED
    monkeypatch.setenv("RETRAIN", "1")
    assert config.store_root() == config.ROOT / "report" / "retrained"
    monkeypatch.setenv("STORE", str(tmp_path))
    assert config.store_root() == tmp_path
    monkeypatch.setenv("STORE", "report/runs")
    for given in ("", str(config.RECORDED), f"{config.RECORDED}/../runs"):
        with pytest.raises(InputError, match="name another STORE"):
            config.store_root(given)
    assert config.store_root(str(tmp_path / "given")) == tmp_path / "given"
    monkeypatch.setenv("RETRAIN", "yes")
    with pytest.raises(InputError, match="unknown RETRAIN 'yes'; allowed: 0, 1"):
        config.retrains()
