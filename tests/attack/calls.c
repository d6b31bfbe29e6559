/* Counts the calls of one process that change files below a folder, and makes the n-th one fail, tear or kill.

   Loaded by LD_PRELOAD; does nothing until `arm`. A path is below the folder as it is written (the folder is a
   real path, and commands run in it); a descriptor is where /proc says that it leads. The counts lie in memory
   shared with the parent, which reads them whatever becomes of this process. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    WRITE, PWRITE, WRITEV, FSYNC, FDATASYNC, RENAME, TRUNCATE, OPEN, MKDIR, LINK, SYMLINK, UNLINK, RMDIR, CHMOD,
    CLOSE, FLOCK, LOCK, /* from here on nothing changes */ OPENR, READ, KINDS
};

/* The words of `enum kind`, in its order. */
const char attack_kinds[] =
    "write pwrite writev fsync fdatasync rename truncate open mkdir link symlink unlink rmdir chmod "
    "close flock lock openr read";

enum mode { COUNT, FAIL, TORN, TORN_KILL, KILL, FULL, READONLY, UNLOCKABLE };
const char attack_modes[] = "count fail torn torn-kill kill full readonly unlockable";

enum verdict { PASS, REFUSE, HALF, HALF_THEN_DIE, DIE };

struct tally {
    long counts[KINDS], changes, fired;
};

static int armed, mode, wanted, error, is_torn;
static long at;
static char folder[PATH_MAX];
static struct tally *tally;

/* Calls of `kind` from now on; `at_` counts from 1: of the kind, or of all changing ones where no kind is meant. */
void attack_arm(int mode_, int kind_, long at_, int error_, const char *folder_, struct tally *tally_) {
    mode = mode_, wanted = kind_, at = at_, error = error_, tally = tally_, is_torn = 0;
    snprintf(folder, sizeof folder, "%s", folder_);
    armed = 1;
}

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int of_fd(int fd) {
    if (!armed) return 0;
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static int of_path(int directory, const char *path) {
    if (!armed || !path) return 0;
    if (path[0] == '/') return is_below(path);
    if (directory != AT_FDCWD) return of_fd(directory);
    char here[PATH_MAX];
    int before = errno, answer = getcwd(here, sizeof here) && is_below(here);
    errno = before;
    return answer;
}

static int needs_space(int kind) {
    return kind <= FDATASYNC || kind == RENAME || kind == OPEN || (kind >= MKDIR && kind <= SYMLINK);
}

static int refuse(int number) {
    __atomic_add_fetch(&tally->fired, 1, __ATOMIC_SEQ_CST);
    error = number;
    return REFUSE;
}

static int enter(int kind, int concerned) {
    if (!armed || !concerned) return PASS;
    long n = __atomic_add_fetch(&tally->counts[kind], 1, __ATOMIC_SEQ_CST);
    int is_change = kind < OPENR;
    long all = is_change ? __atomic_add_fetch(&tally->changes, 1, __ATOMIC_SEQ_CST) : tally->changes;
    int is_it = kind == wanted && n == at;
    switch (mode) {
    case FAIL:
        return is_it ? refuse(error) : PASS;
    case TORN:
        if (is_torn && kind == wanted) return is_torn = 0, refuse(ENOSPC);
        return is_it ? (is_torn = 1, tally->fired++, HALF) : PASS;
    case TORN_KILL:
        return is_it ? (tally->fired++, HALF_THEN_DIE) : PASS;
    case KILL:
        return is_change && all == at ? (tally->fired++, DIE) : PASS;
    case FULL:
        return is_change && all >= at && needs_space(kind) ? refuse(ENOSPC) : PASS;
    case READONLY:
        return is_change && all >= at && kind < CLOSE ? refuse(EROFS) : PASS;
    case UNLOCKABLE:
        return (kind == FLOCK || kind == LOCK) && n >= at ? refuse(ENOLCK) : PASS;
    }
    return PASS;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

#define NEXT(name) \
    static __typeof__(name) *next; \
    if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define AFTER(verdict, value) \
    if ((verdict) == DIE) die(); \
    return value

#define WRAP(result, name, declared, passed, kind, concerned) \
    result name declared { \
        NEXT(name); \
        int verdict = enter(kind, concerned); \
        if (verdict == REFUSE) return errno = error, -1; \
        result value = next passed; \
        AFTER(verdict, value); \
    }

/* A torn write leaves its first half. */
#define WRAP_WRITE(name, declared, passed, kind, size) \
    ssize_t name declared { \
        NEXT(name); \
        int verdict = enter(kind, of_fd(fd)); \
        if (verdict == REFUSE) return errno = error, -1; \
        if (verdict >= HALF && verdict <= HALF_THEN_DIE && size > 1) size /= 2; \
        ssize_t value = next passed; \
        if (verdict == HALF_THEN_DIE) die(); \
        AFTER(verdict, value); \
    }

WRAP_WRITE(write, (int fd, const void *from, size_t size), (fd, from, size), WRITE, size)
WRAP_WRITE(pwrite, (int fd, const void *from, size_t size, off_t to), (fd, from, size, to), PWRITE, size)
WRAP_WRITE(pwrite64, (int fd, const void *from, size_t size, off64_t to), (fd, from, size, to), PWRITE, size)
WRAP_WRITE(writev, (int fd, const struct iovec *parts, int size), (fd, parts, size), WRITEV, size)
WRAP_WRITE(pwritev, (int fd, const struct iovec *parts, int size, off_t to), (fd, parts, size, to), WRITEV, size)
WRAP(int, fsync, (int fd), (fd), FSYNC, of_fd(fd))
WRAP(int, fdatasync, (int fd), (fd), FDATASYNC, of_fd(fd))
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), TRUNCATE, of_fd(fd))
WRAP(int, ftruncate64, (int fd, off64_t size), (fd, size), TRUNCATE, of_fd(fd))
WRAP(int, truncate, (const char *path, off_t size), (path, size), TRUNCATE, of_path(AT_FDCWD, path))
WRAP(int, truncate64, (const char *path, off64_t size), (path, size), TRUNCATE, of_path(AT_FDCWD, path))
WRAP(int, rename, (const char *a, const char *b), (a, b), RENAME, of_path(AT_FDCWD, a) || of_path(AT_FDCWD, b))
WRAP(int, renameat, (int i, const char *a, int k, const char *b), (i, a, k, b), RENAME,
     of_path(i, a) || of_path(k, b))
