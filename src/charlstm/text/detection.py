"""What bytes are that are no UTF-8, and how to make a text of them. Knows no file."""

import codecs
import shlex
import unicodedata

MARKS = (  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
FORMATS = {  # how a file begins: what it is, and what makes a text of it
    b"\x1f\x8b": ("a gzip file", "gunzip -c {} > text.txt"),
    b"PK\x03\x04": ("a zip archive", "unzip -p {} > text.txt"),
    b"BZh": ("a bzip2 file", "bunzip2 -c {} > text.txt"),
    b"\xfd7zXZ\0": ("an xz file", "xz -dc {} > text.txt"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "zstd -dc {} > text.txt"),
    b"%PDF-": ("a PDF file", "pdftotext {} text.txt"),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", ""),
    b"\x89PNG": ("a picture", ""),
    b"\x7fELF": ("a program", ""),
}
FEW = 0.2  # of the bytes beyond ASCII: errors in a text that is UTF-8 but for them
FEWEST = 16  # bytes beyond ASCII that an encoding can be told from
CODE_PAGES = {  # what texts still are in, by Python's name: what iconv calls it
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
SAMPLE = 65536  # bytes that are looked at
CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\f\r\x1b")
MANY, NEARLY_ALL = 0.2, 0.9  # of half of the bytes, of all control characters
READABLE = 0.95  # of the characters that bytes stand for in the encoding that they have


def wide_encoding(head: bytes) -> str:
    """Return the encoding of bytes that are UTF-16 or UTF-32 without a mark; empty if they are not.

    Such bytes can be valid UTF-8, full of control characters: half of each letter.
    """
    head = head[:SAMPLE]
    if any(head.startswith(start) for start in FORMATS) or not _has_empty_halves(head):
        return ""
    texts = {name: _decoded(head, name) for name in WIDE}
    readable = [name for name, text in texts.items() if text and _is_readable(text)]
    # Read in the wrong order, bytes are letters as well, but of scripts from everywhere.
    return min(
        readable, key=lambda n: ("16" in n, len({ord(c) >> 8 for c in texts[n]})), default=""
    )


def advice(head: bytes, around: tuple[bytes, bytes], name: str, *, ends: bool) -> str:
    """Say what a text that is not UTF-8 probably is, and what to type to make it UTF-8.

    ``head`` is how it begins, ``around`` what is before the bad byte, and it with what is behind.
    ``ends``: it ends within a character.
    """
    good, rest = around[0][-SAMPLE:], around[1][:SAMPLE]
    quoted = shlex.quote(name)
    for start, (what, command) in FORMATS.items():
        if head.startswith(start):
            return f"it is {what}" + (f": {command.format(quoted)}" if command else "")
    encoding = next((n for mark, n in MARKS if head.startswith(mark)), "") or wide_encoding(head)
    if not encoding and not good.isascii() and _is_mostly_utf8(good + rest):
        drop = f"iconv -c -f UTF-8 -t UTF-8 {quoted} > utf8.txt"
        return f"all before it is UTF-8: mend that place, or leave out such bytes with: {drop}"
    encoding = encoding or _code_page(rest)
    cut = "it ends in the middle of a character; if it is not cut short but"
    unless = cut if ends else "if it is"
    return f"{unless} {encoding}, convert it with: {iconv(encoding, name)}"


def iconv(encoding: str, name: str) -> str:
    """Return what to type to make a text UTF-8."""
    return f"iconv -f {encoding} -t UTF-8 {shlex.quote(name)} > utf8.txt"


def _has_empty_halves(head: bytes) -> bool:
    """Tell whether control characters are many, and nearly all at odd or at even places.

    Or a byte of each four is a NUL, as in UTF-32.
    """
    if any(
        quarter.count(0) >= NEARLY_ALL * len(quarter) > 0 for quarter in (head[::4], head[3::4])
    ):
        return True
    counts = [sum(byte in CONTROLS for byte in half) for half in (head[::2], head[1::2])]
    return max(counts) >= MANY * len(head) / 2 and max(counts) >= NEARLY_ALL * sum(counts)


def _decoded(head: bytes, encoding: str) -> str:
    """Return what bytes are in an encoding; empty if they are not."""
    width = 4 if "32" in encoding else 2
    try:
        return head[: len(head) // width * width].decode(encoding)
    except UnicodeDecodeError:
        return ""


def _is_readable(text: str) -> bool:
    """Tell whether nearly all characters of a text are visible ones or blanks."""
    good = sum(c in "\t\n\r" or unicodedata.category(c)[0] in "LMNPSZ" for c in text)
    return good >= READABLE * len(text)


def _is_mostly_utf8(content: bytes) -> bool:
    """Tell whether few of the bytes beyond ASCII are not UTF-8."""
    beyond = len(content) - len(content.decode("ascii", "ignore"))
    return content.decode("utf-8", "replace").count("\ufffd") <= FEW * beyond


def _code_page(sample: bytes) -> str:
    """Return the likeliest of the encodings that have a byte, or two, a character."""
    import logging

    from charset_normalizer import from_bytes

    likeliest = "cp1252"
    if sum(byte > 0x7F for byte in sample) >= FEWEST:  # noqa: PLR2004 - beyond ASCII
        logging.getLogger("charset_normalizer").setLevel(logging.ERROR)
        guesses = from_bytes(sample, cp_isolation=list(CODE_PAGES))
        best = guesses.best()
        # Of two that are as good, or give the same text, the commoner one.
        equal = [g.encoding for g in guesses if best and g.coherence >= best.coherence]
        same = best and sample.decode(likeliest, "replace") == str(best)
        if best and not same and likeliest not in equal:
            likeliest = best.encoding
    return CODE_PAGES.get(likeliest, CODE_PAGES["cp1252"])
