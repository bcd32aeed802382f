/* A lock for sections of some tens of ns: an atomic flag.
 *
 * An uncontended pair costs under 1 ns beside its work, where a pthread mutex costs 12
 * once a second thread exists. Not recursive, not fair; never held across a system
 * call, the GIL or a Python allocation. After fork() the child makes it new by
 * redlane_lock_init: its holder may not exist there. */
#ifndef REDLANE_CORE_LOCK_H
#define REDLANE_CORE_LOCK_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#define REDLANE_LOCK_SPINS 64 /* about 2 us of pauses before the CPU is given up */

typedef struct {
    atomic_bool held;
} RedlaneLock;

static inline void
redlane_lock_init(RedlaneLock *lock)
{
    atomic_init(&lock->held, false);
}

/* Tells the CPU that this is a spin: kinder to the other hyperthread. */
static inline void
redlane_lock_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/* True when the lock was taken. */
static inline bool
redlane_lock_try(RedlaneLock *lock)
{
    return !atomic_exchange_explicit(&lock->held, true, memory_order_acquire);
}

static inline void
redlane_lock(RedlaneLock *lock)
{
    unsigned spins = 0;

    while (!redlane_lock_try(lock)) {
        /* wait on a plain read, so that the cache line is not fought for */
        while (atomic_load_explicit(&lock->held, memory_order_relaxed)) {
            if (++spins < REDLANE_LOCK_SPINS) {
                redlane_lock_pause();
            }
            else {
                (void)sched_yield(); /* the holder may want this very CPU */
                spins = 0;
            }
        }
    }
}

static inline void
redlane_unlock(RedlaneLock *lock)
{
    atomic_store_explicit(&lock->held, false, memory_order_release);
}

#endif