WRAP(int, renameat2, (int i, const char *a, int k, const char *b, unsigned how), (i, a, k, b, how), RENAME,
     of_path(i, a) || of_path(k, b))
WRAP(int, mkdir, (const char *path, mode_t may), (path, may), MKDIR, of_path(AT_FDCWD, path))
WRAP(int, mkdirat, (int at_, const char *path, mode_t may), (at_, path, may), MKDIR, of_path(at_, path))
WRAP(int, link, (const char *a, const char *b), (a, b), LINK, of_path(AT_FDCWD, b))
WRAP(int, linkat, (int i, const char *a, int k, const char *b, int how), (i, a, k, b, how), LINK, of_path(k, b))
WRAP(int, symlink, (const char *a, const char *b), (a, b), SYMLINK, of_path(AT_FDCWD, b))
WRAP(int, symlinkat, (const char *a, int k, const char *b), (a, k, b), SYMLINK, of_path(k, b))
WRAP(int, unlink, (const char *path), (path), UNLINK, of_path(AT_FDCWD, path))
WRAP(int, unlinkat, (int at_, const char *path, int how), (at_, path, how), how & AT_REMOVEDIR ? RMDIR : UNLINK,
     of_path(at_, path))
WRAP(int, rmdir, (const char *path), (path), RMDIR, of_path(AT_FDCWD, path))
WRAP(int, chmod, (const char *path, mode_t may), (path, may), CHMOD, of_path(AT_FDCWD, path))
WRAP(int, fchmod, (int fd, mode_t may), (fd, may), CHMOD, of_fd(fd))
WRAP(int, fchmodat, (int at_, const char *path, mode_t may, int how), (at_, path, may, how), CHMOD,
     of_path(at_, path))
int flock(int, int);
WRAP(int, flock, (int fd, int how), (fd, how), FLOCK, of_fd(fd))
WRAP(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size), READ, of_fd(fd))
WRAP(ssize_t, pread, (int fd, void *to, size_t size, off_t from), (fd, to, size, from), READ, of_fd(fd))
WRAP(ssize_t, pread64, (int fd, void *to, size_t size, off64_t from), (fd, to, size, from), READ, of_fd(fd))
WRAP(ssize_t, readv, (int fd, const struct iovec *parts, int size), (fd, parts, size), READ, of_fd(fd))

/* A descriptor is free after a close that failed. */
int close(int fd) {
    NEXT(close);
    int verdict = enter(CLOSE, of_fd(fd)), value = next(fd);
    if (verdict == REFUSE) return errno = error, -1;
    AFTER(verdict, value);
}

int closedir(DIR *directory) {
    NEXT(closedir);
    int verdict = enter(CLOSE, of_fd(dirfd(directory))), value = next(directory);
    if (verdict == REFUSE) return errno = error, -1;
    AFTER(verdict, value);
}

DIR *opendir(const char *path) {
    NEXT(opendir);
    if (enter(OPENR, of_path(AT_FDCWD, path)) == REFUSE) return errno = error, NULL;
    return next(path);
}

static int kind_of(int flags) {
    return (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY ? OPEN : OPENR;
}

#define WRAP_OPEN(name, declared, passed, place) \
    int name declared { \
        NEXT(name); \
        mode_t may = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list more; \
            va_start(more, flags); \
            may = va_arg(more, mode_t); \
            va_end(more); \
        } \
        int verdict = enter(kind_of(flags), place); \
        if (verdict == REFUSE) return errno = error, -1; \
        int value = next passed; \
        AFTER(verdict, value); \
    }

WRAP_OPEN(open, (const char *path, int flags, ...), (path, flags, may), of_path(AT_FDCWD, path))
WRAP_OPEN(open64, (const char *path, int flags, ...), (path, flags, may), of_path(AT_FDCWD, path))
WRAP_OPEN(openat, (int at_, const char *path, int flags, ...), (at_, path, flags, may), of_path(at_, path))
WRAP_OPEN(openat64, (int at_, const char *path, int flags, ...), (at_, path, flags, may), of_path(at_, path))
WRAP(int, creat, (const char *path, mode_t may), (path, may), OPEN, of_path(AT_FDCWD, path))
WRAP(int, creat64, (const char *path, mode_t may), (path, may), OPEN, of_path(AT_FDCWD, path))

static int is_lock(int what) {
    return what == F_SETLK || what == F_SETLKW || what == F_OFD_SETLK || what == F_OFD_SETLKW;
}

#define WRAP_FCNTL(name) \
    int name(int fd, int what, ...) { \
        NEXT(name); \
        va_list more; \
        va_start(more, what); \
        void *given = va_arg(more, void *); \
        va_end(more); \
        int verdict = is_lock(what) ? enter(LOCK, of_fd(fd)) : PASS; \
        if (verdict == REFUSE) return errno = error, -1; \
        int value = next(fd, what, given); \
        AFTER(verdict, value); \
    }

WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)
