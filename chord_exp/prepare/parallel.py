"""Chunks read by several processes, their results in the order of the chunks, never many of them in memory."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from chord_exp.errors import RunFailed
from chord_exp.prepare.chunk_reader import ChunkReader, ChunkResult
from chord_exp.prepare.read.chunks import Chunk

_CHUNKS_AHEAD = 2
_PR_SET_PDEATHSIG = 1
# below this a second process costs more than it saves, bytes
_WORTH_A_PROCESS = 8 << 20

_reader: ChunkReader | None = None


def usable_workers(asked: int | None, total_bytes: int) -> int:
    """How many processes read: those asked for, else one a core as far as the data is worth them."""
    if asked is not None:
        return asked
    return max(1, min(len(os.sched_getaffinity(0)), total_bytes // _WORTH_A_PROCESS))


def read_chunks(chunks: Iterable[Chunk], reader: ChunkReader, workers: int) -> Iterator[ChunkResult]:
    """Read chunks; with one worker in this process.

    Args:
        chunks: what to read; taken one by one, as needed.
        reader: how; copied into each process.
        workers: processes.

    Raises:
        RunFailed: a process died.
    """
    if workers == 1:
        with reader:
            yield from map(reader.read, chunks)
        return
    # not fork: the caller may hold threads and locks of its own
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, _start, (reader, os.getpid()))
    pending: deque[Future[ChunkResult]] = deque()
    told = threading.excepthook
    threading.excepthook = _quiet(told)
    try:
        for chunk in chunks:
            pending.append(pool.submit(_read, chunk))
            if len(pending) > workers * _CHUNKS_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise RunFailed(
            "a process that read the data was killed",
            where="prepare",
            fix="most often memory ran out: free some, or use --workers 1",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        threading.excepthook = told


def _quiet(told: Callable[[threading.ExceptHookArgs], object]) -> Callable[[threading.ExceptHookArgs], None]:
    """A hook that keeps quiet about the pool's own thread: it may stumble over a killed process while it cleans up,
    after the futures have been told, and the user is told in one line."""

    def hook(args: threading.ExceptHookArgs) -> None:
        if type(args.thread).__name__ != "_ExecutorManagerThread":
            told(args)

    return hook


def _start(reader: ChunkReader, parent: int) -> None:
    # Ctrl-C reaches every process of the terminal: the parent alone decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # rows hold no cycles: looking for some costs a tenth of the time
    gc.disable()
    # as many processes as cores already; rensa would start threads of its own
    os.environ["RAYON_NUM_THREADS"] = "1"
    global _reader
    _reader = reader
    reader.__enter__()


def _read(chunk: Chunk) -> ChunkResult:
    assert _reader is not None
    return _reader.read(chunk)
