"""Several files, folders, compressed files and pipes, read as one text."""

import bz2
import gzip
import lzma
import os
import random
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from backports import zstd

from charlstm.errors import CharlstmError
from charlstm.text import opening, source
from charlstm.text.collection import Collection, collect
from charlstm.text.encoding import encode
from charlstm.text.opening import codec
from charlstm.text.reuse import reuse
from charlstm.text.source import UTF8

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}
LINES = "naïve 学而时习之 👩\u200d🚀\r\nthe quick brown fox\n"


def decoded(collection: Collection, folder: Path) -> str:
    found = encode(collection, folder / "ids")
    return found.vocabulary.decode(found.ids)


def test_texts_are_joined_in_the_given_order(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("b", "a", "c")]
    for path, text in zip(paths, ("\ufeffone é", "two", "three\n"), strict=True):
        Path(path).write_text(text, "utf-8")
    for join in ("", "\n--\n", "学"):
        collection = Collection(collect(paths), join)
        assert decoded(collection, tmp_path) == join.join(["one é", "two", "three\n"])


def test_small_files_are_gathered_with_or_without_a_text_between_them(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}").write_text("some words")
    for join in ("", "\n"):
        (chunk,) = Collection(collect([str(tmp_path)]), join=join).reader().code_points()
        assert bytes(chunk) == join.join(["some words"] * 300).encode()


def test_standard_input_is_named_once() -> None:
    with pytest.raises(CharlstmError, match="- is named twice"):
        collect(["-", "-"])


def test_the_ids_do_not_depend_on_how_a_text_is_cut_into_files(tmp_path: Path) -> None:
    text, source_ = LINES * 9, random.Random(3)
    (tmp_path / "whole").write_text(text, "utf-8", newline="")
    whole = encode(Collection(collect([str(tmp_path / "whole")])), tmp_path / "ids")
    cuts = [0, *sorted(source_.sample(range(len(text)), 20)), len(text)]
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, (start, end) in enumerate(pairwise(cuts)):
        (folder / f"{number:03}").write_text(text[start:end], "utf-8", newline="")
    parts = encode(Collection(collect([str(folder)])), tmp_path / "other")
    assert parts.ids.tobytes() == whole.ids.tobytes()
    assert parts.sha256 == whole.sha256


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_files_are_recognised_by_their_content(kind: str, tmp_path: Path) -> None:
    """One of several members, too, as ``cat a.gz b.gz`` makes it; the name does not matter."""
    compress = COMPRESS[kind]
    (tmp_path / "text").write_bytes(compress(LINES.encode()) + compress(b"and more"))
    told: list[int] = []
    corpus = encode(Collection(collect([str(tmp_path / "text")])), tmp_path / "ids", told.append)
    assert corpus.vocabulary.decode(corpus.ids) == LINES + "and more"
    assert 0 < sum(told) <= 2 * (tmp_path / "text").stat().st_size


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_compressed_file_is_a_one_line_error(
    kind: str, damage: str, tmp_path: Path
) -> None:
    noise = random.Random(1).randbytes(3000).hex().encode()
    content = COMPRESS[kind](noise)
    half = len(content) // 2
    end = b"" if damage == "cut" else bytes(byte ^ 0xFF for byte in content[half:])
    path = tmp_path / "text"
    path.write_bytes(content[:half] + end)
    with pytest.raises(CharlstmError, match=f"{path}: damaged: ") as error:
        encode(Collection(collect([str(path)])), tmp_path / "ids")
    assert "\n" not in str(error.value)


