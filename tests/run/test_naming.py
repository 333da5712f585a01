from pathlib import Path

import pytest

from charlstm.run.naming import free_folder, run_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("input.txt", "input"),
        ("data/shakespeare/input.txt", "shakespeare"),
        ("data/linux/input.txt.gz", "linux"),
        ("../input.txt", "input"),
        ("a/tunes.abc.xz", "tunes"),
        ("logs", "logs"),
        ("logs.d/", "logs.d"),
        ("-", "stdin"),
        ("/dev/stdin", "stdin"),
        ("/dev/fd/63", "pipe"),
        ("/proc/self/fd/11", "pipe"),
        (".", "here"),
        (".gz", ".gz"),
    ],
)
def test_a_run_is_named_after_its_first_text(
    text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here/logs.d").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert run_name(text) == name


def test_a_free_folder_is_always_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("a/b/input.txt", "a/log.1", "input.txt", "/dev/fd/63", "-"):
        for _ in range(6):
            folder = free_folder(text)
            assert not folder.exists()
            folder.mkdir(parents=True)
