/* Telling a server what it missed: the journal, batch by batch, on one connection.
 * Plain C, no GIL. */
#ifndef REDLANE_STORE_REPLAY_H
#define REDLANE_STORE_REPLAY_H

#include <pthread.h>

#include "core/fault.h"
#include "core/journal.h"
#include "wire/connection.h"

typedef enum {
    REDLANE_REPLAY_DONE,    /* the journal is empty; the lock is held */
    REDLANE_REPLAY_REFUSED, /* the server takes no writes; the lock is held */
    REDLANE_REPLAY_FAILED,  /* the link failed; the lock is held */
} RedlaneReplayResult;

/* Sends what `journal` holds until that is empty. `lock` is the journal's; it is held
 * when this is called and when it returns, and given up while the server is waited for.
 * Each batch has `timeout` ns. With REFUSED and FAILED the fault is set. */
RedlaneReplayResult redlane_replay_nogil(RedlaneConnection *connection,
                                         RedlaneJournal *journal, pthread_mutex_t *lock,
                                         int64_t timeout, RedlaneFault *fault);

/* A write of nothing, of the kind that a full or read-only server refuses: SETRANGE of
 * an empty string changes no key and makes none. 0: writes are taken, 1: refused, -1:
 * the link failed. */
int redlane_replay_probe_nogil(RedlaneConnection *connection, RedlaneArg key,
                               const RedlaneWait *wait, RedlaneFault *fault);

#endif
