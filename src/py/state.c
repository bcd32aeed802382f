#include "py/state.h"

RedlaneState *
redlane_state_of_type(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030B0000
    PyObject *module = PyType_GetModuleByDef(type, &redlane_module_def);

    return module ? redlane_state_of_module(module) : NULL;
#else
    /* 3.10: walk the bases by hand; a Python subclass has no module state. */
    PyTypeObject *base;

    for (base = type; base; base = base->tp_base) {
        PyObject *module;

        if (!(base->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
            break;
        }
        module = ((PyHeapTypeObject *)base)->ht_module;
        if (module && PyModule_GetDef(module) == &redlane_module_def) {
            return redlane_state_of_module(module);
        }
    }
    PyErr_SetString(PyExc_TypeError, "not a type of redlane._core");
    return NULL;
#endif
}

int
redlane_state_traverse(RedlaneState *state, visitproc visit, void *arg)
{
#define REDLANE_STATE_VISIT(name) Py_VISIT(state->name);
    REDLANE_STATE_OBJECTS(REDLANE_STATE_VISIT)
#undef REDLANE_STATE_VISIT
    return 0;
}

void
redlane_state_clear(RedlaneState *state)
{
#define REDLANE_STATE_CLEAR(name) Py_CLEAR(state->name);
    REDLANE_STATE_OBJECTS(REDLANE_STATE_CLEAR)
#undef REDLANE_STATE_CLEAR
}

int
redlane_state_add(PyObject *module, PyObject **slot, const char *name, PyObject *object)
{
    if (!object) {
        return -1;
    }
    *slot = object;
    return PyModule_AddObjectRef(module, name, object);
}
