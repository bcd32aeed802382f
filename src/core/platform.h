/* What differs between POSIX systems, in one place: Linux first, a portable fallback
 * beside it. No Python, no lock of its own. */
#ifndef REDLANE_CORE_PLATFORM_H
#define REDLANE_CORE_PLATFORM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Flags of every send: a peer that is gone is an error, not a SIGPIPE. */
#ifdef MSG_NOSIGNAL
#define REDLANE_SEND_FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT)
#else
#define REDLANE_SEND_FLAGS MSG_DONTWAIT /* macOS: SO_NOSIGPIPE on the socket */
#endif

/* A stream socket that is non-blocking, closed on exec and raises no SIGPIPE; -1 with
 * errno. */
int redlane_platform_socket(int family);

/* A pipe whose ends are closed on exec and whose reading end does not block; 0, or -1
 * with errno. */
int redlane_platform_pipe(int ends[2]);

/* Two connected stream sockets, each as above; 0, or -1 with errno. */
int redlane_platform_pair(int ends[2]);

/* TCP_NODELAY, keepalive, and an end to waiting for a silent peer. Best effort: a
 * socket without them still works. */
void redlane_platform_tune_tcp(int fd);

/* Makes a receive without MSG_DONTWAIT wait, but for `slice` ns at most; 0, or -1. */
int redlane_platform_receive_within(int fd, int64_t slice);

/* Closes so that nothing unsent arrives later: the peer gets a reset. */
void redlane_platform_close_reset(int fd);

/* Overwrites a secret; not removed by the optimiser. */
void redlane_platform_wipe(void *data, size_t size);

/* A condition whose deadlines are CLOCK_MONOTONIC where the system can. */
int redlane_platform_cond_init(pthread_cond_t *condition);

/* Waits until signalled or until `deadline` (CLOCK_MONOTONIC ns); may wake early. */
void redlane_platform_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                int64_t deadline);

/* What wakes a thread from poll: `wake[0]` becomes readable when signalled. -1 with
 * errno; closing sets both ends to -1. Signalling one that was never opened is nothing.
 */
int redlane_platform_wake_open(int wake[2]);
void redlane_platform_wake_signal(const int wake[2]);
void redlane_platform_wake_drain(const int wake[2]);
void redlane_platform_wake_close(int wake[2]);

/* Starts a detached thread that blocks every signal; 0, or an errno. */
int redlane_platform_thread(void *(*body)(void *), void *argument);

/* True in the thread that runs Python's signal handlers, as far as that can be told:
 * where it cannot, every thread is taken for it. */
bool redlane_platform_is_main_thread(void);

/* Gives free pages of the heap back to the system, where malloc can be told to. */
void redlane_platform_trim_heap(void);

#endif
