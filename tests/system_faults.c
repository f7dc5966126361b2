// Loaded into a process by LD_PRELOAD: what a system may refuse. Reads of a stretch of the files below a folder fail, as
// of a bad block of a disk; threads beyond a number are not started.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

// READ_FAULTS is FOLDER, READ_FAULTS_FROM and READ_FAULTS_TO are offsets in bytes.
static int fails(int file, size_t size, off64_t at) {
    const char *folder = getenv("READ_FAULTS");
    char link[64], path[PATH_MAX];
    if (folder == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0) return 0;
    return at < atoll(getenv("READ_FAULTS_TO")) && atoll(getenv("READ_FAULTS_FROM")) < at + (off64_t)size;
}

#define READS(name, offset)                                                                   \
    ssize_t name(int file, void *bytes, size_t size, offset at) {                             \
        if (fails(file, size, at)) {                                                          \
            errno = EIO;                                                                      \
            return -1;                                                                        \
        }                                                                                     \
        return ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(file, bytes, size, at);           \
    }
READS(pread, off_t)
READS(pread64, off64_t)

// THREAD_FAULTS is how many threads may be started; read anew each time, so that a test can lift it.
int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *with) {
    static int started;
    const char *most = getenv("THREAD_FAULTS");
    if (most != NULL && __atomic_add_fetch(&started, 1, __ATOMIC_RELAXED) > atoi(most)) return EAGAIN;
    return ((__typeof__(&pthread_create))dlsym(RTLD_NEXT, "pthread_create"))(thread, how, run, with);
}
