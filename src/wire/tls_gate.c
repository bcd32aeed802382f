/* Lock: `gate`, for reading around each call into OpenSSL, for writing by fork (from
 * prepare to parent) and by the exit, for good. Inside it nothing is waited for, but
 * that another thread has started OpenSSL or made a context. */
#include "wire/tls_gate.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/fork.h"

static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t gate_once = PTHREAD_ONCE_INIT;
static pthread_once_t openssl_once = PTHREAD_ONCE_INIT;
static bool made;   /* the gate, and forks know of it */
static bool usable; /* OpenSSL is; under gate */

/* Threads that enter without a pause must not keep a fork waiting for ever. */
static int
make_gate(void)
{
    pthread_rwlockattr_t attributes;
    int result;

    if (pthread_rwlockattr_init(&attributes) != 0) {
        return -1;
    }
#ifdef __GLIBC__
    (void)pthread_rwlockattr_setkind_np(&attributes,
                                        PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    result = pthread_rwlock_init(&gate, &attributes);
    (void)pthread_rwlockattr_destroy(&attributes);
    return result == 0 ? 0 : -1;
}

static void
fork_prepare(void *context)
{
    (void)context;
    (void)pthread_rwlock_wrlock(&gate);
}

static void
fork_parent(void *context)
{
    (void)context;
    (void)pthread_rwlock_unlock(&gate);
}

static void
fork_child(void *context)
{
    (void)context;
    if (make_gate() < 0) {
        abort(); /* there is no way on, and it cannot fail on any system we know */
    }
}

/* Runs before OpenSSL's own, which was registered first. A thread may still be on its
 * way to read: it finds the gate closed instead of freed memory. */
static void
close_for_good(void)
{
    (void)pthread_rwlock_wrlock(&gate);
    usable = false;
    (void)pthread_rwlock_unlock(&gate);
}

static void
open_gate(void)
{
    static RedlaneForkHook hook = {
        .rank = REDLANE_FORK_CONNECTIONS,
        .prepare = fork_prepare,
        .parent = fork_parent,
        .child = fork_child,
    };

    made = make_gate() == 0 && redlane_fork_register(&hook) == 0;
}

/* Takes some milliseconds, and inside the gate: a child made by fork in the middle of
 * it would have half of OpenSSL, and locks that nobody opens. */
static void
start_openssl(void)
{
    usable = OPENSSL_init_ssl(0, NULL) == 1 && atexit(close_for_good) == 0;
}

bool
redlane_tls_enter(void)
{
    (void)pthread_once(&gate_once, open_gate);
    if (!made) {
        return false;
    }
    (void)pthread_rwlock_rdlock(&gate);
    (void)pthread_once(&openssl_once, start_openssl);
    if (!usable) {
        (void)pthread_rwlock_unlock(&gate);
        return false;
    }
    ERR_clear_error();
    return true;
}

void
redlane_tls_leave(void)
{
    ERR_clear_error();
    (void)pthread_rwlock_unlock(&gate);
}