def test_a_text_that_only_begins_like_a_compressed_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("BZh is how a bzip2 file begins")
    assert decoded(Collection(collect([str(tmp_path / "text")])), tmp_path).startswith("BZh is")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with files, hidden files, folders and links."""
    top = tmp_path / "top"
    for name in (
        "b/z.py",
        "b/a.txt",
        "a.py",
        "c.md",
        ".hidden.py",
        ".git/x.py",
        "checkpoints/r/y.py",
    ):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"{name}\n")
    (top / "loop").symlink_to(top)
    (top / "broken.py").symlink_to(top / "nowhere")
    (top / "link.py").symlink_to(top / "a.py")
    os.mkfifo(top / "pipe")
    return top


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), ["a.py", "b/a.txt", "b/z.py", "c.md", "link.py"]),
        (("*.py",), (), ["a.py", "b/z.py", "link.py"]),
        (("*.py", "*.md"), ("l*",), ["a.py", "b/z.py", "c.md"]),
        ((), ("b",), ["a.py", "c.md", "link.py"]),
        ((), ("b/a*",), ["a.py", "b/z.py", "c.md", "link.py"]),
    ],
)
def test_a_folder_means_its_files_sorted_without_hidden_ones(
    include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str], tree: Path
) -> None:
    found = collect([str(tree)], include=include, exclude=exclude)
    assert [str(item.path.relative_to(tree)) for item in found] == expected


def test_a_folder_without_files_is_an_error(tree: Path) -> None:
    with pytest.raises(CharlstmError, match="no files; name a folder with files that `include`"):
        collect([str(tree)], include=["*.c"])


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_patterns_need_a_folder(option: str, tree: Path) -> None:
    file = collect([str(tree)])[0]
    with pytest.raises(CharlstmError, match="no text is a folder") as error:
        collect([file.name], **{option: ["*.c"]})
    assert error.value.option == option


def test_errors_name_the_file_and_the_offset_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("good\n" * 3)
    (tmp_path / "b {x}").write_bytes("fine é\nbad ".encode() + b"\xff!")
    with pytest.raises(CharlstmError) as error:
        encode(Collection(collect([str(tmp_path)])), tmp_path / "ids")
    place = "byte 0xFF at offset 12, line 2, column 5; "
    assert str(error.value).startswith(f"{tmp_path}/b {{x}}: not UTF-8: {place}")
    assert str(error.value).endswith(", or leave it out with `exclude` 'b {x}'")


def test_an_empty_name_is_not_the_working_folder() -> None:
    with pytest.raises(CharlstmError, match="the name of a text is empty"):
        collect([""])


def test_a_missing_file_is_an_error_before_any_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(CharlstmError, match="gone: No such file"):
        collect([str(tmp_path / "a"), str(tmp_path / "gone")])


@pytest.mark.parametrize("name", ["gb18030", "utf-16", "utf-16-le", "latin-1", "sjis", "utf-7"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_other_encodings_are_read(
    name: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", chunk)
    text = "für Bären\n" if name == "latin-1" else "吾輩は猫である\nabc\n"
    for file in ("a", "b"):  # each file begins anew, with a mark of its own
        (tmp_path / file).write_bytes(text.encode(name))
    paths = [str(tmp_path / file) for file in ("a", "b")]
    assert decoded(Collection(collect(paths), "", codec(name)), tmp_path) == text * 2


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("naïve ".encode() * 9 + b"\xff\xff", "gb18030", "not GB18030: byte 0xFF at offset 63"),
        (b"abc\xff\n", "ascii", "not ASCII: byte 0xFF at offset 3, line 1, column 4"),
        ("hello".encode("utf-16-le"), "utf-16", "if it is UTF-16-LE, use `encoding` utf-16-le"),
        (b"half a pair: \\ud83d", "unicode_escape", "has surrogates, which are not characters"),
    ],
)
def test_a_text_of_another_encoding_than_the_given_one_is_refused(
    content: bytes, name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(CharlstmError, match=message):
        encode(Collection(collect([str(tmp_path / "text")]), "", codec(name)), tmp_path / "ids")


@pytest.mark.parametrize("name", ["no-such", "rot13", "hex", "undefined", "", "\0"])
def test_what_is_no_encoding_is_refused(name: str) -> None:
    with pytest.raises(CharlstmError, match="not an encoding that Python knows"):
        codec(name)


def test_an_encoding_is_reused_only_for_the_same_files_order_and_encoding(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        Path(path).write_text(f"from {path[-1]}")
    ids = tmp_path / "ids"
    identity = encode(Collection(collect(paths)), ids).identity()
    assert reuse(Collection(collect(paths)), ids, identity)
    assert reuse(Collection(collect(paths[::-1])), ids, identity) is None
    assert reuse(Collection(collect(paths), "\n"), ids, identity) is None
    assert reuse(Collection(collect(paths), "", codec("latin-1")), ids, identity) is None
    assert reuse(Collection(collect(paths), "", UTF8), ids, identity)
    Path(paths[1]).write_text("from c")
    assert reuse(Collection(collect(paths)), ids, identity) is None


def test_a_pipe_is_spooled_and_its_copy_removed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(
        target=lambda: (tmp_path / "pipe").write_bytes(gzip.compress(b"ab" * 9))
    )
    writer.start()
    (tmp_path / "run").mkdir()
    collection = Collection(collect([str(tmp_path / "pipe")]))
    with collection.spooled(tmp_path / "run") as spooled:
        corpus = encode(spooled, tmp_path / "ids")
        assert reuse(spooled, tmp_path / "ids", corpus.identity())
    writer.join()
    assert corpus.vocabulary.decode(corpus.ids) == "ab" * 9
    assert corpus.mtime_ns == 0
    assert list((tmp_path / "run").iterdir()) == []


def test_a_pipe_that_nothing_writes_to_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PIPE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CharlstmError, match="pipe: a pipe that nothing writes to"):
        collect([str(tmp_path / "pipe")])


def test_a_missing_reader_of_zstd_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_bytes(zstd.compress(b"the text"))
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(CharlstmError) as error:
        encode(Collection(collect([str(tmp_path / "text")])), tmp_path / "ids")
    problem = f"{tmp_path}/text: a zstd file, and its reader is not installed"
    assert str(error.value) == f"{problem}; pip install 'charlstm[zstd]'"
