"""Chunks read by several processes, their results in the order of the chunks, never many of them in memory."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from chord_exp.errors import RunFailed
from chord_exp.prepare.chunk_reader import ChunkReader, ChunkResult
from chord_exp.prepare.read.chunks import Chunk

# results that may wait for an earlier one, for each process
_CHUNKS_AHEAD = 2
_PR_SET_PDEATHSIG = 1
# below this a second process costs more than it saves, bytes
_WORTH_A_PROCESS = 8 << 20


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
    processes: list[BaseProcess] = []
    idle: list[Connection] = []
    try:
        for _ in range(workers):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
            process.start()
            # the only other end is the process's own: it closes when the process dies, at whatever moment
            theirs.close()
            processes.append(process)
            # not as an argument of the process: what is larger than a pipe would wait for one that was killed
            ours.send(reader)
            idle.append(ours)
        yield from _in_order(iter(chunks), idle, workers * _CHUNKS_AHEAD)
    except (EOFError, ConnectionError):
        raise RunFailed(
            "a process that read the data was killed",
            where="prepare",
            fix="most often memory ran out: free some, or use --workers 1",
        ) from None
    finally:
        for started in processes:
            started.kill()
            started.join()


def _in_order(chunks: Iterator[Chunk], idle: list[Connection], ahead: int) -> Iterator[ChunkResult]:
    """
    Raises:
        EOFError, ConnectionError: a process died.
    """
    busy: dict[Connection, int] = {}
    results: dict[int, ChunkResult] = {}
    sent = given = 0
    more = True
    while True:
        while more and idle and sent - given < ahead + len(busy):
            chunk = next(chunks, None)
            if chunk is None:
                more = False
                break
            connection = idle.pop()
            connection.send(chunk)
            busy[connection] = sent
            sent += 1
        if given in results:
            yield results.pop(given)
            given += 1
            continue
        if not busy:
            return
        for connection in cast("list[Connection]", wait(list(busy))):
            result = connection.recv()
            if isinstance(result, BaseException):
                raise result
            results[busy.pop(connection)] = result
            idle.append(connection)


def _serve(connection: Connection, parent: int) -> None:
    """Read chunks until nobody asks any more: the life of a process."""
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
    with suppress(EOFError, ConnectionError), connection.recv() as reader:
        while True:
            chunk = connection.recv()
            try:
                connection.send(reader.read(chunk))
            except Exception as error:
                connection.send(error)
