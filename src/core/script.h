/* The library's own Lua scripts: text for a server, an id for the memory engine,
 * which runs each as a native command.
 *
 * A script is addressed by its SHA-1, as EVALSHA has it; the hashes are constants (a
 * test recomputes them), so that nothing is hashed at start. */
#ifndef REDLANE_CORE_SCRIPT_H
#define REDLANE_CORE_SCRIPT_H

#include <stddef.h>

typedef enum {
    REDLANE_SCRIPT_ACQUIRE,   /* GET, or place a lease: for servers before Redis 7 */
    REDLANE_SCRIPT_FILL,      /* store a value only while one's lease is still there */
    REDLANE_SCRIPT_RELEASE,   /* take one's lease away */
    REDLANE_SCRIPT_RENEW,     /* replace the value that begins so, or delete it */
    REDLANE_SCRIPT_ADD,       /* store where nothing is but, perhaps, a lease */
    REDLANE_SCRIPT_TOUCH,     /* a new TTL for a value, not for a lease */
    REDLANE_SCRIPT_INCREMENT, /* add, creating a missing key with a TTL */
    REDLANE_SCRIPT_COUNTER_ADD, /* add only to a counter that exists; drops a lease */
    REDLANE_SCRIPT_COUNTER_TRANSFER, /* -1 and +1, each only where it exists */
    REDLANE_SCRIPT_VIDEO_SET,        /* store unless a permanent entry is there */
    REDLANE_SCRIPT_RESTORE,          /* replay of a durable set: where nothing is */
    REDLANE_SCRIPT_TAGS,             /* generations, made where there are none */
    REDLANE_SCRIPT_COOLDOWN,         /* begin a cooldown, or say what is left of it */
    REDLANE_SCRIPT_PRESENCE_JOIN,  /* connections of a server, which renews its lease */
    REDLANE_SCRIPT_PRESENCE_LEAVE, /* connections that ended, or whose server died */
    REDLANE_SCRIPT_PRESENCE_READ,  /* who is online */
    REDLANE_SCRIPT_LIMIT,          /* rate limits: hit, peek or refund */
    REDLANE_SCRIPT_LIMIT_CHARGE,   /* replay of what a limit admitted elsewhere */
    REDLANE_SCRIPT_SLOT,           /* slots of what may be in flight at once */
    REDLANE_SCRIPT_COUNT
} RedlaneScriptId;

typedef struct {
    const char *name; /* for messages */
    const char *text; /* Lua */
    char sha1[41];    /* lower-case hex of text */
} RedlaneScript;

extern const RedlaneScript redlane_scripts[REDLANE_SCRIPT_COUNT];

/* The script with that SHA-1 (40 hex digits, any case) or that text; NULL if none. */
const RedlaneScript *redlane_script_by_sha1(const char *sha1, size_t size);
const RedlaneScript *redlane_script_by_text(const char *text, size_t size);

/* A lease, in the place of the value that its holder computes, begins with these
 * bytes. No JSON text does; a raw value that does is enveloped before it is stored. */
#define REDLANE_MARK "\xffRL"
#define REDLANE_MARK_SIZE 3
#define REDLANE_MARK_LEASE 'L'    /* REDLANE_MARK 'L' + random id */
#define REDLANE_MARK_PLAIN 'P'    /* REDLANE_MARK 'P' + the value's own bytes */
#define REDLANE_MARK_RAISED 'X'   /* REDLANE_MARK 'X' + JSON: what a function raised */
#define REDLANE_MARK_ENVELOPE 'E' /* REDLANE_MARK 'E' + a header: core/envelope.h */

/* The generation of a tag or a namespace, in a key of its own: REDLANE_MARK 'G' and a
 * random number. No value reads as one, nor it as a value. */
#define REDLANE_MARK_GENERATION 'G'
#define REDLANE_GENERATION_SIZE (REDLANE_MARK_SIZE + 1 + 8)

#endif
