/* RateLimiter, and what its files share. Under the GIL. */
#ifndef REDLANE_TYPES_RATE_LIMITER_H
#define REDLANE_TYPES_RATE_LIMITER_H

#include <stdbool.h>

#include "core/limit_ahead.h"
#include "core/limit_blocked.h"
#include "types/limit_rates.h"
#include "types/tool.h"

#define REDLANE_LIMITER_PREFIX_MAX 256
#define REDLANE_LIMITER_IDENTITY_MAX 200 /* bytes; what is longer is hashed */

typedef enum {
    REDLANE_LIMITER_MEMORY, /* the engine decides while the server is away */
    REDLANE_LIMITER_ALLOW,
    REDLANE_LIMITER_DENY,
} RedlaneLimiterOnError;

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    RedlaneTool tool;
    PyObject *algorithm; /* str, as it was given */
    PyObject *prefix;    /* str */
    RedlaneLimitKind kind;
    RedlaneLimiterOnError on_error;
    bool readable; /* a fixed window's keys are {prefix}:{identity}:{window} */
    bool hashed;   /* identities stand in keys as their SHA-256 */
    char head[REDLANE_LIMITER_PREFIX_MAX + 2]; /* what keys begin with */
    size_t head_size;
    int64_t shift; /* microseconds that the server's clock is ahead, as last heard */
    RedlaneRatesCache rates;
    RedlaneLimitNotes *blocked; /* made on first need, or NULL */
    int64_t batch;              /* units to take in advance, or 0: none */
    RedlaneLimitNotes *ahead;   /* made on first need, or NULL */
    int ahead_depth;            /* of the process that has taken them */
    uint64_t asked;             /* numbers those who take some */
    struct {
        unsigned long long allowed, refused; /* hits */
        unsigned long long remembered; /* refused without asking: known to be blocked */
        unsigned long long ahead;      /* allowed likewise: charged in advance */
        unsigned long long away;       /* decided by `on_error` */
        unsigned long long errors;     /* raised */
    } counts;
    PyObject *weakrefs;
} RedlaneRateLimiter;

int redlane_rate_limiter_setup(PyObject *module);

/* An identity as it stands in keys, and, but for hashed ones, as it was given. */
typedef struct {
    char text[REDLANE_LIMITER_IDENTITY_MAX];
    size_t size;
} RedlaneIdentity;

/* str, bytes or int. RAISES_NEG */
int redlane_limiter_identity(RedlaneRateLimiter *limiter, PyObject *object,
                             RedlaneIdentity *identity);

/* 'h', 'p' or 'r', of `cost` within the rates' bounds: a Decision, or NULL. */
PyObject *redlane_limiter_decide(RedlaneRateLimiter *limiter, char mode,
                                 const RedlaneIdentity *identity, RedlaneRates *rates,
                                 int64_t cost);

/* One hit, peek or refund as the server, or who stands in for it, decides it:
 * answers[], and by whom. Nothing is counted or remembered. RAISES_NEG */
int redlane_limiter_ask(RedlaneRateLimiter *limiter, char mode,
                        const RedlaneIdentity *identity, const RedlaneRates *rates,
                        int64_t cost, RedlaneLimitAnswer *answers,
                        RedlaneAnswer *answer);

/* Whether a hit was refused; counts it, and remembers a refusal. */
bool redlane_limiter_count(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
                           const RedlaneRates *rates, int64_t cost,
                           const RedlaneLimitAnswer *answers, RedlaneAnswer answer);

/* limiter_ahead.c: where the limiter has a batch.
 *
 * A hit spends what was taken in advance: a Decision, or NULL where there is too little
 * of it (no exception). */
PyObject *redlane_limiter_spend(RedlaneRateLimiter *limiter,
                                const RedlaneIdentity *identity,
                                const RedlaneRates *rates, int64_t cost);

/* A hit that asks, and takes more than its cost where that is worth it. */
PyObject *redlane_limiter_take(RedlaneRateLimiter *limiter,
                               const RedlaneIdentity *identity, RedlaneRates *rates,
                               int64_t cost);

/* The answers to a peek or refund, with what was taken in advance. */
void redlane_limiter_add_ahead(RedlaneRateLimiter *limiter,
                               const RedlaneIdentity *identity,
                               const RedlaneRates *rates, int64_t cost,
                               RedlaneLimitAnswer *answers);

void redlane_limiter_forget_ahead(RedlaneRateLimiter *limiter,
                                  const RedlaneIdentity *identity);
void redlane_limiter_free_ahead(RedlaneRateLimiter *limiter);

/* The same where nothing has to be waited for. NULL without an exception: it has. */
PyObject *redlane_limiter_decide_here(RedlaneRateLimiter *limiter, char mode,
                                      const RedlaneIdentity *identity,
                                      const RedlaneRates *rates, int64_t cost);

/* hit, peek and refund, likewise: RedlaneAsyncQuick. */
PyObject *redlane_rate_limiter_hit_here(PyObject *self, PyObject *const *args,
                                        Py_ssize_t nargs, PyObject *kwnames);
PyObject *redlane_rate_limiter_peek_here(PyObject *self, PyObject *const *args,
                                         Py_ssize_t nargs, PyObject *kwnames);
PyObject *redlane_rate_limiter_refund_here(PyObject *self, PyObject *const *args,
                                           Py_ssize_t nargs, PyObject *kwnames);

/* Forgets what counts: 1 where there was anything. RAISES_NEG */
int redlane_limiter_reset(RedlaneRateLimiter *limiter, const RedlaneIdentity *identity,
                          RedlaneRates *rates);

#endif
