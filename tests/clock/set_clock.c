/* Loaded before libc's: clocks that stand where a test has set them, in a file that it
 * shares with whom they are for. In a server that is Unix time, for all who ask; in a
 * process of the library all clocks, for the extension's own code alone: the rest of
 * the process, and what a server measures its work with, go by the real ones. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000

typedef struct {
    atomic_llong unix_ns, monotonic_ns;
} Clock;

static Clock *clock_set;
static uintptr_t range_start, range_end; /* the extension's code; none: a server */

__attribute__((constructor)) static void
map_clock(void)
{
    const char *path = getenv("SET_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped;

    if (file < 0) {
        return;
    }
    mapped = mmap(NULL, sizeof(Clock), PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) {
        clock_set = mapped;
    }
    close(file);
}

void
set_clock_range(uintptr_t start, uintptr_t end)
{
    range_start = start;
    range_end = end;
}

static bool
is_server(void)
{
    return clock_set && getenv("SET_CLOCK_OF_SERVER");
}

static struct timespec
timespec_of(long long ns)
{
    return (struct timespec){ns / NS_PER_S, ns % NS_PER_S};
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    bool ours = clock_set && caller >= range_start && caller < range_end;

    if (id == CLOCK_REALTIME && (ours || is_server())) {
        *now = timespec_of(atomic_load(&clock_set->unix_ns));
        return 0;
    }
    if (ours && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE)) {
        *now = timespec_of(atomic_load(&clock_set->monotonic_ns));
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, id, now);
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;

    (void)zone;
    if (is_server()) {
        exact = timespec_of(atomic_load(&clock_set->unix_ns));
    }
    else {
        syscall(SYS_clock_gettime, CLOCK_REALTIME, &exact);
    }
    *now = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
    return 0;
}

time_t
time(time_t *kept)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    if (kept) {
        *kept = now.tv_sec;
    }
    return now.tv_sec;
}
