#include "core/lock.h"

#include <pthread.h>

#include "harness.h"

#define THREADS 4
#define ROUNDS 20000

static RedlaneLock lock;
static long counter; /* guarded by lock */

static void *
count_rounds(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        redlane_lock(&lock);
        counter++;
        redlane_unlock(&lock);
    }
    return unused;
}

void
test_lock(void)
{
    pthread_t threads[THREADS];

    redlane_lock_init(&lock);
    CHECK(redlane_lock_try(&lock));
    CHECK(!redlane_lock_try(&lock));
    redlane_unlock(&lock);
    for (int i = 0; i < THREADS; i++) {
        CHECK_INTEGER(pthread_create(&threads[i], NULL, count_rounds, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INTEGER(pthread_join(threads[i], NULL), 0);
    }
    CHECK_INTEGER(counter, (long)THREADS * ROUNDS);
}
