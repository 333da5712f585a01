"""Large texts, which processes encode side by side."""

import contextlib
import gzip
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import Popen
from threading import Thread
from typing import Any

import numpy as np
import pytest

from charlstm.errors import CharlstmError
from charlstm.text import encoder, process_pool, shards
from charlstm.text.collection import Collection, collect
from charlstm.text.detection import START
from charlstm.text.encoder import Encoder, encoder_of
from charlstm.text.encoding import Corpus, encode
from charlstm.text.source import Text
from charlstm.text.vocabulary import Vocabulary

ALPHABET = "\ufeffé学👩\u200d🚀abc\r\n"


@pytest.fixture(autouse=True)
def of_small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide texts of small files, too."""
    monkeypatch.setattr(shards, "SMALL_FILE", 0)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Popen[bytes]]:
    """Let two processes encode any text; return those that were started so far."""
    started: list[Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> Popen[bytes]:
        started.append(Popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(process_pool, "Popen", start)
    monkeypatch.setattr(encoder, "usable_cores", lambda: 2)
    monkeypatch.setattr(encoder, "LARGE", 1)
    monkeypatch.setattr(encoder, "SHARD_BYTES", 5000)
    return started


@pytest.fixture
def without_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process encode nothing, so that the others must."""
    monkeypatch.delattr(Encoder, "count")
    monkeypatch.delattr(Encoder, "write")


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
        patch.setattr(encoder, "usable_cores", lambda: 1)
        return encode(text, ids, min_count=min_count)


