"""How every command of this package ends: one line for what is wrong, and the exit codes of errors.py."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from chord_exp.errors import INTERRUPTED, RUN_FAILED, ChordExpError


def run_program(
    name: str, act: Callable[[], int], *, debug: bool = False, hint: str = "HYDRA_FULL_ERROR=1", interrupted: str = ""
) -> int:
    """Run a command to its end; return its exit code: what `act` returns, or the one of the error that it raises.

    Args:
        name: what the line of an error begins with.
        act: the command itself.
        debug: print where an error was raised, as Hydra's variable HYDRA_FULL_ERROR asks for.
        hint: what to type for that.
        interrupted: what to say after Ctrl-C.
    """
    try:
        code = act()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # whoever read the output, `head` say, has enough of it; Python would complain again when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RUN_FAILED
    except KeyboardInterrupt:
        if interrupted:
            print(f"{name}: {interrupted}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug or os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        if isinstance(error, ChordExpError):
            print(f"{name}: {error}", file=sys.stderr)
            return error.exit_code
        text = " ".join(str(error).split())
        print(f"{name}: unexpected {type(error).__name__}: {text} -> {hint} shows where", file=sys.stderr)
        return RUN_FAILED
