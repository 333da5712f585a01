import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from charlstm.errors import CharlstmError
from charlstm.text import source
from charlstm.text.encoding import Corpus, encode, oddities, only_in, split
from charlstm.text.opening import open_once
from charlstm.text.reading import Reading
from charlstm.text.reuse import reuse
from charlstm.text.source import Text
from charlstm.text.vocabulary import Vocabulary

MIXED = (
    "\ufeffnaïve\r\n学而时习之\r\n👩\u200d🚀 e\u0301 plain ascii, long enough to fill a chunk\n" * 3
)


def encode_bytes(content: bytes, folder: Path) -> Corpus:
    return encode(Text("text", io.BytesIO(content)), folder / "ids")


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 64, 1 << 20])
def test_ids_do_not_depend_on_chunk_boundaries(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", chunk)
    found = encode_bytes(MIXED.encode(), tmp_path)
    expected = MIXED.removeprefix("\ufeff")
    assert found.vocabulary.decode(found.ids) == expected
    assert found.vocabulary.characters == "".join(sorted(set(expected)))
    assert found.counts == tuple(expected.count(c) for c in found.vocabulary.characters)


def test_only_a_leading_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    found = encode_bytes("\ufeffa\ufeffb".encode(), tmp_path)
    assert found.vocabulary.decode(found.ids) == "a\ufeffb"


@pytest.mark.parametrize("chunk", [1, 4, 1 << 20])
@pytest.mark.parametrize("start", ["", "abc", "学而", "aé" * 10])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe5\xad", b"\xc0\x80", b"\xed\xa0\x80"])
def test_invalid_utf8_is_refused_with_its_offset_and_place(
    chunk: int, start: str, bad: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", chunk)
    for end in (b"", b" and more"):
        for line, before in enumerate(("", "é\r\n", "\n\n"), 1):
            offset = len((before + start).encode())
            place = f"offset {offset}, line {line}, column {len(start) + 1};"
            with pytest.raises(CharlstmError, match=place):
                encode_bytes((before + start).encode() + bad + end, tmp_path)


@pytest.mark.parametrize("chunk", [1, 4, 1 << 20])
def test_the_error_says_if_a_text_ends_in_the_middle_of_a_character(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", chunk)
    place = "offset 3, line 1, column 2; "
    with pytest.raises(CharlstmError, match=f"{place}it ends in the middle of a character;"):
        encode_bytes("学而".encode()[:5], tmp_path)
    with pytest.raises(CharlstmError) as error:
        encode_bytes(b"caf\xe9s", tmp_path)
    assert "it ends" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_unicode_encodings_are_recognised(encoding: str, tmp_path: Path) -> None:
    with pytest.raises(CharlstmError, match=f"it is {encoding.upper()}: use `enc.*{encoding}$"):
        encode_bytes("hello".encode(encoding), tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("line", ["an ordinary line\n", "Москва и дожди\n", "über naïve Bären\n"])
def test_utf_16_and_utf_32_without_a_mark_are_recognised(
    encoding: str, line: str, tmp_path: Path
) -> None:
    """Many such texts are valid UTF-8, full of control characters."""
    with pytest.raises(CharlstmError, match=f"but {encoding.upper()} .*`encoding` {encoding}$"):
        encode_bytes((line * 50).encode(encoding), tmp_path)


@pytest.mark.parametrize("line", ["a\x1b[1mb\x1b[0m\n", "\x02abcdefghijkl\x03", "\0text of C\0\0"])
def test_control_characters_are_not_mistaken_for_another_encoding(
    line: str, tmp_path: Path
) -> None:
    assert encode_bytes((line * 50).encode(), tmp_path).counts


@pytest.mark.parametrize(
    ("encoding", "line", "name"),
    [
        ("latin-1", "Das ist ein schöner Tag für große Bären\n", "WINDOWS-1252"),
        ("latin-1", "L'été dernier, nous étions à la plage\n", "WINDOWS-1252"),
        ("cp1251", "Москва и дожди, снова идут по крышам города\n", "WINDOWS-1251"),
        ("koi8-r", "Москва и дожди, снова идут по крышам города\n", "KOI8-R"),
        ("gb18030", "学而时习之不亦说乎有朋自远方来\n", "GB18030"),
        ("shift_jis", "吾輩は猫である。名前はまだ無い。どこで生れたか\n", "SHIFT_JIS"),
    ],
)
def test_the_suggested_encoding_reads_the_text(
    encoding: str, line: str, name: str, tmp_path: Path
) -> None:
    """Even if the text starts with plain ASCII, which gives no hint."""
    content = "an ordinary line\n" * 9 + line * 30
    path = tmp_path / "my text"
    path.write_bytes(content.encode(encoding))
    with pytest.raises(CharlstmError, match=f"if it is {name}, use `encoding` ") as error:
        encode(open_once(str(path)), tmp_path / "ids")
    suggested = str(error.value).partition("use `encoding` ")[2]
    found = encode(open_once(str(path), suggested), tmp_path / "ids")
    assert found.vocabulary.decode(found.ids) == content


def test_in_a_text_that_is_mostly_utf8_the_advice_is_to_fix_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("學而時習之\nnaïve\n".encode() + b"caf\xe9 and on\n")
    with pytest.raises(
        CharlstmError, match="line 3, column 4; the text before it is UTF-8"
    ) as error:
        encode(open_once(str(path)), tmp_path / "ids")
    command = str(error.value).partition("invalid bytes with: ")[2]
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False)
    assert (tmp_path / "utf8.txt").read_text("utf-8") == "學而時習之\nnaïve\ncaf and on\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04\xff", "a zip archive: unzip -p {} > text.txt"),
        (b"%PDF-1.7\n\xff\xff", "a PDF file: pdftotext {} text.txt"),
        (b"\x89HDF\r\n\x1a\n\xff", "an HDF5 file"),
    ],
)
def test_the_error_names_the_format_of_other_files(
    content: bytes, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CharlstmError) as error:
        encode(open_once(str(path)), tmp_path / "ids")
    assert str(error.value).endswith(f"; it is {what.format(path)}")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"aaaa"])
