/* Fibers. Lock: none; one thread at a time has a fiber.
 *
 * On x86-64 a switch is the registers that a call must keep, in a dozen instructions;
 * elsewhere, and where the processor keeps a shadow of the stack, it is left to the
 * C library, which sets the signal mask with a system call besides. */
#include "core/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__x86_64__) && defined(__ELF__) && !defined(__CET__) && \
    !defined(REDLANE_FIBER_UCONTEXT)
#define OWN_SWITCH 1
#else
#define OWN_SWITCH 0
/* musl declares makecontext() but has none: without this the module could be built, and
 * not be imported. */
#if defined(__linux__) && !defined(__GLIBC__) && !defined(REDLANE_FIBER_UCONTEXT)
#error "redlane needs makecontext() here, which musl lacks: link libucontext \
(LDFLAGS=-lucontext) and define REDLANE_FIBER_UCONTEXT (CFLAGS)"
#endif
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) /* as Clang says it */
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MAP_STACK
#define MAP_STACK 0
#endif

#define KEPT ((size_t)64 << 10) /* of a stack that is trimmed */

/* One is trimmed each time that so many were given back: each in its turn, since those
 * at the bottom of the pool are not used again before the next rush. */
#define TRIM_EVERY 128

#define POOL_MAX (sizeof(((RedlaneFiberPool *)0)->fibers) / sizeof(RedlaneFiber *))

/* Wider than the page that a thread has: a function with a large array must not step
 * over it into the next fiber's stack. It takes no memory. */
#define GUARD ((size_t)256 << 10)

struct RedlaneFiber {
    void (*run)(void *context);
    void *context;
    bool done;
    char *stack; /* its lowest GUARD bytes are never touched */
#if OWN_SWITCH
    void *inside, *outside; /* stack pointers of who does not run */
#else
    ucontext_t inside, outside;
#endif
#ifdef SANITIZED
    void *fake; /* what the sanitizer keeps for its stack */
    const void *outer;
    size_t outer_size;
#endif
};

/* What AddressSanitizer must know of each switch. */
static void
tell_inward(RedlaneFiber *fiber, void **fake)
{
#ifdef SANITIZED
    __sanitizer_start_switch_fiber(fake, fiber->stack + GUARD,
                                   REDLANE_FIBER_STACK - GUARD);
#else
    (void)fiber;
    (void)fake;
#endif
}

static void
tell_back_outside(void *fake)
{
#ifdef SANITIZED
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#else
    (void)fake;
#endif
}

static void
tell_outward(RedlaneFiber *fiber)
{
#ifdef SANITIZED
    __sanitizer_start_switch_fiber(fiber->done ? NULL : &fiber->fake, fiber->outer,
                                   fiber->outer_size);
#else
    (void)fiber;
#endif
}

static void
tell_inside(RedlaneFiber *fiber)
{
#ifdef SANITIZED
    __sanitizer_finish_switch_fiber(fiber->fake, &fiber->outer, &fiber->outer_size);
#else
    (void)fiber;
#endif
}

#if OWN_SWITCH
/* Saves the registers that belong to the caller (System V ABI: rbx, rbp, r12 to r15,
 * the control words of SSE and x87) on this stack, its pointer in *from, and takes
 * those of the other. What begins there is given `argument`. */
void redlane_fiber_jump(void **from, void *to, void *argument);

__asm__(".text\n"
        ".p2align 4\n"
        ".globl redlane_fiber_jump\n"
        ".hidden redlane_fiber_jump\n"
        ".type redlane_fiber_jump,@function\n"
        "redlane_fiber_jump:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    subq $8, %rsp\n"
        "    stmxcsr (%rsp)\n"
        "    fnstcw 4(%rsp)\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    movq %rdx, %rdi\n"
        "    ldmxcsr (%rsp)\n"
        "    fldcw 4(%rsp)\n"
        "    addq $8, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size redlane_fiber_jump,.-redlane_fiber_jump\n");

typedef struct {
    uint32_t sse;
    uint32_t x87;
    uint64_t registers[6];
    void (*begin)(RedlaneFiber *fiber);
    uint64_t caller; /* none: here a debugger stops */
    uint64_t above[2];
} First;

static void
go_in(RedlaneFiber *fiber)
{
    redlane_fiber_jump(&fiber->outside, fiber->inside, fiber);
}

static void
go_out(RedlaneFiber *fiber)
{
    redlane_fiber_jump(&fiber->inside, fiber->outside, fiber);
}

