"""Calls that the library does not see: those made past the C library, or by it from within.

`strace -f -y` of a plain run names the file of every descriptor and path. Counted are the calls of the child
whose path, or whose first descriptor, lies below the folder of the attempt, failed ones too, as the library
does. They must be as many of each kind; and what the library has no kind for (a mapping to write to, copying
within the kernel, io_uring) must be absent. `strace -c` counts without names: there, what Python and torch do
elsewhere is counted as well.
"""

import re
from collections import Counter

KINDS = {
    "write": "write",
    "pwrite64": "pwrite",
    "writev": "writev",
    "pwritev": "writev",
    "fsync": "fsync",
    "fdatasync": "fdatasync",
    "rename": "rename",
    "renameat": "rename",
    "renameat2": "rename",
    "truncate": "truncate",
    "ftruncate": "truncate",
    "open": "open",
    "openat": "open",
    "creat": "open",
    "mkdir": "mkdir",
    "mkdirat": "mkdir",
    "link": "link",
    "linkat": "link",
    "symlink": "symlink",
    "symlinkat": "symlink",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "rmdir": "rmdir",
    "chmod": "chmod",
    "fchmod": "chmod",
    "fchmodat": "chmod",
    "close": "close",
    "flock": "flock",
    "fcntl": "lock",
    "read": "read",
    "pread64": "read",
    "readv": "read",
}
ABSENT = (
    *("openat2", "pwritev2", "preadv", "preadv2", "mknod", "mknodat", "fallocate", "copy_file_range"),
    *("sendfile", "splice", "vmsplice", "utimensat", "chown", "fchown", "fchownat", "setxattr", "fsetxattr"),
    *("sync_file_range", "io_uring_setup", "mmap"),
)
TRACE = ",".join((*KINDS, *ABSENT))
CALL = re.compile(r"(\w+)\((.*)")
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)"')
FD = re.compile(r"\d+<([^>]*)>")
MAPPED = re.compile(r"MAP_SHARED.*\d+<([^>]*)>")
WRITING = re.compile(r"O_(CREAT|TRUNC|WRONLY|RDWR)")
LOCKING = re.compile(r"F_(OFD_)?SETLKW?\b")
OF_PATHS = re.compile(r"rename|truncate$|^open|creat|mkdir|link|rmdir|^chmod|fchmodat|mknod")


def command(log, preload):
    """What stands before the command that is traced; logs are ``log`` and the number of a process."""
    kept = ("-o", str(log), "-E", preload)  # not preloaded into strace itself
    return ["strace", "-ff", "-y", "-qq", "-s", "0", "-e", f"trace={TRACE}", "-e", "signal=none", *kept]


def counts(logs, folder):
    """Calls by kind below ``folder`` in the logs of processes."""
    found = Counter()
    for log in logs:
        for line in log.read_text("utf-8", "replace").splitlines():
            if kind := kind_of(line, str(folder)):
                found[kind] += 1
    return found


def kind_of(line, folder):
    """The kind of one call, if it concerns the folder."""
    match = CALL.match(line)
    if match is None:
        return None
    name, given = match.groups()
    if name == "io_uring_setup":
        return name
    if name == "mmap":
        mapped = MAPPED.search(given)
        return name if mapped and "PROT_WRITE" in given and is_below(mapped[1], folder) else None
    if not any(is_below(path, folder) for path in places(name, given, folder)):
        return None
    if name in ("open", "openat"):
        return "open" if WRITING.search(given) else "openr"
    if name == "unlinkat" and "AT_REMOVEDIR" in given:
        return "rmdir"
    if name == "fcntl" and not LOCKING.search(given):
        return None
    return KINDS.get(name, name)


def places(name, given, folder):
    """Absolute paths that a call is about."""
    if OF_PATHS.search(name) and name != "ftruncate":
        found = PATH.findall(given)
        paths = [path if path.startswith("/") else f"{base or folder}/{path}" for base, path in found]
        return paths[-1:] if "link" in name and "unlink" not in name else paths
    match = FD.match(given)
    return [match[1]] if match else []


def is_below(path, folder):
    """Whether a path lies in the folder or is it."""
    return path == folder or path.startswith(f"{folder}/")
