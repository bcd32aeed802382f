/* AsyncVideoCache. Lock: the GIL. */
#include "types/async_video_cache.h"

#include <stddef.h>
#include <structmember.h>

#include "types/async_method.h"

static PyObject *
async_video_cache_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    RedlaneState *state = redlane_state_of_type(type);
    PyObject *options = kwargs ? PyDict_Copy(kwargs) : PyDict_New(), *sync = NULL;

    if (state && options && PyDict_SetItemString(options, "lazy", Py_True) == 0) {
        sync = PyObject_Call(state->VideoCacheType, args, options);
    }
    Py_XDECREF(options);
    return redlane_async_twin_new(state, type, sync);
}

PyDoc_STRVAR(async_video_cache_doc,
             "AsyncVideoCache(client=None)\n--\n\n"
             "A :class:`VideoCache` whose methods are awaited; also ``videos.aio``.\n\n"
             "It looks for the server at the first call, or at ``await startup()``.");

PyObject *
redlane_async_video_cache_of(RedlaneState *state, PyObject *videos)
{
    return redlane_async_twin_new(state, (PyTypeObject *)state->AsyncVideoCacheType,
                                  Py_NewRef(videos));
}

int
redlane_async_video_cache_setup(PyObject *module)
{
    static PyMemberDef members[] = {
        {"__weaklistoffset__", T_PYSSIZET, offsetof(RedlaneAsyncTwin, weakrefs),
         READONLY, NULL},
        {"sync", T_OBJECT_EX, offsetof(RedlaneAsyncTwin, sync), READONLY,
         "The VideoCache that it is the twin of."},
        {NULL, 0, 0, 0, NULL},
    };
    static PyType_Slot slots[] = {
        {Py_tp_doc, (void *)async_video_cache_doc},
        {Py_tp_new, async_video_cache_tp_new},
        {Py_tp_traverse, redlane_async_twin_tp_traverse},
        {Py_tp_clear, redlane_async_twin_tp_clear},
        {Py_tp_dealloc, redlane_async_twin_tp_dealloc},
        {Py_tp_repr, redlane_async_twin_tp_repr},
        {Py_tp_members, members},
        {0, NULL},
    };
    static PyType_Spec spec = {
        .name = "redlane.AsyncVideoCache",
        .basicsize = sizeof(RedlaneAsyncTwin),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    static const char *const awaited[] = {"set", "get", NULL};
    static const char *const threaded[] = {"get_stats", "startup", NULL};
    RedlaneState *state = redlane_state_of_module(module);
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);

    if (redlane_state_add(module, &state->AsyncVideoCacheType, "AsyncVideoCache",
                          type) < 0 ||
        redlane_async_methods_add(state, type, state->VideoCacheType, awaited, false) <
            0) {
        return -1;
    }
    return redlane_async_methods_add(state, type, state->VideoCacheType, threaded,
                                     true);
}
