/* The memory engine as a member of the executor table. */
#ifndef REDLANE_STORE_ENGINE_STORE_H
#define REDLANE_STORE_ENGINE_STORE_H

#include "store/engine.h"
#include "store/store.h"

/* A store over a new engine; NULL with MemoryError. */
RedlaneStore *redlane_engine_store_new(RedlaneState *state, size_t max_bytes);

/* The engine inside; BORROWED. */
RedlaneEngine *redlane_engine_store_engine(RedlaneStore *store);

/* Drops every key that matches. RAISES_NEG */
int redlane_engine_store_forget(RedlaneStore *store, RedlaneArg pattern);

#endif
