"""Text files as plain UTF-8: decompressed and transcoded where they are not so already, never mangled.

What is neither UTF-8 nor plainly another encoding stays as it is; rows with bytes that do not decode are rejected one
by one (reader.parse_row).
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from chord_exp.prepare.read.files import CSV, TSV, InputFile

UTF8, GB = "utf-8", "gb18030"
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, UTF8),
)
# of compressed files; another first byte is that of plain text
_MAGIC = {".gz": (b"\x1f\x8b",), ".zst": (b"\x28\xb5\x2f\xfd",)}
# what text of one byte a letter is tried as, and how people call it
_NAMES = {"cp1252": "Windows-1252"}
_TOUCHING = re.compile(r"(?<=[A-Za-z])[^\x00-\x7f\ufffd]|[^\x00-\x7f\ufffd](?=[A-Za-z])")
_TOUCHING_SHARE = 0.6
_BLOCK = 1 << 20
# a block of four bytes may stand for 128 KiB: of so many bytes at once come 32 MiB at most
_ZSTD_BLOCK = 1 << 10
_SAMPLE = 4 << 20
_LETTERS_LOOKED_AT = 20_000
# of Chinese text nearly all characters lie in these rows of GB 2312: signs, and the 3,755 common characters; accented
# Latin letters read as GB 18030 give rare ones
_COMMON = (range(0xA1, 0xA4), range(0xB0, 0xD8))
_COMMON_SHARE = 0.8
# the same bytes in EUC-KR are the syllables of Hangul, of which Korean text consists; of Chinese text about half
_HANGUL = range(0xB0, 0xC9)
_KOREAN_SHARE = 0.9


@dataclass(frozen=True)
class DecodedFile:
    """A text file to be read as UTF-8."""

    # the file itself, or a copy of it
    path: Path
    # where its text begins, bytes
    start: int = 0
    # why the text ends before the file does; "" when it does not
    fault: str = ""
    # what a user should hear of how it is read
    notes: tuple[str, ...] = ()


def decode_file(file: InputFile, scratch: Path) -> DecodedFile:
    """Return the file as UTF-8, in `scratch` when it has to be copied. Memory: one block.

    Raises:
        OSError: it cannot be read, or the copy not written.
    """
    notes = []
    if file.compression and not _is_compressed(file):
        notes.append(f"it is not compressed, whatever {file.compression} says")
        file = replace(file, compression="")
    encoding, mark, old_mac, likely = _encoding(file)
    if likely:
        notes.append(f"not UTF-8, most likely {likely}: convert it (iconv -f {likely} -t UTF-8)")
    if encoding not in (UTF8, GB) and not encoding.startswith("utf"):
        notes.append(f"decoded as {_NAMES.get(encoding, encoding)}, which fits best")
    if encoding == UTF8 and not file.compression and not old_mac:
        return DecodedFile(file.path, mark, "", tuple(notes))
    copy = scratch / f"decoded-{len(list(scratch.glob('decoded-*')))}"
    fault = ""

    def written(text: str | bytes) -> bytes:
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        return data.replace(b"\r", b"\n") if old_mac else data

    with copy.open("wb") as target:
        decoder = _decoder(encoding) if encoding != UTF8 else None
        try:
            for block in _skipping(_blocks(file), mark):
                target.write(written(decoder.decode(block) if decoder else block))
            if decoder:
                target.write(written(decoder.decode(b"", True)))
        except _Damaged as error:
            fault = str(error)
        except UnicodeDecodeError as error:
            fault = f"not {encoding}: {error.reason}"
            # the block's text before it, with what the decoder had kept of the one before
            target.write(written(_decoder(encoding).decode(error.object[: error.start])))
    return DecodedFile(copy, 0, fault, tuple(notes))


def _is_compressed(file: InputFile) -> bool:
    with file.path.open("rb") as raw:
        head = raw.read(4)
    # an empty file is neither; a skippable frame may come first in zstd
    magics = _MAGIC[file.compression]
    return not head or any(head.startswith(magic) for magic in magics) or head[1:] == b"\x2a\x4d\x18"


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    # half a surrogate pair goes through, so that its own row is refused and not the file
    return codecs.getincrementaldecoder(encoding)("surrogatepass" if encoding.startswith("utf") else "strict")


class _Damaged(Exception):
    """A compressed file that is cut off or broken."""


def _blocks(file: InputFile) -> Iterator[bytes]:
    """The file's bytes, decompressed."""
    with file.path.open("rb") as raw:
        try:
            yield from _decompressed(raw, file.compression)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _Damaged(f"{file.compression}: {error}") from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "zstandard":
                raise
            raise _Damaged(f"{file.compression}: {error}") from None


