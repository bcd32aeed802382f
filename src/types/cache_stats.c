/* What a cache did. Lock: the GIL. */
#include "types/cache.h"

PyDoc_STRVAR(
    stats_doc,
    "stats($self, /)\n--\n\n"
    "What this cache did in this process, its cached functions included.\n\n"
    "Returns:\n"
    "    dict: ``hits``, ``near_hits`` (those of them that did not leave the\n"
    "    process), ``misses``, ``sets``, ``deletes``, ``errors`` (of the link or\n"
    "    the server, where the cache went on without), ``corrupted`` (unreadable\n"
    "    values dropped), ``bad_seals`` (those of them without a valid seal),\n"
    "    ``waits`` (answered by another caller's computation), ``stale``\n"
    "    (answered by a value past its time), ``refreshes`` (functions run\n"
    "    behind), ``refresh_errors`` (those that failed, behind or in front of an\n"
    "    old value), ``uncached``\n"
    "    (results that cannot be serialised), ``bytes_read``, ``bytes_written``,\n"
    "    and ``cache_type``: ``\"redis\"``, ``\"memory\"`` or ``\"none\"``, what\n"
    "    answers now.");

PyDoc_STRVAR(counts_doc, "_counts($self, /)\n--\n\n"
                         "The numbers of stats(); nobody is asked what answers now.");

static PyObject *
cache_counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const RedlaneCounts *counts = &((RedlaneCache *)self)->counts;

    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsKsKsKsKsKsKsK}", "hits",
        (unsigned long long)(counts->hits + counts->near_hits), "near_hits",
        (unsigned long long)counts->near_hits, "misses",
        (unsigned long long)counts->misses, "sets", (unsigned long long)counts->sets,
        "deletes", (unsigned long long)counts->deletes, "errors",
        (unsigned long long)counts->errors, "corrupted",
        (unsigned long long)counts->corrupted, "bad_seals",
        (unsigned long long)counts->bad_seals, "waits",
        (unsigned long long)counts->waits, "stale", (unsigned long long)counts->stale,
        "refreshes", (unsigned long long)counts->refreshes, "refresh_errors",
        (unsigned long long)counts->refresh_errors, "uncached",
        (unsigned long long)counts->uncached, "bytes_read",
        (unsigned long long)counts->bytes_read, "bytes_written",
        (unsigned long long)counts->bytes_written);
}

static PyObject *
cache_stats(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *type = redlane_tool_cache_type(&((RedlaneCache *)self)->tool);
    PyObject *stats = type ? cache_counts(self, NULL) : NULL;

    if (stats && PyDict_SetItemString(stats, "cache_type", type) < 0) {
        Py_CLEAR(stats);
    }
    Py_XDECREF(type);
    return stats;
}

PyMethodDef redlane_cache_stats_methods[] = {
    {"stats", cache_stats, METH_NOARGS, stats_doc},
    {"_counts", cache_counts, METH_NOARGS, counts_doc},
    {NULL, NULL, 0, NULL},
};
