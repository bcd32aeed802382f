/* Rate limits on the engine: the script LIMIT as native code, and the same without
 * vectors and replies for a limiter that has an engine of its own. Plain C. */
#ifndef REDLANE_STORE_ENGINE_LIMITS_H
#define REDLANE_STORE_ENGINE_LIMITS_H

#include "core/limit.h"
#include "core/reply.h"
#include "core/vector.h"
#include "store/engine.h"

typedef struct {
    char mode; /* 'h' hit, 'p' peek, 'r' refund */
    int64_t cost;
    int64_t now; /* Unix microseconds; 0: the clock's */
    size_t count;
    struct {
        RedlaneArg key;
        const RedlaneLimit *limit;
        int64_t index; /* FIXED: the window that the key names */
        bool lenient;  /* FIXED: the windows next to the present one will do */
    } on[REDLANE_LIMITS_MAX];
} RedlaneLimitCall;

typedef enum {
    REDLANE_LIMITS_DECIDED,
    REDLANE_LIMITS_STALE,  /* a key names another window: nothing was done */
    REDLANE_LIMITS_FAILED, /* there is no memory, or no room: nothing is charged */
} RedlaneLimitsVerdict;

/* Decides; *now and answers[] are as the script's reply. Takes the engine's lock. */
RedlaneLimitsVerdict redlane_engine_limit(RedlaneEngine *engine,
                                          const RedlaneLimitCall *call, int64_t *now,
                                          RedlaneLimitAnswer *answers);

/* Within the engine: the same, its lock held; *grown where an entry was made. */
RedlaneLimitsVerdict
redlane_engine_limit_locked(RedlaneEngine *engine, const RedlaneLimitCall *call,
                            int64_t *now, RedlaneLimitAnswer *answers, bool *grown);

/* LIMIT, its lock held. */
void redlane_engine_run_limit(RedlaneEngine *engine, const RedlaneArg *keys,
                              size_t count, const RedlaneArg *argv, size_t argc,
                              RedlaneReply *reply);

#endif
