#include "core/fork.h"

#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

/* What the hooks did, as letters, in order. */
typedef struct {
    char told[16];
    size_t count;
} Told;

typedef struct {
    Told *told;
    char first; /* the letter of prepare; parent and child are the next two */
} Owner;

static void
tell(Told *told, char letter)
{
    if (told->count < sizeof(told->told)) {
        told->told[told->count++] = letter;
    }
}

static void
owner_prepare(void *context)
{
    tell(((Owner *)context)->told, ((Owner *)context)->first);
}

static void
owner_parent(void *context)
{
    tell(((Owner *)context)->told, (char)(((Owner *)context)->first + 1));
}

static void
owner_child(void *context)
{
    tell(((Owner *)context)->told, (char)(((Owner *)context)->first + 2));
}

void
test_fork_hooks(void)
{
    Told told = {0};
    Owner owners[] = {{&told, 'a'}, {&told, 'x'}};
    RedlaneForkHook hooks[2];
    pid_t child;
    int status = 0;

    for (int i = 0; i < 2; i++) {
        hooks[i] = (RedlaneForkHook){i ? REDLANE_FORK_ENGINE : REDLANE_FORK_POOL,
                                     owner_prepare,
                                     owner_parent,
                                     owner_child,
                                     &owners[i],
                                     NULL};
        CHECK_INTEGER(redlane_fork_register(&hooks[i]), 0);
        CHECK_INTEGER(redlane_fork_register(&hooks[i]), 0); /* counts once */
    }
    child = fork();
    if (child == 0) { /* by rank, then the other way round */
        _exit(told.count == 4 && memcmp(told.told, "xacz", 4) == 0 ? 0 : 1);
    }
    CHECK_INTEGER(waitpid(child, &status, 0), child);
    CHECK_INTEGER(status, 0);
    CHECK(told.count == 4 && memcmp(told.told, "xaby", 4) == 0);
    redlane_fork_unregister(&hooks[0]);
    redlane_fork_unregister(&hooks[1]);
}
