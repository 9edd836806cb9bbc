// Counts the calls by which a process changes files below a folder, and at one of them kills it, or fails it.
//
// Loaded with LD_PRELOAD, so that it sees what C++ does (TensorFlow's checkpoints, SavedModels and records) as well as
// Python. Nothing is counted before `faults_arm`. A call that writes counts twice: before it, and with half of it done.
// What stdio writes by itself, out of sight, it writes in fwrite, fflush or fclose, which are counted.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, KILL, FAIL, FAIL_FROM };

static char root[PATH_MAX], ops[256];
static size_t root_length;
static int armed, action, failure, log_fd = -1;
static long target, calls, clock_shift;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

// `only` lists the calls that count, as ",fsync,write,"; empty counts all that change files.
void faults_arm(const char *folder, const char *log, long at, int what, int error, const char *only) {
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    snprintf(ops, sizeof ops, "%s", only);
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
    target = at, action = what, failure = error, calls = 0;
    armed = 1;
}

void faults_shift_clock(long seconds) { clock_shift = seconds; }

static int below(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int path_at(int folder, const char *name, char *path) {
    char base[PATH_MAX], link[64];
    if (!name) return 0;
    if (name[0] == '/') return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return 0;
        base[length] = 0;
    }
    return snprintf(path, PATH_MAX, name[0] ? "%s/%s" : "%s%s", base, name) < PATH_MAX;
}

static int wanted(const char *op) {
    char key[32];
    if (!ops[0]) return strcmp(op, "read") != 0;
    snprintf(key, sizeof key, ",%s,", op);
    return strstr(ops, key) != NULL;
}

// Counts a call. Returns whether it is to fail, with errno set; does not return if it is the one to be killed at.
static int due(const char *op, int folder, const char *name) {
    char path[PATH_MAX], line[PATH_MAX + 64];
    if (!armed) return 0;
    int before = errno;
    if (!wanted(op) || !path_at(folder, name, path) || (strcmp(op, "sync") && !below(path))) {
        errno = before;
        return 0;
    }
    pthread_mutex_lock(&lock);
    long number = ++calls;
    int hit = action == FAIL_FROM ? number >= target : number == target;
    if (action == COUNT || hit) {
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, op, path + (below(path) ? root_length : 0));
        syscall(SYS_write, log_fd, line, length);
    }
    if (hit && action == KILL) syscall(SYS_kill, getpid(), SIGKILL), pause();
    pthread_mutex_unlock(&lock);
    errno = before;
    if (!hit || action == COUNT) return 0;
    errno = failure;
    return 1;
}

static int due_fd(const char *op, int fd) { return due(op, fd, ""); }

static int is_written(int fd) { return armed && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY; }

// The second count of a write: with half of it done. Only killing there makes a state that no other call makes.
static int in_the_middle(void) { return armed && !ops[0] && (action == COUNT || action == KILL); }

static int opens(int flags) { return flags & (O_CREAT | O_TRUNC); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        if (opens(flags) && due("open", AT_FDCWD, path)) return -1; \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...); \
        va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
        if (opens(flags) && due("open", folder, path)) return -1; \
        return real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(FILE *, #name, const char *, const char *); \
        if (mode[0] != 'r' && due("open", AT_FDCWD, path)) return NULL; \
        return real(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void *content, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (armed && due_fd("write", fd)) return -1;
    if (in_the_middle() && size > 1 && wanted("write")) {
        size_t half = size / 2;
        ssize_t done = real(fd, content, half);
        if (done < (ssize_t)half) return done;
        due_fd("write", fd);
        ssize_t rest = real(fd, (const char *)content + half, size - half);
        return rest < 0 ? done : done + rest;
    }
    return real(fd, content, size);
}

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *content, size_t size, offset_type offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type); \
        if (armed && due_fd("write", fd)) return -1; \
        if (in_the_middle() && size > 1 && wanted("write")) { \
            size_t half = size / 2; \
            ssize_t done = real(fd, content, half, offset); \
            if (done < (ssize_t)half) return done; \
            due_fd("write", fd); \
            ssize_t rest = real(fd, (const char *)content + half, size - half, offset + half); \
            return rest < 0 ? done : done + rest; \
        } \
        return real(fd, content, size, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return armed && due_fd("write", fd) ? -1 : real(fd, parts, count);
}

