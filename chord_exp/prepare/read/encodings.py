"""Text files as plain UTF-8: decompressed and transcoded where they are not so already, never mangled.

What is neither UTF-8 nor plainly another encoding stays as it is; rows with bytes that do not decode are rejected one
by one (reader.parse_row).
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from chord_exp.prepare.read.files import InputFile

UTF8, GB = "utf-8", "gb18030"
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, UTF8),
)
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
class Plain:
    """A text file to be read as UTF-8.

    Args:
        path: the file itself, or a copy of it.
        start: where its text begins, bytes.
        fault: why the text ends before the file does; "" when it does not.
    """

    path: Path
    start: int = 0
    fault: str = ""


def make_plain(file: InputFile, scratch: Path) -> Plain:
    """The file as UTF-8, in `scratch` when it has to be copied. Memory: one block.

    Raises:
        OSError: it cannot be read, or the copy not written.
    """
    encoding, mark = _encoding(file)
    if encoding == UTF8 and not file.compression:
        return Plain(file.path, mark)
    copy = scratch / f"plain-{len(list(scratch.glob('plain-*')))}"
    fault = ""
    with copy.open("wb") as target:
        decoder = _decoder(encoding) if encoding != UTF8 else None
        try:
            for block in _skipping(_blocks(file), mark):
                target.write(decoder.decode(block).encode("utf-8", "surrogatepass") if decoder else block)
            if decoder:
                target.write(decoder.decode(b"", True).encode("utf-8", "surrogatepass"))
        except _Damaged as error:
            fault = str(error)
        except UnicodeDecodeError as error:
            fault = f"not {encoding}: {error.reason}"
            # the block's text before it, with what the decoder had kept of the one before
            good = _decoder(encoding).decode(error.object[: error.start])
            target.write(good.encode("utf-8", "surrogatepass"))
    return Plain(copy, 0, fault)


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    # half a surrogate pair goes through, so that its own row is refused and not the file
    return codecs.getincrementaldecoder(encoding)("strict" if encoding == GB else "surrogatepass")


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


def _encoding(file: InputFile) -> tuple[str, int]:
    """The encoding of a file by its evidence, and the length of its mark."""
    sample = bytearray()
    try:
        for block in _blocks(file):
            sample += block
            if len(sample) >= _SAMPLE:
                break
    except _Damaged:
        pass
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
    if text is not None and _is_chinese(text) and _all_decodes(file):
        return GB, 0
    return UTF8, 0


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


def _all_decodes(file: InputFile) -> bool:
    decoder = codecs.getincrementaldecoder(GB)()
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
