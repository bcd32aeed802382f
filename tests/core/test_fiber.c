/* Fibers. */
#include "core/fiber.h"

#include <stdio.h>
#include <string.h>

#include "harness.h"

typedef struct {
    RedlaneFiber *fiber;
    int steps;
    double sum;
    bool intact;
} Walk;

/* Keeps values of all kinds over each switch. */
static void
walk(void *context)
{
    Walk *walk = context;
    double halves = 0.5;
    char text[64] = "";

    for (int i = 0; i < 3; i++) {
        walk->steps++;
        halves += 1;
        (void)snprintf(text, sizeof(text), "%d %g", i, halves);
        redlane_fiber_leave(walk->fiber);
    }
    walk->sum = halves;
    walk->intact = strcmp(text, "2 3.5") == 0;
}

static int
fall(int depth)
{
    volatile char space[1024];

    space[0] = (char)depth;
    return depth ? fall(depth - 1) + (space[0] == (char)depth) : 0;
}

/* As deep as a thread's stack would let it. */
static void
dive(void *context)
{
    *(int *)context = fall(4000);
}

static void
test_switches(void)
{
    RedlaneFiber *fiber = redlane_fiber_new();
    Walk walked = {.fiber = fiber};
    int entered = 0;

    CHECK(fiber != NULL);
    redlane_fiber_start(fiber, walk, &walked);
    CHECK_INTEGER(walked.steps, 0);
    while (!redlane_fiber_enter(fiber)) {
        entered++;
        CHECK_INTEGER(walked.steps, entered);
    }
    CHECK_INTEGER(entered, 3);
    CHECK(walked.sum == 3.5);
    CHECK(walked.intact);
    redlane_fiber_free(fiber);
}

static void
test_fibers_take_turns(void)
{
    Walk walks[8] = {{.steps = 0}};
    int done = 0;

    for (size_t i = 0; i < 8; i++) {
        walks[i].fiber = redlane_fiber_new();
        CHECK(walks[i].fiber != NULL);
        redlane_fiber_start(walks[i].fiber, walk, &walks[i]);
    }
    for (int turn = 0; turn < 4; turn++) {
        for (size_t i = 0; i < 8; i++) {
            done += redlane_fiber_enter(walks[i].fiber);
        }
    }
    CHECK_INTEGER(done, 8);
    for (size_t i = 0; i < 8; i++) {
        CHECK(walks[i].intact);
        redlane_fiber_free(walks[i].fiber);
    }
}

/* Often enough for the pool to trim it while it is kept. */
static void
test_a_fiber_is_used_again(void)
{
    RedlaneFiberPool pool = {0};
    RedlaneFiber *first = redlane_fiber_take(&pool);
    int depth = 0;

    CHECK(first != NULL);
    redlane_fiber_give(&pool, first);
    for (int i = 0; i < 300; i++) {
        RedlaneFiber *fiber = redlane_fiber_take(&pool);
        Walk walked = {.fiber = fiber};

        CHECK(fiber == first);
        redlane_fiber_start(fiber, dive, &depth);
        CHECK(redlane_fiber_enter(fiber));
        CHECK_INTEGER(depth, 4000);
        redlane_fiber_start(fiber, walk, &walked);
        while (!redlane_fiber_enter(fiber)) {
        }
        CHECK(walked.intact);
        redlane_fiber_give(&pool, fiber);
    }
    redlane_fiber_pool_clear(&pool);
    CHECK(pool.count == 0);
}

static void
test_a_pool_keeps_a_few(void)
{
    RedlaneFiberPool pool = {0};
    RedlaneFiber *fibers[100];

    for (int i = 0; i < 100; i++) {
        fibers[i] = redlane_fiber_take(&pool);
        CHECK(fibers[i] != NULL);
    }
    for (int i = 0; i < 100; i++) {
        redlane_fiber_give(&pool, fibers[i]);
    }
    CHECK(pool.count == sizeof(pool.fibers) / sizeof(pool.fibers[0]));
    redlane_fiber_pool_clear(&pool);
}

void
test_fiber(void)
{
    test_switches();
    test_fibers_take_turns();
    test_a_fiber_is_used_again();
    test_a_pool_keeps_a_few();
}
