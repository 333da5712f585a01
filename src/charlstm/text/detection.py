"""Guess the format of bytes that are not in the expected encoding. Opens no files."""

import codecs
import shlex
import unicodedata

from charlstm.errors import literal

MARKS = (  # longest first: the UTF-32 mark begins with the UTF-16 mark
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
FORMATS = {  # first bytes of a file -> its format, and the command that extracts its text
    b"PK\x03\x04": ("a zip archive", "unzip -p {} > text.txt"),
    b"%PDF-": ("a PDF file", "pdftotext {} text.txt"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", ""),
    b"\x89PNG": ("an image", ""),
    b"\x7fELF": ("an executable", ""),
}
FEW = 0.2  # share of errors among non-ASCII bytes up to which a text counts as UTF-8
FEWEST = 16  # non-ASCII bytes needed to guess an encoding
CODE_PAGES = {  # encodings that are still in use: Python's name -> its usual name
    "cp1252": "WINDOWS-1252",
    "cp1250": "WINDOWS-1250",
    "cp1251": "WINDOWS-1251",
    "cp1253": "WINDOWS-1253",
    "cp1254": "WINDOWS-1254",
    "koi8_r": "KOI8-R",
    "gb18030": "GB18030",
    "big5": "BIG5",
    "shift_jis": "SHIFT_JIS",
    "euc_jp": "EUC-JP",
    "euc_kr": "EUC-KR",
}
WIDE = ("UTF-32-LE", "UTF-32-BE", "UTF-16-LE", "UTF-16-BE")
SAMPLE = 65536  # bytes that are examined if a text is not valid
START = 4096  # bytes of every text that are examined
GUESSED_FROM = 2**20  # bytes from which a code page is guessed
CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
MANY = 0.2  # smallest share of control characters among the bytes at even (or odd) offsets
# Smallest share of these in all control characters; in UTF-32, of NULs among every fourth byte.
NEARLY_ALL = 0.9
READABLE = 0.95  # share of readable characters in a text that is decoded correctly


def wide_encoding(head: bytes) -> str:
    """Detect UTF-16 or UTF-32 without a byte order mark; return its name, or an empty string.

    Such bytes can be valid UTF-8, in which half of each letter is a control character.
    """
    head = head[:SAMPLE]
    if len(head.translate(None, CONTROLS)) == len(head) or not _alternates_with_controls(head):
        return ""
    if any(head.startswith(start) for start in (*FORMATS, *(mark for mark, _ in MARKS))):
        return ""
    texts = {name: _decoded(head, name) for name in WIDE}
    readable = [name for name, text in texts.items() if text and _is_readable(text)]
    # In the wrong byte order the text decodes to letters as well, but from many scripts.
    return min(
        readable, key=lambda n: ("16" in n, len({ord(c) >> 8 for c in texts[n]})), default=""
    )


def advice(head: bytes, around: tuple[bytes, bytes], name: str, used: str, *, ends: bool) -> str:
    """Say what a file that is not in the encoding ``used`` probably is, and how to read it.

    ``head`` is the start of the file; ``around`` the bytes before the first invalid byte, and the
    bytes from there on. ``ends`` is whether the file ends in the middle of a character. The advice
    refers to an option by its name in braces.
    """
    good, rest = around[0][-SAMPLE:], around[1][:GUESSED_FROM]
    quoted = literal(shlex.quote(name))
    for start, (what, command) in FORMATS.items():
        if head.startswith(start):
            return f"it is {what}" + (f": {command.format(quoted)}" if command else "")
    wide = next((n for mark, n in MARKS if head.startswith(mark)), "") or wide_encoding(head)
    if used != "UTF-8":
        likely = wide or ("UTF-8" if _is_mostly_utf8(head) else "")
        return f"if it is {likely}, use {{encoding}} {likely.lower()}" if likely else ""
    if wide:
        return f"it is {wide}: use {{encoding}} {wide.lower()}"
    if not good.isascii() and _is_mostly_utf8(good + rest[:SAMPLE]):
        drop = f"iconv -c -f UTF-8 -t UTF-8 {quoted} > utf8.txt"
        return f"the text before it is UTF-8: fix that byte, or drop invalid bytes with: {drop}"
    cut = "it ends in the middle of a character; if it is not truncated but"
    encoding = _code_page(rest)
    return f"{cut if ends else 'if it is'} {CODE_PAGES[encoding]}, use {{encoding}} {encoding}"


def shown_encoding(encoding: str) -> str:
    """Return the name of an encoding as messages write it."""
    return encoding.upper().replace("_", "-")


def _alternates_with_controls(head: bytes) -> bool:
    """Return whether there are many control characters, nearly all at odd or at even offsets.

    Also True if one byte of every four is NUL, as in UTF-32.
    """
    if any(
        quarter.count(0) >= NEARLY_ALL * len(quarter) > 0 for quarter in (head[::4], head[3::4])
    ):
        return True
    halves = (head[::2], head[1::2])
    counts = [len(half) - len(half.translate(None, CONTROLS)) for half in halves]
    return max(counts) >= MANY * len(head) / 2 and max(counts) >= NEARLY_ALL * sum(counts)


def _decoded(head: bytes, encoding: str) -> str:
    """Return bytes decoded from an encoding; empty if they are not valid in it."""
    width = 4 if "32" in encoding else 2
    try:
        return head[: len(head) // width * width].decode(encoding)
    except UnicodeDecodeError:
        return ""


def _is_readable(text: str) -> bool:
    """Return whether nearly all characters of a text are printable or whitespace."""
    good = sum(c in "\t\n\r" or unicodedata.category(c)[0] in "LMNPSZ" for c in text)
    return good >= READABLE * len(text)


def _is_mostly_utf8(content: bytes) -> bool:
    """Return whether few of the non-ASCII bytes are invalid UTF-8."""
    beyond = len(content) - len(content.decode("ascii", "ignore"))
    return content.decode("utf-8", "replace").count("\ufffd") <= FEW * beyond


def _code_page(sample: bytes) -> str:
    """Return the most likely one-byte or multibyte encoding, by Python's name."""
    import logging

    from charset_normalizer import from_bytes

    likeliest = "cp1252"
    if sum(byte > 0x7F for byte in sample) >= FEWEST:  # noqa: PLR2004 - not ASCII
        logging.getLogger("charset_normalizer").setLevel(logging.ERROR)
        guesses = from_bytes(sample, cp_isolation=list(CODE_PAGES))
        best = guesses.best()
        # If windows-1252 scores as well, or gives the same text, prefer it: it is more common.
        equal = [g.encoding for g in guesses if best and g.coherence >= best.coherence]
        same = best and sample.decode(likeliest, "replace") == str(best)
        if best and not same and likeliest not in equal and best.encoding in CODE_PAGES:
            likeliest = best.encoding
    return likeliest
