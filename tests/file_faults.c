// Loaded into a process by LD_PRELOAD: counts the calls that change files below a folder, and at the n-th of them
// kills the process, tears a write in two and kills it, or makes this call and all later ones fail.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char watched[PATH_MAX];
static long target = -1, counted;
static int failure;  // an errno; 0: kill; -1: tear the write and kill

// Called by the test through ctypes. A `when` below 0 only counts.
void file_faults_arm(const char *folder, long when, int what) {
    snprintf(watched, sizeof watched, "%s/", folder);
    target = when;
    failure = what;
    counted = 0;
}

long file_faults_counted(void) { return counted; }

static int below(const char *path) { return *watched && strncmp(path, watched, strlen(watched)) == 0; }

static int of_watched(int file) {
    char link[64], path[PATH_MAX];
    if (!*watched) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 2);
    if (length <= 0) return 0;
    path[length] = '/';  // so that the folder itself is below itself
    path[length + 1] = 0;
    return below(path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

// Before a call that changes something: 0 to go on, 1 to tear it and die, -1 to fail.
static int step(int concerned, int tearable) {
    if (!concerned) return 0;
    pthread_mutex_lock(&lock);
    long now = counted++;
    if (target < 0 || now < target) {
        pthread_mutex_unlock(&lock);
        return 0;
    }
    if (failure > 0) {
        pthread_mutex_unlock(&lock);
        errno = failure;
        return -1;
    }
    if (failure == -1 && tearable) return 1;  // keeps the lock: no other thread changes anything any more
    die();
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITES(name, ...)                                                   \
    switch (step(of_watched(file), 1)) {                                    \
        case -1: return -1;                                                 \
        case 1: (void)!REAL(name)(file, bytes, size / 2 __VA_ARGS__); die(); \
    }                                                                       \
    return REAL(name)(file, bytes, size __VA_ARGS__)

ssize_t write(int file, const void *bytes, size_t size) { WRITES(write); }
ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) { WRITES(pwrite, , at); }
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) { WRITES(pwrite64, , at); }

#define OF_FILE(name, parameters, ...)                   \
    int name parameters {                                \
        if (step(of_watched(file), 0)) return -1;        \
        return REAL(name)(__VA_ARGS__);                  \
    }
OF_FILE(fsync, (int file), file)
OF_FILE(fdatasync, (int file), file)
OF_FILE(ftruncate, (int file, off_t size), file, size)
OF_FILE(ftruncate64, (int file, off64_t size), file, size)

#define OF_PATH(name, parameters, ...)                   \
    int name parameters {                                \
        if (step(below(path), 0)) return -1;             \
        return REAL(name)(__VA_ARGS__);                  \
    }
OF_PATH(unlink, (const char *path), path)
OF_PATH(rmdir, (const char *path), path)
OF_PATH(mkdir, (const char *path, mode_t mode), path, mode)
OF_PATH(rename, (const char *path, const char *to), path, to)

#define OPENS(name)                                                                  \
    int name(const char *path, int flags, ...) {                                     \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;      \
        va_end(rest);                                                                \
        if (step((flags & (O_CREAT | O_TRUNC)) && below(path), 0)) return -1;        \
        return REAL(name)(path, flags, mode);                                        \
    }
OPENS(open)
OPENS(open64)
