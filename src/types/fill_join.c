/* Waiting for what another thread of this process computes. Lock: the GIL. */
#include "py/state.h"
#include "types/fill.h"
#include "types/flight.h"

int
redlane_fill_open_flight(const RedlaneFill *fill, const RedlaneFlight *flight,
                         PyObject **value)
{
    RedlaneOpening opening = {
        .key = {flight->key, flight->key_size},
        .type = fill->type,
        .size_max = REDLANE_ENVELOPE_RAW_MAX,
    };
    int current = 1;

    *value = redlane_envelope_loads(fill->serializer, &opening, flight->value);
    if (!*value) {
        if (!PyErr_ExceptionMatches(fill->tool->state->SerializationError)) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    if (!fill->tags || fill->tags->known) {
        current = redlane_fill_tags_check(fill, &opening.header);
    }
    if (current != 1) { /* begun before an invalidation that we came after */
        Py_CLEAR(*value);
        return current < 0 ? -1 : 2;
    }
    REDLANE_FILL_COUNT(fill, waits, 1);
    return 1;
}

int
redlane_fill_join(const RedlaneFill *fill, RedlaneFlight *flight, PyObject **value)
{
    int result = redlane_flight_wait(flight);

    if (result == 1) {
        if (flight->error) {
            REDLANE_FILL_COUNT(fill, waits, 1);
            PyErr_SetObject((PyObject *)Py_TYPE(flight->error), flight->error);
            result = -1;
        }
        else if (flight->value) {
            result = redlane_fill_open_flight(fill, flight, value);
        }
        else {
            result = flight->abandoned ? 2 : 0;
        }
    }
    redlane_flight_release(flight);
    return result;
}