def _decompressed(raw: BinaryIO, compression: str) -> Iterator[bytes]:
    if compression == ".gz":
        stream = gzip.GzipFile(fileobj=raw)
        # read() would lose what it had of a block when the file breaks off inside it
        while block := stream.read1(_BLOCK):
            yield block
    elif compression == ".zst":
        yield from _unzstd(raw)
    else:
        while block := raw.read(_BLOCK):
            yield block


def _unzstd(raw: BinaryIO) -> Iterator[bytes]:
    import zstandard

    # its stream reader takes a file that is cut off for a whole one
    frame, fed = zstandard.ZstdDecompressor().decompressobj(), False
    block = raw.read(_ZSTD_BLOCK)
    while block:
        if frame.eof:
            frame = zstandard.ZstdDecompressor().decompressobj()
        fed = True
        yield frame.decompress(block)
        block = (frame.unused_data if frame.eof else b"") or raw.read(_ZSTD_BLOCK)
    if fed and not frame.eof:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")


def _skipping(blocks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[count:]
        count = max(0, count - len(block))


def _encoding(file: InputFile) -> tuple[str, int, bool, str]:
    """The encoding of a file by evidence, the length of its mark, whether a table has the line ends of old Macs;
    and what it most likely is, where it is not UTF-8 and cannot be read as anything else."""
    sample = bytearray()
    try:
        for block in _blocks(file):
            sample += block
            if len(sample) >= _SAMPLE:
                break
    except _Damaged:
        pass
    encoding, mark = _encoding_of(sample, file)
    old_mac = file.kind in (CSV, TSV) and b"\r" in sample and b"\n" not in sample
    return encoding, mark, old_mac, _likely(bytes(sample)) if encoding == UTF8 else ""


def _encoding_of(sample: bytearray, file: InputFile) -> tuple[str, int]:
    for mark, encoding in _BOMS:
        if sample.startswith(mark):
            return encoding, len(mark)
    unmarked = _unmarked_wide(sample)
    if unmarked:
        return unmarked, 0
    # the sample may end inside a character
    if _decodes([bytes(sample)], UTF8) is not None:
        return UTF8, 0
    text = _decodes([bytes(sample)], GB)
    if text is not None and _is_chinese(text) and _all_decodes(file, GB):
        return GB, 0
    if _looks_western(bytes(sample)) and _all_decodes(file, "cp1252"):
        return "cp1252", 0
    return UTF8, 0


def _looks_western(sample: bytes) -> bool:
    """Whether a text that is not UTF-8 is one of one byte a letter in a Western European language.

    A file with some damaged bytes is none: no character of UTF-8 may stand in it, and what there is beside ASCII must
    mostly touch letters, as accents and quotation marks do.
    """
    from charset_normalizer import from_bytes

    if not sample.decode("utf-8", "ignore").isascii():
        return False
    text = sample.decode("cp1252", "replace")
    beside = len(text) - len(text.encode("ascii", "ignore"))
    touching = len(_TOUCHING.findall(text))
    best = from_bytes(sample[:_LETTERS_LOOKED_AT], cp_isolation=["cp1252"]).best()
    return best is not None and beside > 2 and touching >= _TOUCHING_SHARE * beside


def _likely(sample: bytes) -> str:
    """The name of another encoding that a text most likely has; "" where UTF-8 fits or only some bytes are damaged."""
    from charset_normalizer import from_bytes

    if _decodes([sample], UTF8) is not None or not sample.decode("utf-8", "ignore").isascii():
        return ""
    best = from_bytes(sample[:_LETTERS_LOOKED_AT]).best()
    return best.encoding if best is not None and best.encoding not in ("ascii", "utf_8") else ""


def _unmarked_wide(sample: bytearray) -> str:
    """UTF-16 or UTF-32 without a mark, which shows by where the zeros of its first characters lie; else ""."""
    # of two characters in UTF-16: one zero alone is a damaged byte of a file that is otherwise good
    return _ZEROS.get(tuple(byte == 0 for byte in sample[:4]), "")


_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def _decodes(blocks: list[bytes], encoding: str) -> str | None:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        return "".join(map(decoder.decode, blocks))
    except UnicodeDecodeError:
        return None


def _all_decodes(file: InputFile, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in _blocks(file):
            decoder.decode(block)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    except _Damaged:
        pass
    return True


def _is_chinese(text: str) -> bool:
    letters = [letter for letter in text if not letter.isascii()][:_LETTERS_LOOKED_AT]
    leads = [letter.encode(GB)[0] for letter in letters]
    common = sum(any(lead in rows for rows in _COMMON) for lead in leads)
    korean = sum(lead in _HANGUL for lead in leads)
    return bool(leads) and common >= _COMMON_SHARE * len(leads) and korean < _KOREAN_SHARE * len(leads)
