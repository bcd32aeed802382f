#include "core/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef __linux__
#include <sys/eventfd.h>
#include <sys/syscall.h>
#endif

#include "core/clock.h"

/* A peer that acknowledges nothing for this long is gone. Calls have their own, much
 * shorter deadlines: this is for blocking commands and idle connections. */
#define SILENT_PEER_MS 30000
#define KEEPALIVE_IDLE_S 60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_PROBES 3

static void
set_option(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof(value));
}

int
redlane_platform_socket(int family)
{
    int fd;

#if defined(SOCK_CLOEXEC) && defined(SOCK_NONBLOCK)
    fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
    fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0 && (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
                    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)) {
        int saved = errno;

        (void)close(fd);
        errno = saved;
        return -1;
    }
#endif
#ifdef SO_NOSIGPIPE
    if (fd >= 0) {
        set_option(fd, SOL_SOCKET, SO_NOSIGPIPE, 1);
    }
#endif
    return fd;
}

int
redlane_platform_pipe(int ends[2])
{
    if (pipe(ends) < 0) {
        return -1;
    }
    if (fcntl(ends[0], F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(ends[1], F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0) {
        int saved = errno;

        (void)close(ends[0]);
        (void)close(ends[1]);
        errno = saved;
        return -1;
    }
    return 0;
}

int
redlane_platform_pair(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0) {
        return -1;
    }
    for (int i = 0; i < 2; i++) {
        if (fcntl(ends[i], F_SETFD, FD_CLOEXEC) < 0 ||
            fcntl(ends[i], F_SETFL, fcntl(ends[i], F_GETFL) | O_NONBLOCK) < 0) {
            int saved = errno;

            (void)close(ends[0]);
            (void)close(ends[1]);
            errno = saved;
            return -1;
        }
#ifdef SO_NOSIGPIPE
        set_option(ends[i], SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
    }
    return 0;
}

void
redlane_platform_tune_tcp(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_KEEPIDLE
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
#elif defined(TCP_KEEPALIVE)
    set_option(fd, IPPROTO_TCP, TCP_KEEPALIVE, KEEPALIVE_IDLE_S);
#endif
#ifdef TCP_KEEPINTVL
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
#endif
#ifdef TCP_KEEPCNT
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
#endif
#ifdef TCP_USER_TIMEOUT
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, SILENT_PEER_MS);
#endif
}

int
redlane_platform_receive_within(int fd, int64_t slice)
{
    struct timeval limit = {
        .tv_sec = (time_t)(slice / REDLANE_NS_PER_S),
        .tv_usec = (suseconds_t)(slice % REDLANE_NS_PER_S / 1000),
    };
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
        return -1;
    }
    return 0;
}

void
redlane_platform_close_reset(int fd)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    (void)close(fd);
}

void
redlane_platform_wipe(void *data, size_t size)
{
    volatile unsigned char *bytes = data;

    while (size--) {
        *bytes++ = 0;
    }
}

int
redlane_platform_cond_init(pthread_cond_t *condition)
{
#ifdef __APPLE__
    return pthread_cond_init(condition, NULL);
#else
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);

    if (error) {
        return error;
    }
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!error) {
        error = pthread_cond_init(condition, &attributes);
    }
    (void)pthread_condattr_destroy(&attributes);
    return error;
#endif
}

void
redlane_platform_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           int64_t deadline)
{
    struct timespec until;

#ifdef __APPLE__
    int64_t left = deadline - redlane_clock_now();

    if (left < 0) {
        left = 0;
    }
    until.tv_sec = (time_t)(left / REDLANE_NS_PER_S);
    until.tv_nsec = (long)(left % REDLANE_NS_PER_S);
    (void)pthread_cond_timedwait_relative_np(condition, mutex, &until);
#else
    until.tv_sec = (time_t)(deadline / REDLANE_NS_PER_S);
    until.tv_nsec = (long)(deadline % REDLANE_NS_PER_S);
    (void)pthread_cond_timedwait(condition, mutex, &until);
#endif
}

int
redlane_platform_thread(void *(*body)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    int error;

    error = pthread_attr_init(&attributes);
    if (error) {
        return error;
    }
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the thread */
    error = pthread_create(&thread, &attributes, body, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return error;
}

#ifdef __linux__

int
redlane_platform_wake_open(int wake[2])
{
    wake[0] = wake[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return wake[0] < 0 ? -1 : 0;
}

#else

int
redlane_platform_wake_open(int wake[2])
{
    if (pipe(wake) < 0) {
        wake[0] = wake[1] = -1;
        return -1;
    }
    for (int end = 0; end < 2; end++) {
        (void)fcntl(wake[end], F_SETFD, FD_CLOEXEC);
        (void)fcntl(wake[end], F_SETFL, O_NONBLOCK);
    }
    return 0;
}

#endif

void
redlane_platform_wake_signal(const int wake[2])
{
    uint64_t one = 1; /* an eventfd takes exactly eight bytes; a pipe any */

    if (wake[1] >= 0) {
        ssize_t written = write(wake[1], &one, sizeof(one));

        (void)written; /* full means that it is readable already */
    }
}

void
redlane_platform_wake_drain(const int wake[2])
{
    uint64_t bytes[8];

    while (read(wake[0], bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes)) {
    }
}

void
redlane_platform_wake_close(int wake[2])
{
    if (wake[0] >= 0) {
        (void)close(wake[0]);
    }
    if (wake[1] >= 0 && wake[1] != wake[0]) {
        (void)close(wake[1]);
    }
    wake[0] = wake[1] = -1;
}

bool
redlane_platform_is_main_thread(void)
{
#ifdef __linux__
    return syscall(SYS_gettid) == getpid();
#else
    return true;
#endif
}

void
redlane_platform_trim_heap(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}
