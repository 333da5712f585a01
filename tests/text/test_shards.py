"""Large texts, which worker processes encode side by side."""

import gzip
import io
import os
import random
import signal
import sys
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import pytest

from charlstm.errors import CharlstmError
from charlstm.text import passes, shards, worker_pool
from charlstm.text.collection import Collection, collect
from charlstm.text.detection import START
from charlstm.text.encoding import Corpus, encode
from charlstm.text.passes import Passes
from charlstm.text.source import Text

ALPHABET = "\ufeffé学👩\u200d🚀abc\r\n"


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Popen[bytes]]:
    """Two worker processes and one for the SHA-256, for any text; return those started so far."""
    started: list[Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> Popen[bytes]:
        started.append(Popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(worker_pool, "Popen", start)
    monkeypatch.setattr(passes, "usable_cores", lambda: 2)
    monkeypatch.setattr(passes, "LARGE", 1)
    monkeypatch.setattr(passes, "SHARD_BYTES", 5000)
    return started


@pytest.fixture
def without_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process encode nothing, so that the workers must."""
    monkeypatch.delattr(Passes, "count")
    monkeypatch.delattr(Passes, "write")


def some_text(generator: random.Random, length: int) -> str:
    return "".join(generator.choices(ALPHABET, k=length))


def files(folder: Path, *contents: str) -> tuple[str, ...]:
    paths = [folder / f"{number}.txt" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content, "utf-8", newline="")
    return tuple(map(str, paths))


def encoded_in_one_process(
    text: Collection, ids: Path, monkeypatch: pytest.MonkeyPatch, min_count: int = 1
) -> Corpus:
    with monkeypatch.context() as patch:
        patch.setattr(passes, "usable_cores", lambda: 1)
        return encode(text, ids, min_count=min_count)


@pytest.mark.parametrize("seed", range(40))
def test_the_shards_of_a_text_are_read_as_the_text_is(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(seed)
    monkeypatch.setattr("charlstm.text.shards.START", generator.choice([1, 2, 5, 20]))
    end = generator.choice(["", "\n", "é\n"])
    contents = [some_text(generator, generator.choice([0, 1, 7, 200])) for _ in range(6)]
    if generator.random() < 0.5:
        contents[-1] += end
    join = generator.choice(["", "\n", "学"])
    text = Collection(collect(files(tmp_path, "ab", *contents)), join, end=end)
    divided = shards.divide(text, generator.choice([1, 10, 100, 1000]))
    read = [shards.from_json(shards.to_json(shard)).reader().code_points() for shard in divided]
    found = np.concatenate([points for chunks in read for points in chunks])
    assert np.array_equal(found, np.concatenate([*text.reader().code_points()]))
    assert sum(map(shards.size_of, divided)) == text.stamp()[0]


def test_shards_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    text = Collection(collect(files(tmp_path, "é" * 20000, *["ab" * 1000] * 30)))
    sizes = [shards.size_of(shard) for shard in shards.divide(text, 10_000)]
    assert len(sizes) == 10
    assert all(10_000 <= size <= 10_000 + START + 3 for size in sizes[:-1])


def test_texts_that_cannot_be_divided_have_no_shards(tmp_path: Path) -> None:
    (path,) = files(tmp_path, "ab" * 50_000)
    assert shards.divide(Collection(collect([path]), encoding="latin-1"), 5000) == []
    assert shards.divide(Text("text", io.BytesIO(b"ab" * 50_000)), 5000) == []
    compressed = tmp_path / "b.gz"
    compressed.write_bytes(gzip.compress(random.Random(0).randbytes(50_000)))
    assert shards.divide(Collection(collect([path, str(compressed)])), 5000) == []


@pytest.mark.parametrize("min_count", [1, 100])
def test_workers_encode_as_one_process_does(
    min_count: int, workers: list[Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(min_count)
    contents = [some_text(generator, length) for length in (20_000, 0, 3000, 9000, 1)]
    many = "".join(map(chr, range(0x4E00, 0x4F00)))  # more than 256 characters: ids of 2 bytes
    text = Collection(collect(files(tmp_path, many, *contents)), "--", end="\n")
    expected = encoded_in_one_process(text, tmp_path / "expected", monkeypatch, min_count)
    assert not workers
    monkeypatch.delattr(Passes, "count")
    monkeypatch.delattr(Passes, "write")
    read: list[int] = []
    found = encode(text, tmp_path / "ids", read.append, min_count=min_count)
    assert len(workers) == 3
    assert found.identity() == expected.identity()
    assert (tmp_path / "ids").read_bytes() == (tmp_path / "expected").read_bytes()
    assert found.ids.dtype == (np.uint16 if min_count == 1 else np.uint8)
    assert sum(read) == 2 * text.stamp()[0]


@pytest.mark.usefixtures("workers", "without_help")
def test_workers_find_files_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9 \xff.txt")
    Path(name).write_text("ab" * 10_000)
    found = encode(Collection(collect([name])), Path("ids"))
    assert found.vocabulary.decode(found.ids) == "ab" * 10_000


@pytest.mark.usefixtures("workers", "without_help")
def test_a_shard_within_a_file_may_look_like_utf_16(tmp_path: Path) -> None:
    content = "ab" * 2500 + "a\0" * 10_000
    found = encode(Collection(collect(files(tmp_path, content))), tmp_path / "ids")
    assert found.vocabulary.decode(found.ids) == content


@pytest.mark.usefixtures("without_help")
def test_no_worker_is_left(workers: list[Popen[bytes]], tmp_path: Path) -> None:
    encode(Collection(collect(files(tmp_path, "ab" * 10_000))), tmp_path / "ids")
    assert len(workers) == 3
    assert all(worker.returncode == -signal.SIGKILL for worker in workers)


@pytest.mark.usefixtures("without_help")
def test_an_interrupt_leaves_neither_workers_nor_files(
    workers: list[Popen[bytes]], tmp_path: Path
) -> None:
    paths = files(tmp_path, "ab" * 100_000)
    read = 0

    def interrupt(size: int) -> None:
        nonlocal read
        read += size
        if read > 250_000:  # in the second pass
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Collection(collect(paths)), tmp_path / "ids", interrupt)
    assert len(workers) == 3
    assert all(worker.returncode == -signal.SIGKILL for worker in workers)
    assert [str(path) for path in tmp_path.iterdir()] == [*paths]


@pytest.mark.parametrize("passes_before", [0, 1])
def test_a_text_is_encoded_though_a_worker_was_killed(
    passes_before: int,
    workers: list[Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = Collection(collect(files(tmp_path, some_text(random.Random(0), 40_000) * 10)))
    size = text.stamp()[0]
    expected = encoded_in_one_process(text, tmp_path / "expected", monkeypatch)
    reported: list[int] = []

    def kill(size: int) -> None:
        reported.append(size)
        if sum(reported) >= max(1, passes_before * size):
            workers[-1].kill()

    found = encode(text, tmp_path / "ids", kill)
    assert workers
    assert found.identity() == expected.identity()
    assert np.array_equal(found.ids, expected.ids)
    assert min(reported) < 0, "nothing was encoded again"
    assert sum(reported) == 2 * size


def test_a_text_is_encoded_though_no_worker_starts(
    workers: list[Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Collection(collect(files(tmp_path, "ab" * 10_000)))
    for program in ("/bin/false", "/no/such/program", ""):
        monkeypatch.setattr(sys, "executable", program)
        assert encode(text, tmp_path / "ids").counts == (10_000, 10_000)
    assert workers


@pytest.mark.parametrize("bad", [b"\xff", b"\xe5\xad", b"\x80" * 5], ids=repr)
def test_the_error_is_that_of_one_process(
    bad: bytes, workers: list[Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, "é\n" * 5000, "ab" * 1000)
    for where in (4998, 5000):
        content = ("é\n" * 5000).encode()
        Path(paths[0]).write_bytes(content[:where] + bad + content[where:])
        text = Collection(collect(paths))
        with pytest.raises(CharlstmError) as expected:
            encoded_in_one_process(text, tmp_path / "ids", monkeypatch)
        workers.clear()
        with pytest.raises(CharlstmError) as found:
            encode(text, tmp_path / "ids")
        assert workers
        assert found.value.args == expected.value.args


def test_utf_16_without_a_mark_is_recognised_beside_a_large_text(
    workers: list[Popen[bytes]], tmp_path: Path
) -> None:
    paths = files(tmp_path, "a" * 4999, "")  # a shard could end after a byte of the second file
    Path(paths[1]).write_bytes(("hello there " * 2000).encode("utf-16-le"))
    with pytest.raises(CharlstmError, match="not UTF-8 but UTF-16-LE without a byte order mark"):
        encode(Collection(collect(paths)), tmp_path / "ids")
    assert workers


def test_a_text_that_changes_while_workers_read_it_is_refused(
    workers: list[Popen[bytes]], tmp_path: Path
) -> None:
    (path,) = files(tmp_path, "ab" * 100_000)

    def change(_size: int) -> None:
        with Path(path).open("r+b") as file:
            file.write(b"b")

    with pytest.raises(CharlstmError, match="changed while it was being read"):
        encode(Collection(collect([path])), tmp_path / "ids", change)
    assert workers
    assert not (tmp_path / "ids").exists()
