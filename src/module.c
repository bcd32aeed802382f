/* The list of what redlane._core sets up, in order. */
#include "py/digest.h"
#include "py/errors.h"
#include "py/python.h"
#include "py/state.h"
#include "store/background.h"
#include "store/background_setup.h"
#include "types/async_cache.h"
#include "types/async_cooldown.h"
#include "types/async_counter.h"
#include "types/async_method.h"
#include "types/async_rate_limiter.h"
#include "types/async_reply.h"
#include "types/async_video_cache.h"
#include "types/cache.h"
#include "types/cached_function.h"
#include "types/cached_method.h"
#include "types/client.h"
#include "types/command_method.h"
#include "types/content_key.h"
#include "types/cooldown.h"
#include "types/cooldown_state.h"
#include "types/counter.h"
#include "types/decision.h"
#include "types/flight.h"
#include "types/flow.h"
#include "types/loop_bell.h"
#include "types/message.h"
#include "types/monitor.h"
#include "types/pubsub.h"
#include "types/rate_limiter.h"
#include "types/ready_awaitable.h"
#include "types/rest.h"
#include "types/stored.h"
#include "types/subscription.h"
#include "types/tenant_cache.h"
#include "types/tool.h"
#include "types/tool_handle.h"
#include "types/video_cache.h"
#include "types/web_hit.h"
#include "wire/channel.h"
#include "wire/loop.h"

static int
module_exec(PyObject *module)
{
    /* A list reads best with one to a line. */
    /* clang-format off */
    static int (*const setups[])(PyObject *) = {
        redlane_errors_setup,
        redlane_background_setup,
        redlane_command_method_setup,
        redlane_client_setup,
        redlane_pipeline_setup,
        redlane_scan_iterator_setup,
        redlane_loop_setup,
        redlane_stream_setup,
        redlane_async_reply_setup,
        redlane_async_client_setup,
        redlane_async_pipeline_setup,
        redlane_content_key_setup,
        redlane_flight_setup,
        redlane_ready_awaitable_setup,
        redlane_flow_setup,
        redlane_cache_setup,
        redlane_cached_function_setup,
        redlane_cached_method_setup,
        redlane_cached_classmethod_setup,
        redlane_counter_setup,
        redlane_video_cache_setup,
        redlane_cooldown_state_setup,
        redlane_cooldown_setup,
        redlane_decision_setup,
        redlane_rate_limiter_setup,
        redlane_message_setup,
        redlane_message_bytes_setup,
        redlane_gap_setup,
        redlane_loop_bell_setup,
        redlane_subscription_wait_setup,
        redlane_subscription_setup,
        redlane_pubsub_setup,
        redlane_rest_setup,
        redlane_async_method_setup,
        redlane_async_cache_setup,
        redlane_async_counter_setup,
        redlane_async_video_cache_setup,
        redlane_async_cooldown_setup,
        redlane_tool_handle_setup,
        redlane_tenant_context_setup,
        redlane_tenant_cache_setup,
        redlane_async_tenant_context_setup,
        redlane_async_rate_limiter_setup,
        redlane_tool_setup,
        redlane_monitor_setup,
        redlane_stored_setup,
        redlane_web_hit_setup,
    };
    /* clang-format on */

    for (size_t i = 0; i < sizeof(setups) / sizeof(setups[0]); i++) {
        if (setups[i](module) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    RedlaneState *state = redlane_state_of_module(module);
    int result = redlane_ready_awaitable_visit_kept(state, visit, arg);

    return result ? result : redlane_state_traverse(state, visit, arg);
}

static int
module_clear(PyObject *module)
{
    redlane_ready_awaitable_drop_kept(redlane_state_of_module(module));
    redlane_state_clear(redlane_state_of_module(module));
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear((PyObject *)module);
    redlane_digest_clear(redlane_state_of_module((PyObject *)module));
    redlane_flight_table_free(redlane_state_of_module((PyObject *)module));
    redlane_ready_awaitable_free_kept(redlane_state_of_module((PyObject *)module));
    redlane_decision_free_kept(redlane_state_of_module((PyObject *)module));
    redlane_flow_free_kept(redlane_state_of_module((PyObject *)module));
    redlane_loops_release(redlane_state_of_module((PyObject *)module)->loops);
    redlane_background_release(redlane_state_of_module((PyObject *)module)->background);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

PyDoc_STRVAR(module_doc,
             "The C core of redlane. Use the names of the package instead.");

struct PyModuleDef redlane_module_def = {
    PyModuleDef_HEAD_INIT,   .m_name = "redlane._core",
    .m_doc = module_doc,     .m_size = sizeof(RedlaneState),
    .m_slots = module_slots, .m_traverse = module_traverse,
    .m_clear = module_clear, .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&redlane_module_def);
}
