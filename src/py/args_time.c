/* Times as arguments: TTLs, periods and moments, from numbers, text, timedelta,
 * datetime.
 *
 * GIL held. The datetime module is never imported for a number: an object of its types
 * can only come from a process that has imported it. */
#include "py/args.h"

#include <datetime.h>
#include <math.h>

#include "core/duration.h"

/* Redis adds its clock (about 2^41 ms today, 2^42 in 2109) to a TTL in int64. */
#define MAX_MS (INT64_MAX - (INT64_C(1) << 42))

static int
refuse_value(const char *name, const char *why)
{
    PyErr_Format(PyExc_ValueError, "%s must be %s", name, why);
    return -1;
}

static int
refuse_type(const char *name, const char *types, PyObject *object)
{
    PyErr_Format(PyExc_TypeError, "%s must be %s, not %.100s", name, types,
                 Py_TYPE(object)->tp_name);
    return -1;
}

static int
ms_from_double(double value, const char *name, int64_t scale, int64_t *milliseconds)
{
    double scaled = value * (double)scale;

    if (!Py_IS_FINITE(value)) {
        return refuse_value(name, "finite");
    }
    if (value <= 0) {
        return refuse_value(name, "greater than zero");
    }
    if (scaled >= (double)MAX_MS) {
        return refuse_value(name, "smaller: Redis cannot keep a time so far away");
    }
    *milliseconds = (int64_t)rint(scaled);
    if (*milliseconds == 0) {
        *milliseconds = 1; /* 0 would mean at once */
    }
    return 0;
}

static int
ms_from_long(PyObject *object, const char *name, int64_t scale, int64_t *milliseconds)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);

    if (overflow < 0 || (!overflow && value <= 0)) {
        return refuse_value(name, "greater than zero");
    }
    if (overflow || value > MAX_MS / scale) {
        return refuse_value(name, "smaller: Redis cannot keep a time so far away");
    }
    *milliseconds = value * scale;
    return 0;
}

/* Numbers, which need no datetime module. 1 when `object` is something else. */
static int
ms_from_number(PyObject *object, const char *name, int64_t scale, int64_t *milliseconds)
{
    if (PyLong_Check(object) && !PyBool_Check(object)) {
        return ms_from_long(object, name, scale, milliseconds);
    }
    if (PyFloat_Check(object)) {
        return ms_from_double(PyFloat_AS_DOUBLE(object), name, scale, milliseconds);
    }
    return 1;
}

/* "10m" and the like, which say their own unit. */
static int
ms_from_text(PyObject *object, const char *name, int64_t *milliseconds)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(object, &size);
    RedlaneDuration parsed;

    if (!text) {
        return -1;
    }
    parsed = redlane_duration_parse(text, (size_t)size, milliseconds);
    if (parsed == REDLANE_DURATION_SYNTAX) {
        PyErr_Format(PyExc_ValueError,
                     "%s: %R is no period: numbers with the units w, d, h, m, s and ms "
                     "in this order, such as '10m' or '1h30m'",
                     name, object);
        return -1;
    }
    if (parsed == REDLANE_DURATION_TOO_LONG || *milliseconds > MAX_MS) {
        return refuse_value(name, "smaller: Redis cannot keep a time so far away");
    }
    return *milliseconds > 0 ? 0 : refuse_value(name, "greater than zero");
}

static int
load_datetime(void)
{
    if (!PyDateTimeAPI) {
        PyDateTime_IMPORT;
    }
    return PyDateTimeAPI ? 0 : -1;
}

static int
period_ms(PyObject *object, const char *name, int64_t scale, int64_t *milliseconds)
{
    int status = ms_from_number(object, name, scale, milliseconds);
    int64_t seconds, microseconds;

    if (status <= 0) {
        return status;
    }
    if (PyUnicode_Check(object)) {
        return ms_from_text(object, name, milliseconds);
    }
    if (load_datetime() < 0) {
        return -1;
    }
    if (!PyDelta_Check(object)) {
        return refuse_type(name, "a number, a timedelta or a text such as '10m'",
                           object);
    }
    seconds = PyDateTime_DELTA_GET_DAYS(object) * INT64_C(86400) +
              PyDateTime_DELTA_GET_SECONDS(object);
    microseconds = PyDateTime_DELTA_GET_MICROSECONDS(object);
    if (seconds < 0 || (seconds == 0 && microseconds == 0)) {
        return refuse_value(name, "greater than zero");
    }
    *milliseconds = seconds * 1000 + (microseconds + 500) / 1000;
    if (*milliseconds == 0) {
        *milliseconds = 1;
    }
    return 0;
}

int
redlane_args_ttl_ms(PyObject *object, const char *name, int64_t *milliseconds)
{
    return period_ms(object, name, 1000, milliseconds);
}

int
redlane_args_period_ms(PyObject *object, const char *name, int64_t *milliseconds)
{
    return period_ms(object, name, 1, milliseconds);
}

int
redlane_args_moment_ms(PyObject *object, const char *name, int64_t scale,
                       int64_t *milliseconds)
{
    int status = ms_from_number(object, name, scale, milliseconds);
    PyObject *timestamp;

    if (status <= 0) {
        return status;
    }
    if (load_datetime() < 0) {
        return -1;
    }
    if (!PyDateTime_Check(object)) {
        return refuse_type(name, "an int, a float or a datetime", object);
    }
    timestamp = PyObject_CallMethod(object, "timestamp", NULL);
    if (!timestamp) {
        return -1;
    }
    if (PyFloat_Check(timestamp)) {
        status = ms_from_double(PyFloat_AS_DOUBLE(timestamp), name, 1000, milliseconds);
    }
    else {
        status = refuse_type(name, "a datetime with a timestamp", timestamp);
    }
    Py_DECREF(timestamp);
    return status;
}
