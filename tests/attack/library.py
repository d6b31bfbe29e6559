"""The preloaded library: built by the C compiler of this machine, spoken to through ctypes."""

import ctypes
import mmap
import subprocess
from errno import EIO, ENOLCK, ENOSPC, EROFS
from pathlib import Path

SOURCE = Path(__file__).with_name("calls.c")
ERRORS = {"EIO": EIO, "ENOSPC": ENOSPC, "EROFS": EROFS, "ENOLCK": ENOLCK}
ALL = "any"  # changing call


def build(folder):
    """The library as a file in ``folder``."""
    target = Path(folder) / "calls.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", target, SOURCE, "-ldl"], check=True)
    return target


class Library:
    """Kinds, modes and counts of the library that this process was started with."""

    def __init__(self):
        self._own = ctypes.CDLL(None)
        self.kinds = _words(self._own, "attack_kinds")
        self.changing = self.kinds[: self.kinds.index("openr")]
        self._modes = _words(self._own, "attack_modes")
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)
        self._tally = (ctypes.c_long * (len(self.kinds) + 2)).from_buffer(self._shared)

    def clear(self):
        """Counts from nothing; in the parent, before a child is forked."""
        for i in range(len(self._tally)):
            self._tally[i] = 0

    def arm(self, fault, folder):
        """From now on in this process, for what lies below ``folder``."""
        mode, kind = self._modes.index(fault.mode), -1 if fault.kind == ALL else self.kinds.index(fault.kind)
        self._own.attack_arm(
            ctypes.c_int(mode),
            ctypes.c_int(kind),
            ctypes.c_long(fault.n),
            ctypes.c_int(ERRORS.get(fault.error, 0)),
            ctypes.c_char_p(str(folder).encode()),
            ctypes.byref(self._tally),
        )

    @property
    def counts(self):
        """Calls by kind."""
        return dict(zip(self.kinds, self._tally, strict=False))

    @property
    def fired(self):
        """Whether the fault came about."""
        return self._tally[len(self.kinds) + 1] > 0


def _words(library, name):
    start = ctypes.addressof(ctypes.c_char.in_dll(library, name))
    return ctypes.string_at(start).decode().split()
