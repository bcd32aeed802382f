/* The memory engine as a member of the executor table. */
#ifndef REDLANE_STORE_ENGINE_STORE_H
#define REDLANE_STORE_ENGINE_STORE_H

#include "store/engine.h"
#include "store/store.h"
#include "wire/settings.h"

/* A store over a new engine; NULL with MemoryError. */
RedlaneStore *redlane_engine_store_new(RedlaneState *state, size_t max_bytes);

/* What is published on it reaches the subscriptions of that memory:// client. Holds the
 * settings. To be called once at most. */
void redlane_engine_store_publish_for(RedlaneStore *store, RedlaneSettings *settings);

/* A PUBLISH that an engine answered in the place of a server: it reaches the
 * subscriptions of this process to that. The reply: how many there were. NULL with
 * MemoryError. */
PyObject *redlane_engine_store_published(const RedlaneSettings *settings,
                                         const RedlaneVector *vector,
                                         PyObject *STEALS reply);

/* The engine inside; BORROWED. */
RedlaneEngine *redlane_engine_store_engine(RedlaneStore *store);

/* The engine of a store that is nothing else; NULL for any other. BORROWED */
RedlaneEngine *redlane_engine_store_find(RedlaneStore *store);

/* Drops every key that matches. RAISES_NEG */
int redlane_engine_store_forget(RedlaneStore *store, RedlaneArg pattern);

#endif
