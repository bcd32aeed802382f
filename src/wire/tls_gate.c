/* Lock: `gate`, for reading around each call into OpenSSL, for writing by fork (from
 * prepare to parent) and by the exit, for good. Inside it nothing is waited for, but
 * that another thread has made a context. */
#include "wire/tls_gate.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/fork.h"

static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t gate_once = PTHREAD_ONCE_INIT;
static bool usable; /* under gate, once it is made */

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

    usable = OPENSSL_init_ssl(0, NULL) == 1 && make_gate() == 0 &&
             atexit(close_for_good) == 0 && redlane_fork_register(&hook) == 0;
}

bool
redlane_tls_enter(void)
{
    (void)pthread_once(&gate_once, open_gate);
    (void)pthread_rwlock_rdlock(&gate);
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
