/* How to reach one server: made once from a URL and keyword arguments, then never
 * changed but for its atomics, so that any thread reads it without a lock. Plain C,
 * atomic references: the background thread holds one too. */
#ifndef REDLANE_WIRE_SETTINGS_H
#define REDLANE_WIRE_SETTINGS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/relay.h"
#include "wire/tls.h"

typedef enum {
    REDLANE_SCHEME_MEMORY,
    REDLANE_SCHEME_TCP,  /* redis://, rediss:// */
    REDLANE_SCHEME_UNIX, /* unix:// */
    REDLANE_SCHEME_REST, /* https://, http:// */
} RedlaneScheme;

typedef struct {
    atomic_size_t references;
    atomic_bool wants_run_id; /* connections made from now on learn the server's */
    atomic_bool answered;     /* the server has spoken the protocol at least once */
    RedlaneScheme scheme;
    char *host;     /* TCP: name or address, without brackets */
    char *path;     /* UNIX; REST: below which the server answers, or NULL */
    char *username; /* or NULL */
    char *password; /* or NULL; wiped when freed. REST: the token */
    size_t password_size;
    char *name;          /* CLIENT SETNAME, or NULL */
    char *redacted;      /* the URL as it may be shown: no password */
    RedlaneTls *tls;     /* rediss://, or NULL */
    RedlaneRelay *relay; /* REST, or NULL; with a lock of its own */
    int port;
    int db;
    int64_t timeout;         /* ns, a whole call */
    int64_t connect_timeout; /* ns, of that at most for connecting */
    size_t pool_size;
    size_t max_reply;  /* bytes */
    size_t max_memory; /* bytes: the bound of the engine, the fallback's too */
} RedlaneSettings;

/* A copy of `draft` and its strings with one reference; the draft stays the caller's,
 * who wipes its password. Its `tls` is taken over. NULL when memory is exhausted. */
RedlaneSettings *redlane_settings_new(const RedlaneSettings *draft);

RedlaneSettings *redlane_settings_hold(RedlaneSettings *settings);
void redlane_settings_release(RedlaneSettings *settings); /* or NULL */

/* From now on `answered`: what is const to the caller may change in its atomics. */
void redlane_settings_note_answer(const RedlaneSettings *settings);

#endif