def test_a_text_with_fewer_than_two_distinct_characters_is_refused(
    content: bytes, tmp_path: Path
) -> None:
    with pytest.raises(CharlstmError, match="nothing to learn"):
        encode_bytes(content, tmp_path)


class Changing(io.BytesIO):
    """A text that another process changes between the two passes."""

    readings = 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.readings += 1
        if self.readings == 2:
            self.getbuffer()[:2] = b"ba"
        return super().seek(offset, whence)


def test_a_text_that_changes_between_the_two_passes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CharlstmError, match="changed while it was being read"):
        encode(Text("text", Changing(b"ab" * 100)), tmp_path / "ids")


@pytest.mark.parametrize("size", [100, 300])
def test_a_text_that_shrinks_or_grows_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"ab" * 100)
    opened = open_once(str(path))

    class Cutting(io.FileIO):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            os.truncate(path, size)
            return super().seek(offset, whence)

    with pytest.raises(CharlstmError, match="changed while it was being read"):
        encode(Text("text", Cutting(opened.stream.fileno(), closefd=False)), tmp_path / "ids")


def test_the_split_matches_published_numbers() -> None:
    training, validation = split(np.zeros(1_115_394, np.uint8), 0.1, needed=2)
    assert (len(training), len(validation)) == (1_003_854, 111_540)


@pytest.mark.parametrize("validation", [0.0, 0.1, 0.29, 0.5, 0.999])
def test_the_text_length_that_the_error_asks_for_is_just_enough(validation: float) -> None:
    with pytest.raises(CharlstmError) as error:
        split(np.zeros(20, np.uint8), validation, needed=21)
    asked = int(str(error.value).split("must have ")[1].split(";")[0].replace(",", ""))
    assert len(split(np.zeros(asked, np.uint8), validation, needed=21)[0]) == 21
    with pytest.raises(CharlstmError):
        split(np.zeros(asked - 1, np.uint8), validation, needed=21)


def test_only_in_returns_the_characters_that_no_other_part_has(tmp_path: Path) -> None:
    found = encode_bytes(b"abcabcabcxaybx", tmp_path)
    assert only_in(found.ids[9:], found) == "xy"


@pytest.fixture
def encoded(tmp_path: Path) -> tuple[Path, Path, Corpus]:
    """Return a text, its id file and its corpus."""
    path = tmp_path / "text"
    path.write_bytes(b"hello, hello")
    return path, tmp_path / "ids", encode(open_once(str(path)), tmp_path / "ids")


def test_an_encoding_is_reused_until_the_text_changes(
    encoded: tuple[Path, Path, Corpus],
) -> None:
    path, ids_path, corpus = encoded
    identity = json.loads(json.dumps(corpus.identity()))
    again = reuse(open_once(str(path)), ids_path, identity)
    assert again
    assert again.identity() == identity
    assert again.vocabulary.decode(again.ids) == "hello, hello"
    os.utime(path, ns=(1, 1))  # only touched: the SHA-256 is the same
    again = reuse(open_once(str(path)), ids_path, identity)
    assert again
    assert again.mtime_ns == 1
    path.write_bytes(b"hello, hellO")
    assert reuse(open_once(str(path)), ids_path, identity) is None