static int flush(FILE *file) {
    REAL(int, "fflush", FILE *);
    return real(file);
}

#define FWRITE(name) \
    size_t name(const void *content, size_t size, size_t count, FILE *file) { \
        REAL(size_t, #name, const void *, size_t, size_t, FILE *); \
        if (armed && due_fd("write", fileno(file))) return 0; \
        if (in_the_middle() && size * count > 1 && wanted("write")) { \
            size_t half = size * count / 2; \
            if (action == KILL && calls + 1 == target) real(content, 1, half, file), flush(file); \
            due_fd("write", fileno(file)); \
        } \
        return real(content, size, count, file); \
    }
FWRITE(fwrite)
#undef fwrite_unlocked
FWRITE(fwrite_unlocked)

int fflush(FILE *file) {
    return file && is_written(fileno(file)) && due_fd("write", fileno(file)) ? EOF : flush(file);
}

int fclose(FILE *file) {
    REAL(int, "fclose", FILE *);
    if (is_written(fileno(file)) && due_fd("write", fileno(file))) {
        int error = errno;
        real(file);
        errno = error;
        return EOF;
    }
    return real(file);
}

#define ON_FD(name, op) \
    int name(int fd) { \
        REAL(int, #name, int); \
        return armed && due_fd(op, fd) ? -1 : real(fd); \
    }
ON_FD(fsync, "fsync")
ON_FD(fdatasync, "fsync")

void sync(void) {
    REAL(void, "sync", void);
    due("sync", AT_FDCWD, "/");
    if (!armed || action == COUNT) real();  // the machine's other programs need not wait at every trial
}

#define ON_PATH(name, op) \
    int name(const char *path) { \
        REAL(int, #name, const char *); \
        return due(op, AT_FDCWD, path) ? -1 : real(path); \
    }
ON_PATH(unlink, "unlink")
ON_PATH(rmdir, "rmdir")
ON_PATH(remove, "unlink")

int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    return due(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, path) ? -1 : real(folder, path, flags);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return due("rename", AT_FDCWD, to) ? -1 : real(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    return due("rename", to_folder, to) ? -1 : real(from_folder, from, to_folder, to);
}

int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    return due("link", AT_FDCWD, to) ? -1 : real(from, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    return due("link", to_folder, to) ? -1 : real(from_folder, from, to_folder, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return due("mkdir", AT_FDCWD, path) ? -1 : real(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    return due("mkdir", folder, path) ? -1 : real(folder, path, mode);
}

int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    return armed && due_fd("truncate", fd) ? -1 : real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    return armed && due_fd("truncate", fd) ? -1 : real(fd, size);
}

int flock(int fd, int operation) {
    REAL(int, "flock", int, int);
    return armed && due_fd("flock", fd) ? -1 : real(fd, operation);
}

// Reading counts only where it is asked for by name.
ssize_t read(int fd, void *content, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    return armed && ops[0] && due_fd("read", fd) ? -1 : real(fd, content, size);
}

ssize_t pread(int fd, void *content, size_t size, off_t offset) {
    REAL(ssize_t, "pread", int, void *, size_t, off_t);
    return armed && ops[0] && due_fd("read", fd) ? -1 : real(fd, content, size, offset);
}

ssize_t pread64(int fd, void *content, size_t size, off64_t offset) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    return armed && ops[0] && due_fd("read", fd) ? -1 : real(fd, content, size, offset);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += clock_shift;
    return result;
}