@pytest.mark.parametrize("seed", range(40))
def test_the_shards_of_a_text_are_read_as_the_text_is(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(seed)
    monkeypatch.setattr("charlstm.text.shards.START", generator.choice([1, 2, 5, 20]))
    end = generator.choice(["", "\n", "é\n"])
    contents = [some_text(generator, generator.choice([0, 1, 7, 200])) for _ in range(6)]
    contents.insert(generator.randrange(6), some_text(generator, 300))
    if generator.random() < 0.5:
        contents[-1] += end
    join = generator.choice(["", "\n", "学"])
    text = Collection(collect(files(tmp_path, "ab", *contents)), join, end=end)
    divided = shards.divide(text, generator.choice([1, 10, 100]))
    assert len(divided) > 1
    read = [shards.from_json(shards.to_json(shard)).reader().code_points() for shard in divided]
    found = np.concatenate([points for chunks in read for points in chunks])
    assert np.array_equal(found, np.concatenate([*text.reader().code_points()]))
    assert sum(map(shards.size_of, divided)) == text.stamp()[0]


@pytest.mark.parametrize("last", ["é--\n", "é"])
def test_the_end_of_records_is_in_a_single_shard(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "START", 1)
    end = "é--\n"
    text = Collection(collect(files(tmp_path, "ab" * 20 + last)), end=end)
    divided = shards.divide(text, 1)
    assert len(divided) > 20
    read = [shard.reader().code_points() for shard in divided]
    found = np.concatenate([points for chunks in read for points in chunks])
    assert "".join(map(chr, found)) == "ab" * 20 + last.removesuffix(end) + end


def test_shards_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    text = Collection(collect(files(tmp_path, "é" * 20000, *["ab" * 1000] * 30)))
    sizes = [shards.size_of(shard) for shard in shards.divide(text, 10_000)]
    assert len(sizes) == 10
    assert all(10_000 <= size <= 10_000 + START + 3 for size in sizes[:-1])


def test_texts_that_cannot_be_divided_have_no_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(tmp_path, "ab" * 50_000)
    assert shards.divide(Collection(collect([path]), encoding="latin-1"), 5000) == []
    assert shards.divide(Text("text", io.BytesIO(b"ab" * 50_000)), 5000) == []
    assert len(shards.divide(Collection(collect([path])), 5000)) > 1
    compressed = tmp_path / "b.gz"
    compressed.write_bytes(gzip.compress(random.Random(0).randbytes(50_000)))
    assert shards.divide(Collection(collect([path, str(compressed)])), 5000) == []
    monkeypatch.setattr(shards, "SMALL_FILE", 2**16)
    small = files(tmp_path, *["ab" * 5000] * 10)
    assert shards.divide(Collection(collect(small)), 5000) == []


@pytest.mark.parametrize("min_count", [1, 100])
def test_processes_encode_as_one_process_does(
    min_count: int, processes: list[Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(min_count)
    contents = [some_text(generator, length) for length in (20_000, 0, 3000, 9000, 1)]
    many = "".join(map(chr, range(0x4E00, 0x4F00)))  # more than 256 characters: ids of 2 bytes
    text = Collection(collect(files(tmp_path, many, *contents)), "--", end="\n")
    expected = encoded_in_one_process(text, tmp_path / "expected", monkeypatch, min_count)
    assert not processes
    monkeypatch.delattr(Encoder, "count")
    monkeypatch.delattr(Encoder, "write")
    read: list[int] = []
    found = encode(text, tmp_path / "ids", read.append, min_count=min_count)
    assert len(processes) == 2
    assert found.identity() == expected.identity()
    assert (tmp_path / "ids").read_bytes() == (tmp_path / "expected").read_bytes()
    assert found.ids.dtype == (np.uint16 if min_count == 1 else np.uint8)
    assert sum(read) == 2 * text.stamp()[0]


@pytest.mark.usefixtures("processes", "without_help")
def test_processes_find_files_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9 \xff.txt")
    Path(name).write_text("ab" * 10_000)
    found = encode(Collection(collect([name])), Path("ids"))
    assert found.vocabulary.decode(found.ids) == "ab" * 10_000


@pytest.mark.usefixtures("processes", "without_help")
def test_the_content_of_a_pipe_is_encoded(tmp_path: Path) -> None:
    content = "abc\n" * 5000
    reading, writing = os.pipe()
    Thread(target=lambda: os.fdopen(writing, "w").write(content)).start()
    pipe = Collection(collect([f"/dev/fd/{reading}"]))
    os.close(reading)
    with pipe.spooled(tmp_path) as spooled:
        found = encode(spooled, tmp_path / "ids")
    assert found.vocabulary.decode(found.ids) == content


def test_standard_input_can_be_a_large_file(tmp_path: Path) -> None:
    """The processes have standard inputs of their own."""
    (path,) = files(tmp_path, "abc\n" * 5000)
    script = (
        "from charlstm.text import encoder, shards; from pathlib import Path;"
        "from charlstm.text.collection import Collection, collect;"
        "from charlstm.text.encoding import encode;"
        "encoder.LARGE, encoder.SHARD_BYTES, encoder.usable_cores = 1, 5000, lambda: 2;"
        "shards.SMALL_FILE = 0; del encoder.Encoder.count, encoder.Encoder.write;"
        "print(encode(Collection(collect(['/dev/stdin'])), Path('ids')).counts)"
    )
    with Path(path).open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdin=file,
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=True,
        )
    assert done.stdout == b"(5000, 5000, 5000, 5000)\n"


@pytest.mark.usefixtures("processes", "without_help")
def test_a_full_disk_is_an_error_of_writing(tmp_path: Path) -> None:
    text = Collection(collect(files(tmp_path, "ab" * 10_000)))
    vocabulary = Vocabulary("ab")
    with encoder_of(text, 20_000, None) as used, Path("/dev/full").open("r+b") as full:
        used.count()
        with pytest.raises(OSError, match="No space left on device"):
            used.write(vocabulary, full)


@pytest.mark.usefixtures("processes", "without_help")
def test_a_shard_within_a_file_may_look_like_utf_16(tmp_path: Path) -> None:
    content = "ab" * 2500 + "a\0" * 10_000
    found = encode(Collection(collect(files(tmp_path, content))), tmp_path / "ids")
    assert found.vocabulary.decode(found.ids) == content


@pytest.mark.usefixtures("without_help")
def test_no_process_is_left(processes: list[Popen[bytes]], tmp_path: Path) -> None:
    encode(Collection(collect(files(tmp_path, "ab" * 10_000))), tmp_path / "ids")
    assert len(processes) == 2
    assert all(process.returncode == -signal.SIGKILL for process in processes)


@pytest.mark.usefixtures("without_help")
def test_an_interrupt_leaves_neither_processes_nor_files(
    processes: list[Popen[bytes]], tmp_path: Path
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
    assert len(processes) == 2
    assert all(process.returncode == -signal.SIGKILL for process in processes)
    assert [str(path) for path in tmp_path.iterdir()] == [*paths]


def test_an_interrupt_is_noticed_while_processes_are_busy(
    processes: list[Popen[bytes]], tmp_path: Path
) -> None:
    def interrupt(more: int) -> None:
        for process in processes:
            process.send_signal(signal.SIGSTOP)  # busy for ever
        if more == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(Collection(collect(files(tmp_path, "ab" * 10_000))), tmp_path / "ids", interrupt)
    assert all(process.returncode == -signal.SIGKILL for process in processes)


@pytest.mark.parametrize("passes_before", [0, 1])
def test_a_text_is_encoded_though_a_process_was_killed(
    passes_before: int,
    processes: list[Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = Collection(collect(files(tmp_path, some_text(random.Random(0), 40_000) * 10)))
    size = text.stamp()[0]
    expected = encoded_in_one_process(text, tmp_path / "expected", monkeypatch)
    reported: list[int] = []

    def kill(more: int) -> None:
        reported.append(more)
        if sum(reported) >= max(1, passes_before * size):
            processes[-1].kill()

    found = encode(text, tmp_path / "ids", kill)
    assert processes
    assert found.identity() == expected.identity()
    assert np.array_equal(found.ids, expected.ids)
    assert min(reported) < 0, "nothing was encoded again"
    assert sum(reported) == 2 * size


def test_a_text_is_encoded_though_no_process_starts(
    processes: list[Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Collection(collect(files(tmp_path, "ab" * 10_000)))
    for program in ("/bin/false", "/no/such/program", "", None):
        monkeypatch.setattr(sys, "executable", program)
        assert encode(text, tmp_path / "ids").counts == (10_000, 10_000)
    assert processes


@pytest.mark.parametrize("bad", [b"\xff", b"\xe5\xad", b"\x80" * 5], ids=repr)
def test_the_error_is_that_of_one_process(
    bad: bytes, processes: list[Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, "é\n" * 5000, "ab" * 1000)
    for where in (4998, 5000):
        content = ("é\n" * 5000).encode()
        Path(paths[0]).write_bytes(content[:where] + bad + content[where:])
        text = Collection(collect(paths))
        with pytest.raises(CharlstmError) as expected:
            encoded_in_one_process(text, tmp_path / "ids", monkeypatch)
        processes.clear()
        with pytest.raises(CharlstmError) as found:
            encode(text, tmp_path / "ids")
        assert processes
        assert found.value.args == expected.value.args


def test_utf_16_without_a_mark_is_recognised_beside_a_large_text(
    processes: list[Popen[bytes]], tmp_path: Path
) -> None:
    paths = files(tmp_path, "a" * 4999, "")  # a shard could end after a byte of the second file
    Path(paths[1]).write_bytes(("hello there " * 2000).encode("utf-16-le"))
    with pytest.raises(CharlstmError, match="not UTF-8 but UTF-16-LE without a byte order mark"):
        encode(Collection(collect(paths)), tmp_path / "ids")
    assert processes


def change(path: str) -> None:
    """Change the last character of a text, but neither its size nor its time."""
    status = Path(path).stat()
    with Path(path).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"c")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_text_that_changes_between_the_passes_is_refused(
    processes: list[Popen[bytes]], tmp_path: Path
) -> None:
    (path,) = files(tmp_path, "ab" * 10_000)
    with encoder_of(Collection(collect([path])), 20_000, None) as used:
        used.count()
        change(path)
        with (
            pytest.raises(CharlstmError, match="changed while it was being read"),
            (tmp_path / "ids").open("w+b") as file,
        ):
            used.write(Vocabulary("abc"), file)
    assert processes


@pytest.mark.parametrize("share", [0.3, 0.6, 1, 1.5])
def test_the_sha256_is_that_of_the_encoded_text_whenever_it_changes(
    share: float, processes: list[Popen[bytes]], tmp_path: Path
) -> None:
    (path,) = files(tmp_path, "cab" * 100_000)
    read = 0

    def interfere(more: int) -> None:
        nonlocal read
        read += more
        if read >= share * 300_000:
            change(path)

    with contextlib.suppress(CharlstmError):
        found = encode(Collection(collect([path])), tmp_path / "ids", interfere)
        text = found.vocabulary.decode(found.ids)
        assert hashlib.sha256(text.encode()).hexdigest() == found.sha256
    assert processes
