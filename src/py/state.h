/* The module's state: every Python object that is not an instance of our types.
 *
 * The fields are declared once, in REDLANE_STATE_OBJECTS; struct, traverse and clear
 * are made from that list, so none of them can forget one. No lock: the GIL. */
#ifndef REDLANE_PY_STATE_H
#define REDLANE_PY_STATE_H

#include "py/python.h"

#define REDLANE_STATE_OBJECTS(X)                 \
    /* exceptions */                             \
    X(RedlaneError)                              \
    X(ConnectionError)                           \
    X(TimeoutError)                              \
    X(ConfigurationError)                        \
    X(SerializationError)                        \
    X(ReplyError)                                \
    X(WrongTypeError)                            \
    X(AuthenticationError)                       \
    X(PermissionDeniedError)                     \
    X(ReadOnlyError)                             \
    X(OutOfMemoryError)                          \
    X(LoadingError)                              \
    X(BusyError)                                 \
    X(NoScriptError)                             \
    X(ExecAbortError)                            \
    /* types */                                  \
    X(ClientType)                                \
    X(ScanIteratorType)                          \
    X(PipelineType)                              \
    X(CommandMethodType)                         \
    X(CacheType)                                 \
    X(CachedFunctionType)                        \
    X(CachedMethodType)                          \
    X(CachedClassMethodType)                     \
    X(CacheInfoType)                             \
    X(CacheDisabledType)                         \
    X(CounterType)                               \
    X(VideoCacheType)                            \
    X(CooldownType)                              \
    X(CooldownStateType)                         \
    X(ToolHandleType)                            \
    X(TenantCacheType)                           \
    X(TenantContextType)                         \
    X(RateLimiterType)                           \
    X(DecisionType)                              \
    X(LimitStatusType)                           \
    X(MessageType)                               \
    X(BytesMessageType)                          \
    X(GapType)                                   \
    X(SubscriptionType)                          \
    X(SubscriptionWaitType)                      \
    X(LoopBellType)                              \
    X(ReadyAwaitableType)                        \
    X(FlowType)                                  \
    X(AsyncMethodType)                           \
    X(AsyncCacheType)                            \
    X(AsyncCounterType)                          \
    X(AsyncVideoCacheType)                       \
    X(AsyncCooldownType)                         \
    X(AsyncToolHandleType)                       \
    X(AsyncTenantContextType)                    \
    X(AsyncRateLimiterType)                      \
    X(LoopType)                                  \
    X(StreamType)                                \
    X(AsyncClientType)                           \
    X(AsyncPipelineType)                         \
    X(AsyncReplyType)                            \
    /* types/decision.c: tuples of names */      \
    X(limit_names)                               \
    X(limit_raw_names)                           \
    /* imported on first use; NULL until then */ \
    X(logger)                                    \
    X(logger_cache)                              \
    X(debug_level)                               \
    X(json_encode)                               \
    X(json_decode)                               \
    X(stdlib_dumps)                              \
    X(stdlib_loads)                              \
    X(describe_value)                            \
    X(dump_exception)                            \
    X(load_exception)                            \
    X(call_limited)                              \
    X(submit_refresh)                            \
    X(submit_task)                               \
    X(call_limited_task)                         \
    X(current_task)                              \
    X(find_codec)                                \
    X(zlib_compress)                             \
    X(zlib_decompressobj)                        \
    X(get_running_loop)                          \
    X(loop_bells)                                \
    X(flight_context)                            \
    /* constant texts */                         \
    X(syntax_error)                              \
    X(set_result)                                \
    X(set_exception)                             \
    X(scope_names)

struct RedlaneState {
#define REDLANE_STATE_FIELD(name) PyObject *name;
    REDLANE_STATE_OBJECTS(REDLANE_STATE_FIELD)
#undef REDLANE_STATE_FIELD
    unsigned long long default_version; /* types/tool.c: which default client */
    void *digest;                   /* py/digest.c: kept OpenSSL digest and context */
    void *flights;                  /* types/flight.c: computations under way */
    struct RedlaneFlows *flows;     /* types/flow.c */
    struct RedlaneReadyKept *ready; /* types/ready_awaitable.c: for the next ones */
    struct RedlaneDecisionsKept *decisions; /* types/decision.c: for the next ones */
    struct RedlaneLoops *loops;             /* wire/loop.c: the event loops in use */
    struct RedlaneBackground *background;   /* store/background.c: the one C thread */
};

/* The one module definition, in module.c. */
extern struct PyModuleDef redlane_module_def;

static inline RedlaneState *
redlane_state_of_module(PyObject *module)
{
    return (RedlaneState *)PyModule_GetState(module);
}

/* For a heap type made with PyType_FromModuleAndSpec (or its subclass); an exception
 * is set and NULL returned when it is not ours. */
RedlaneState *redlane_state_of_type(PyTypeObject *type);

int redlane_state_traverse(RedlaneState *state, visitproc visit, void *arg);
void redlane_state_clear(RedlaneState *state);

/* Adds `object` to the module under `name` and keeps a reference in `*slot`. STEALS
 * object, also on failure. RAISES_NEG */
int redlane_state_add(PyObject *module, PyObject **slot, const char *name,
                      PyObject *object);

#endif
