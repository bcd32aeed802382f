/* Loaded before libc's: malloc and its kin, which can be told to fail when one module
 * calls them, and count what that module holds. What is freed is overwritten, so that
 * whoever still looks at it sees junk.
 *
 * glibc's own names for the real ones are used: looking them up would allocate. */
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);

#define SLOTS (1u << 20) /* blocks that are watched at a time, at most half */
#define GONE ((void *)1)

static uintptr_t range_start, range_end; /* the module's code */
static atomic_long until;                /* calls before the first that fails */
static atomic_long failing;              /* how many fail then; 0: none */
static atomic_long failed;
static atomic_long live;
static _Atomic(void *) slots[SLOTS]; /* open addressing; GONE where one was freed */

static size_t
slot_of(const void *block)
{
    return ((uintptr_t)block >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 44;
}

static void
watch(void *block)
{
    if (!block) {
        return;
    }
    for (size_t i = slot_of(block);; i = (i + 1) % SLOTS) {
        void *seen = atomic_load(&slots[i]);

        if ((!seen || seen == GONE) &&
            atomic_compare_exchange_strong(&slots[i], &seen, block)) {
            atomic_fetch_add(&live, 1);
            return;
        }
    }
}

/* True when the block was one of the module's. */
static bool
forget(void *block)
{
    for (size_t i = slot_of(block);; i = (i + 1) % SLOTS) {
        void *seen = atomic_load(&slots[i]);

        if (!seen) {
            return false;
        }
        if (seen == block) {
            atomic_store(&slots[i], GONE);
            atomic_fetch_sub(&live, 1);
            return true;
        }
    }
}

static bool
is_ours(const void *caller)
{
    return (uintptr_t)caller >= range_start && (uintptr_t)caller < range_end;
}

static bool
fails(void)
{
    long left;

    if (atomic_load(&failing) == 0) {
        return false;
    }
    left = atomic_fetch_sub(&until, 1);
    if (left > 1 || left <= 1 - atomic_load(&failing)) {
        return false;
    }
    atomic_fetch_add(&failed, 1);
    return true;
}

void *
malloc(size_t size)
{
    void *block;

    if (!is_ours(__builtin_return_address(0))) {
        return __libc_malloc(size);
    }
    block = fails() ? NULL : __libc_malloc(size);
    watch(block);
    return block;
}

void *
calloc(size_t count, size_t size)
{
    void *block;

    if (!is_ours(__builtin_return_address(0))) {
        return __libc_calloc(count, size);
    }
    block = fails() ? NULL : __libc_calloc(count, size);
    watch(block);
    return block;
}

void *
realloc(void *block, size_t size)
{
    bool ours = is_ours(__builtin_return_address(0)), watched;
    void *moved;

    if (ours && fails()) {
        return NULL;
    }
    watched = block && forget(block);
    moved = __libc_realloc(block, size);
    if (!moved && size) {
        moved = NULL;
        if (watched) {
            watch(block);
        }
    }
    else if (ours || watched) {
        watch(moved);
    }
    return moved;
}

void
free(void *block)
{
    if (block && forget(block)) {
        memset(block, 0xdd, malloc_usable_size(block));
    }
    __libc_free(block);
}

/* --- for the tests ---------------------------------------------------------------- */

void
failing_range(uintptr_t start, uintptr_t end)
{
    range_start = start;
    range_end = end;
}

/* The first-th call from now and the next ones, `count` in all, fail. */
void
failing_arm(long first, long count)
{
    atomic_store(&failed, 0);
    atomic_store(&until, first);
    atomic_store(&failing, count);
}

/* How many failed. */
long
failing_disarm(void)
{
    atomic_store(&failing, 0);
    return atomic_load(&failed);
}

long
failing_live(void)
{
    return atomic_load(&live);
}
