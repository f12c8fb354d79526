/* Faults in the system calls of a process: LD_PRELOAD for benchmarks/failing.py, configured by the environment.

   FAULT_LOG    a file: a line "call<TAB>path" is appended for each call that fails
   FAULT_CALL   read, pread, preadv, write, pwrite, open, close, fsync, fdatasync, ftruncate, fallocate, rename, unlink;
                unset: every call is logged, and none fails
   FAULT_PATH   only calls on files whose path ends with this are counted; a file of which only the descriptor is known
                has the path that /proc/self/fd gives; a rename has the old one
   FAULT_AT     the call of that number fails, from 0
   FAULT_TIMES  so many fail in a row (default 1)
   FAULT_KIND   a number: the call is not made and fails with this errno; "short": it is made for half of the bytes;
                "end": nothing is read, as at the end of a file; "kill": SIGKILL before the call

   Variants of a call (open64, openat, preadv64v2, ...) count as that call. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, FAIL, SHORT, END };

static const char *wanted, *path_end = "", *kind = "";
static long at, times = 1;
static int log_fd = -1;
static atomic_long n_calls;

/* dlsym's void * is a function here, as POSIX has it. */
#define REAL(name) __extension__ static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void configure(void) {
    const char *text;
    wanted = getenv("FAULT_CALL");
    if ((text = getenv("FAULT_PATH"))) path_end = text;
    if ((text = getenv("FAULT_KIND"))) kind = text;
    if ((text = getenv("FAULT_AT"))) at = atol(text);
    if ((text = getenv("FAULT_TIMES"))) times = atol(text);
    if ((text = getenv("FAULT_LOG"))) {
        __extension__ int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
        log_fd = real(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
}

static int ends(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* What happens at this call on this path. */
static int fault(const char *call, const char *path) {
    if ((wanted && strcmp(wanted, call)) || !ends(path, path_end) || (!wanted && log_fd < 0)) return NONE;
    long n = atomic_fetch_add(&n_calls, 1);
    if (wanted && (n < at || n >= at + times)) return NONE;
    if (log_fd >= 0) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%s\t%s\n", call, path);
        ssize_t (*real)(int, const void *, size_t) =
            __extension__(ssize_t(*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write");
        if (real(log_fd, line, (size_t)length) != length) abort();
    }
    if (!wanted) return NONE;
    if (!strcmp(kind, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(kind, "short")) return SHORT;
    if (!strcmp(kind, "end")) return END;
    errno = atoi(kind);
    return FAIL;
}

/* The same of a descriptor. */
static int fault_fd(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    int before = errno;
    if ((wanted && strcmp(wanted, call)) || (!wanted && log_fd < 0)) return NONE;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return NONE;
    path[length] = 0;
    return fault(call, path);
}

static size_t half(size_t n) { return n > 1 ? n / 2 : n; }

/* Calls that move bytes: `n` of them, and the real call with `n` as it then is. */
#define MOVE(call, fd, n, again) \
    switch (fault_fd(call, fd)) { case FAIL: return -1; case END: return 0; case SHORT: n = half(n); } return again

ssize_t read(int fd, void *data, size_t n) { REAL(read); MOVE("read", fd, n, real(fd, data, n)); }
ssize_t write(int fd, const void *data, size_t n) { REAL(write); MOVE("write", fd, n, real(fd, data, n)); }
ssize_t pread(int fd, void *data, size_t n, off_t o) { REAL(pread); MOVE("pread", fd, n, real(fd, data, n, o)); }
ssize_t pread64(int fd, void *data, size_t n, off64_t o) { REAL(pread64); MOVE("pread", fd, n, real(fd, data, n, o)); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t o) {
    REAL(pwrite); MOVE("pwrite", fd, n, real(fd, data, n, o));
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t o) {
    REAL(pwrite64); MOVE("pwrite", fd, n, real(fd, data, n, o));
}

/* Vectors: half of the bytes of the first buffer, or the first buffer alone if it is one of several. */
#define MOVE_VECTOR(call, fd, v, n, again_with, again) \
    switch (fault_fd(call, fd)) { \
        case FAIL: return -1; \
        case END: return 0; \
        case SHORT: { struct iovec first = {v[0].iov_base, half(v[0].iov_len)}; return again_with; } \
    } \
    return again

ssize_t readv(int fd, const struct iovec *v, int n) {
    REAL(readv); MOVE_VECTOR("read", fd, v, n, real(fd, &first, 1), real(fd, v, n));
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    REAL(writev); MOVE_VECTOR("write", fd, v, n, real(fd, &first, 1), real(fd, v, n));
}
ssize_t preadv(int fd, const struct iovec *v, int n, off_t o) {
    REAL(preadv); MOVE_VECTOR("preadv", fd, v, n, real(fd, &first, 1, o), real(fd, v, n, o));
}
ssize_t preadv64(int fd, const struct iovec *v, int n, off64_t o) {
    REAL(preadv64); MOVE_VECTOR("preadv", fd, v, n, real(fd, &first, 1, o), real(fd, v, n, o));
}
ssize_t preadv2(int fd, const struct iovec *v, int n, off_t o, int flags) {
    REAL(preadv2); MOVE_VECTOR("preadv", fd, v, n, real(fd, &first, 1, o, flags), real(fd, v, n, o, flags));
}
ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t o, int flags) {
    REAL(preadv64v2); MOVE_VECTOR("preadv", fd, v, n, real(fd, &first, 1, o, flags), real(fd, v, n, o, flags));
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        return fault("open", path) == FAIL ? -1 : real(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        return fault("open", path) == FAIL ? -1 : real(folder, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int fsync(int fd) { REAL(fsync); return fault_fd("fsync", fd) == FAIL ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fault_fd("fdatasync", fd) == FAIL ? -1 : real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return fault_fd("ftruncate", fd) == FAIL ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return fault_fd("ftruncate", fd) == FAIL ? -1 : real(fd, n); }
int posix_fallocate(int fd, off_t o, off_t n) {
    REAL(posix_fallocate); return fault_fd("fallocate", fd) == FAIL ? errno : real(fd, o, n);
}
int posix_fallocate64(int fd, off64_t o, off64_t n) {
    REAL(posix_fallocate64); return fault_fd("fallocate", fd) == FAIL ? errno : real(fd, o, n);
}
int rename(const char *old, const char *new) {
    REAL(rename); return fault("rename", old) == FAIL ? -1 : real(old, new);
}
int renameat(int from, const char *old, int to, const char *new) {
    REAL(renameat); return fault("rename", old) == FAIL ? -1 : real(from, old, to, new);
}
int unlink(const char *path) { REAL(unlink); return fault("unlink", path) == FAIL ? -1 : real(path); }
int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat); return fault("unlink", path) == FAIL ? -1 : real(folder, path, flags);
}

/* A descriptor is closed even if that fails. */
int close(int fd) {
    REAL(close);
    int found = fd == log_fd ? NONE : fault_fd("close", fd), code = errno, result = real(fd);
    if (found != FAIL) return result;
    errno = code;
    return -1;
}