static void begin(RedlaneFiber *fiber);

static void
prepare(RedlaneFiber *fiber)
{
    /* `begin` finds the stack as if it were called: 8 above a multiple of 16. */
    First *first =
        (First *)(void *)(fiber->stack + REDLANE_FIBER_STACK - sizeof(First));

    *first = (First){.sse = 0x1f80, .x87 = 0x037f, .begin = begin};
    fiber->inside = first;
}
#else
static void
go_in(RedlaneFiber *fiber)
{
    (void)swapcontext(&fiber->outside, &fiber->inside);
}

static void
go_out(RedlaneFiber *fiber)
{
    (void)swapcontext(&fiber->inside, &fiber->outside);
}

static void begin(RedlaneFiber *fiber);

/* makecontext passes ints. */
static void
begin_halves(unsigned high, unsigned low)
{
    begin((RedlaneFiber *)(uintptr_t)((uint64_t)high << 32 | low));
}

static void
prepare(RedlaneFiber *fiber)
{
    uint64_t address = (uint64_t)(uintptr_t)fiber;

    (void)getcontext(&fiber->inside);
    fiber->inside.uc_link = NULL;
    fiber->inside.uc_stack.ss_sp = fiber->stack + GUARD;
    fiber->inside.uc_stack.ss_size = REDLANE_FIBER_STACK - GUARD;
    makecontext(&fiber->inside, (void (*)(void))begin_halves, 2,
                (unsigned)(address >> 32), (unsigned)address);
}
#endif

static void
begin(RedlaneFiber *fiber)
{
    tell_inside(fiber);
    fiber->run(fiber->context);
    fiber->done = true;
    tell_outward(fiber);
    go_out(fiber);
    abort(); /* nobody enters what is done */
}

RedlaneFiber *
redlane_fiber_new(void)
{
    RedlaneFiber *fiber = calloc(1, sizeof(*fiber));
    void *stack;

    if (!fiber) {
        return NULL;
    }
    stack = mmap(NULL, REDLANE_FIBER_STACK, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        free(fiber);
        return NULL;
    }
    fiber->stack = stack;
    fiber->done = true;
    if (mprotect(stack, GUARD, PROT_NONE) < 0) {
        redlane_fiber_free(fiber);
        return NULL;
    }
#ifdef MADV_NOHUGEPAGE
    /* Else the first touch of it would take 2 MB. */
    (void)madvise(stack, REDLANE_FIBER_STACK, MADV_NOHUGEPAGE);
#endif
    return fiber;
}

void
redlane_fiber_free(RedlaneFiber *fiber)
{
    (void)munmap(fiber->stack, REDLANE_FIBER_STACK);
    free(fiber);
}

void
redlane_fiber_start(RedlaneFiber *fiber, void (*run)(void *context), void *context)
{
    fiber->run = run;
    fiber->context = context;
    fiber->done = false;
#ifdef SANITIZED
    fiber->fake = NULL;
#endif
    prepare(fiber);
}

bool
redlane_fiber_enter(RedlaneFiber *fiber)
{
    void *fake = NULL;

    tell_inward(fiber, &fake);
    go_in(fiber);
    tell_back_outside(fake);
    return fiber->done;
}

void
redlane_fiber_leave(RedlaneFiber *fiber)
{
    tell_outward(fiber);
    go_out(fiber);
    tell_inside(fiber);
}

static void
trim(RedlaneFiber *fiber)
{
    (void)madvise(fiber->stack + GUARD, REDLANE_FIBER_STACK - GUARD - KEPT,
                  MADV_DONTNEED);
}

RedlaneFiber *
redlane_fiber_take(RedlaneFiberPool *pool)
{
    return pool->count ? pool->fibers[--pool->count] : redlane_fiber_new();
}

void
redlane_fiber_give(RedlaneFiberPool *pool, RedlaneFiber *fiber)
{
    if (pool->count == POOL_MAX) {
        redlane_fiber_free(fiber);
        return;
    }
    pool->fibers[pool->count++] = fiber;
    if (++pool->given % TRIM_EVERY == 0) {
        trim(pool->fibers[pool->given / TRIM_EVERY % pool->count]);
    }
}

void
redlane_fiber_pool_clear(RedlaneFiberPool *pool)
{
    while (pool->count) {
        redlane_fiber_free(pool->fibers[--pool->count]);
    }
}
