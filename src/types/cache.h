/* Cache: values under one prefix on one server. Under the GIL.
 *
 * cache.c: the type, its options and `cache(...)`; cache_values.c: one key at a time;
 * cache_compute.c: get_or_set; cache_numbers.c: those that are counted; cache_many.c:
 * several; cache_pattern.c: all that match; cache_tags.c: tags and namespaces;
 * cache_disabled.c: the context manager.
 */
#ifndef REDLANE_TYPES_CACHE_H
#define REDLANE_TYPES_CACHE_H

#include "types/fill.h"

typedef struct RedlaneCache RedlaneCache;

struct RedlaneCache {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED */
    RedlaneTool tool;
    RedlaneCache *parent; /* of a namespace: owns the seal; or NULL */
    PyObject *namespaces; /* tuple: keys of the generations that its values carry, its
                             own the last; NULL where it is no namespace */
    RedlaneSerializer serializer;
    RedlaneSerializer numbers; /* JSON: what counters are, whatever the values are */
    PyObject *prefix;          /* str */
    PyObject *head;            /* what keys begin with: "{prefix}:" or "" */
    PyObject *counters;        /* list of the Counters declared on it */
    PyObject *disabled; /* a ContextVar, true inside `with cache.disabled()`; NULL until
                           that is used once */
    PyObject *shown;    /* for log lines of get_or_set */
    PyObject *weakrefs;
    int64_t ttl_ms; /* 0: none */
    int64_t near_ttl_ms;
    bool near_blind;      /* near_ttl was given: near also where no change is told */
    RedlaneNearForm form; /* of what its serializer decodes */
    bool near;            /* wanted, and there is a prefix to watch */
    bool strict;
    bool logged; /* an uncacheable value of get_or_set */
    RedlaneCounts counts;
};

int redlane_cache_setup(PyObject *module);

/* The methods, in the files named above; an entry without a name ends each list. */
extern PyMethodDef redlane_cache_value_methods[];
extern PyMethodDef redlane_cache_compute_methods[];
extern PyMethodDef redlane_cache_number_methods[];
extern PyMethodDef redlane_cache_many_methods[];
extern PyMethodDef redlane_cache_pattern_methods[];
extern PyMethodDef redlane_cache_tag_methods[];
extern PyMethodDef redlane_cache_stats_methods[];

/* A full key: the prefix and a str or bytes. Short ones live in the struct, which must
 * not move. Clear it in any case. RAISES_NEG */
#define REDLANE_CACHE_KEY_INLINE 120

typedef struct {
    RedlaneArg key;
    char *large; /* malloc'd, or NULL */
    char text[REDLANE_CACHE_KEY_INLINE];
} RedlaneCacheKey;

int redlane_cache_key_init(RedlaneCacheKey *key, RedlaneCache *cache, PyObject *name);
void redlane_cache_key_clear(RedlaneCacheKey *key);

/* 1 inside `with cache.disabled()` in this context, or the same of a cache that it is a
 * namespace of. RAISES_NEG */
int redlane_cache_is_disabled(RedlaneCache *cache);
PyObject *redlane_cache_disabled(PyObject *self, PyObject *ignored);
int redlane_cache_disabled_setup(PyObject *module);

/* An optional TTL argument; None and NULL are the cache's own. RAISES_NEG */
int redlane_cache_ttl(RedlaneCache *cache, PyObject *ttl, int64_t *milliseconds);

/* What get() gives where that is near: a new reference. NULL: it has to ask; only an
 * interruption is set. */
PyObject *redlane_cache_get_near(PyObject *cache, PyObject *const *args,
                                 Py_ssize_t nargs, PyObject *kwnames);

/* What reading and filling a key of this cache needs; the loader is the caller's. */
RedlaneFill redlane_cache_fill(RedlaneCache *cache);

/* Makes the tool's glob that matches every key under the prefix; without one there is
 * none. RAISES_NEG */
int redlane_cache_find_space(RedlaneCache *cache);

/* Lets a fill read and keep near values, where the cache has any. */
void redlane_cache_use_near(RedlaneCache *cache, RedlaneFill *fill);

/* The serializer of a full key: that of a declared counter is JSON. */
RedlaneSerializer *redlane_cache_serializer(RedlaneCache *cache, RedlaneArg key);

/* New bytes to store for a value, wrapped as the cache's options say, with its tags
 * (whose generations are known; or NULL); NULL: as redlane_serializer_dumps. */
PyObject *redlane_cache_dumps(RedlaneCache *cache, RedlaneArg key, int64_t ttl_ms,
                              const RedlaneTags *tags, PyObject *value);

/* cache_tags.c: the generations for values that are to be set, made where they are
 * missing; `given` is what the caller named, or NULL. 1: *tags is to be freed (NULL: no
 * tags); 0: they are not to be had, so nothing may be set. RAISES_NEG */
int redlane_cache_tags_begin(RedlaneCache *cache, PyObject *given, int64_t ttl_ms,
                             RedlaneTags **tags);

/* Ends all values of a namespace: whether there may have been any. RAISES_NEG */
int redlane_cache_clear_namespace(RedlaneCache *cache);

/* A value of a key that is there and is a hit: 1, 0. RAISES_NEG */
int redlane_cache_is_current(RedlaneCache *cache, RedlaneArg key);

/* A namespace, and the caches in it, have no numbers that the server counts. RAISES_NEG
 */
int redlane_cache_check_counting(const RedlaneCache *cache);

/* Tells running computations of a key that it changes. */
void redlane_cache_mark(RedlaneCache *cache, RedlaneArg key);

/* Deletes a full key: 1 there was a value, 0 nothing or a lease. RAISES_NEG */
int redlane_cache_delete_key(RedlaneCache *cache, RedlaneArg key);

/* Deletes every key that matches a full pattern; how many went, or NULL. */
PyObject *redlane_cache_invalidate_pattern(RedlaneCache *cache, RedlaneArg pattern);

/* The counter that was declared for a full key; BORROWED, or NULL (no exception). */
PyObject *redlane_cache_find_counter(RedlaneCache *cache, RedlaneArg key);

#endif
