"""Ctrl-C where a command has nothing to save: one sentence, and the process ends at once with status 130.

A KeyboardInterrupt can be raised anywhere: in the middle of an import, in a callback that swallows it, among threads of
XLA that the end of the interpreter then pulls the ground from under. So a command, ``python -m seqjax``, ends by itself
wherever it is; while it trains, its loop listens in this place's stead, saves, and then leaves the same way. Nobody
else's process is touched: the signals of a program that imports seqjax are its own.
"""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

STATUS = 130
# What asks a process to leave; a system may lack some.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

who, process = "seqjax", os.getpid()
last: list[Callable[[], None]] = []  # what is done before the end


def listen() -> None:
    """From now on a signal to leave ends the process, unless it was ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # all is done by then


def end(status: int) -> NoReturn:
    """Ends the process; after Ctrl-C without waiting for anything."""
    if status != STATUS:
        sys.exit(status)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, RuntimeError):  # closed, or in the middle of a line
            stream.flush()
    os._exit(status)


def _leave(number: int, frame: Any) -> NoReturn:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if os.getpid() != process:  # one that was forked says nothing of its own
        os._exit(STATUS)
    for each in last:
        with contextlib.suppress(Exception):
            each()
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h")  # the cursor, which a bar hides
        os.write(2, f"{who}: stopped.\n".encode())
    end(STATUS)


if sys.argv[:1] == ["-m"] and sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] == ["seqjax"]:
    listen()  # the rest of the package is about to be imported for a command
