/* What all stores share: one vector through a store that has only `run`.
 *
 * With the GIL. */
#include "store/store.h"

PyObject *
redlane_store_execute(RedlaneStore *store, const RedlaneRequest *request,
                      const RedlaneVector *vector)
{
    PyObject *reply = NULL;

    if (likely(store->ops->execute != NULL)) {
        return store->ops->execute(store, request, vector);
    }
    if (store->ops->run(store, request, vector, 1, &reply) < 0) {
        return NULL;
    }
    if (unlikely(PyExceptionInstance_Check(reply))) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        Py_CLEAR(reply);
    }
    return reply;
}
