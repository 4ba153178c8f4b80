"""Standard output and error that never stop the work, even if closed, full or of another encoding."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

__all__ = ["patient_streams"]


class _Patient(io.TextIOWrapper):
    """A stream that drops its output once its reader is gone or its disk is full, instead of raising."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        self._lose()
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()
            return
        self._lose()

    def _lose(self) -> None:
        """Redirect what waits, and all that follows, to the null device."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        super().flush()


@contextmanager
def patient_streams() -> Iterator[None]:
    """Standard output and error that stop no work, for as long as it lasts."""
    _open_all()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _patient(sys.stdout), _patient(sys.stderr)
    try:
        yield
    finally:
        for stream, old in zip((sys.stdout, sys.stderr), before, strict=True):
            if isinstance(stream, _Patient):
                stream.flush()
                stream.detach()
            del old
        sys.stdout, sys.stderr = before


def _open_all() -> None:
    """Open the null device for closed standard descriptors, so that no file of ours takes their numbers."""
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, mode), number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _patient(stream: TextIO) -> TextIO:
    """The same stream, patient; a stream without a byte buffer (a test's) stays as it is."""
    try:
        stream.flush()
        return _Patient(stream.buffer, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)
    except (AttributeError, OSError, ValueError):
        return stream