def test_a_text_in_memory_is_compared_by_content(encoded: tuple[Path, Path, Corpus]) -> None:
    _, ids_path, corpus = encoded
    identity = corpus.identity() | {"mtime_ns": 0}
    assert reuse(Text("text", io.BytesIO(b"hello, hello")), ids_path, identity)
    assert reuse(Text("text", io.BytesIO(b"hello, hellO")), ids_path, identity) is None


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": "oleh, "},
        {"vocabulary": ""},
        {"counts": [1]},
        {"counts": "some"},
        {"size": "12"},
        {"sha256": None},
    ],
)
def test_an_identity_that_does_not_match_is_not_reused(
    change: dict[str, object], encoded: tuple[Path, Path, Corpus]
) -> None:
    path, ids_path, corpus = encoded
    os.utime(path, ns=(1, 1))
    identities: list[object] = [None, [], "text", corpus.identity() | change]
    for garbage in identities:
        assert reuse(open_once(str(path)), ids_path, garbage) is None


@pytest.mark.parametrize("content", [b"", b"\0" * 12, b"\xff" * 12, b"\0" * 11])
def test_a_damaged_id_file_is_not_reused(
    content: bytes, encoded: tuple[Path, Path, Corpus]
) -> None:
    path, ids_path, corpus = encoded
    ids_path.write_bytes(content)
    assert reuse(open_once(str(path)), ids_path, corpus.identity()) is None
    ids_path.unlink()
    assert reuse(open_once(str(path)), ids_path, corpus.identity()) is None


def test_progress_counts_both_passes(tmp_path: Path) -> None:
    told: list[int] = []
    encode(Text("text", io.BytesIO(MIXED.encode())), tmp_path / "ids", told.append)
    assert sum(told) == 2 * len(MIXED.encode())


MEASURE = """
import sys, threading, time
from pathlib import Path
from charlstm.text.encoding import encode as encoded
from charlstm.text.opening import open_once as opened
peak = 0
def watch():
    global peak
    while True:
        status = Path("/proc/self/status").read_text()
        peak = max(peak, int(status.split("RssAnon:")[1].split()[0]))
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
encoded(opened(sys.argv[1]), Path(sys.argv[1] + ".ids"))
print(peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc of Linux")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    peaks = []
    for repeats in (20_000, 600_000):  # 2 MB and 60 MB
        path = tmp_path / str(repeats)
        path.write_text(
            "an ordinary line\n学而时习之,不亦说乎?有朋自远方来,不亦乐乎?\n" * repeats, "utf-8"
        )
        measured = subprocess.run(
            [sys.executable, "-c", MEASURE, path], capture_output=True, check=True, text=True
        )
        peaks.append(int(measured.stdout))
    assert peaks[1] - peaks[0] < 10_000  # KiB


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_each_unknown_character_is_named_once_with_its_first_position(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", chunk)
    reading = Reading(Text("some", io.BytesIO("axébéx\u0301a\nx".encode())), Vocabulary("abc"))
    ids = np.concatenate([*reading.ids()])
    assert list(ids) == [0, 1, 0]
    named = (
        "outside the vocabulary: 'x' (U+0078) at character 2, 'é' (U+00E9) at character 3, "
        "COMBINING ACUTE ACCENT (U+0301) at character 7, '\\n' (U+000A) at character 9"
    )
    assert reading.note_or_error("skip") == f"some: skipped 7 characters {named}"
    with pytest.raises(CharlstmError) as error:
        reading.note_or_error("error")
    assert str(error.value) == f"some: has characters {named}; remove them, or use `unknown` skip"


def test_a_single_skipped_character_is_in_the_singular() -> None:
    reading = Reading(Text("some", io.BytesIO(b"abx")), Vocabulary("ab"))
    assert [*map(list, reading.ids())] == [[0, 1]]
    assert reading.note_or_error("skip").startswith(
        "some: skipped 1 character outside the vocabulary: "
    )


def test_a_text_without_unknown_characters_gives_no_note() -> None:
    reading = Reading(Text("some", io.BytesIO(b"abba")), Vocabulary("ab"))
    assert [list(piece) for piece in reading.ids()] == [[0, 1, 1, 0]]
    assert reading.note_or_error("error") == reading.note_or_error("skip") == ""
    assert reading.skipped == 0


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("the cell\r" * 60, "its lines end in CR alone"),
        ("the cell\r\n" * 60 + "\n", "it mixes CRLF and LF line endings"),
        ("the cell\n" * 60 + "\ufeff", "1 byte order marks (U+FEFF) are inside it"),
        ("the \x01cells\n" * 60, "9.1% of its characters are control characters"),
        ("the cell\r\n" * 60 + "\t\f\x1b", ""),
    ],
)
def test_the_command_in_a_note_removes_what_it_is_about(
    text: str, note: str, tmp_path: Path
) -> None:
    notes = oddities(encode_bytes(text.encode(), tmp_path))
    assert len(notes) == bool(note)
    for shown in notes:
        assert note in shown
        match = re.search(r"((tr|sed) .*) (removes|converts|makes) ", f"{shown} ")
        assert match
        command = ["bash", "-c", match[1]]
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
        assert oddities(encode_bytes(done.stdout, tmp_path)) == []
