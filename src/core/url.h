/* The URLs that name a server: redis:// rediss:// unix:// memory:// http:// https://
 *
 *   redis://user:password@host:port/db?name=value&…
 *   unix://user:password@/path/of/socket?db=1
 *   memory://
 *
 * User, password, host, path and parameters are percent-decoded. No lock, no GIL. No
 * message of these functions holds a byte of the URL. */
#ifndef REDLANE_CORE_URL_H
#define REDLANE_CORE_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buffer.h"

#define REDLANE_URL_MAX_SIZE 65536
#define REDLANE_URL_MAX_PARAMETERS 32
#define REDLANE_URL_DEFAULT_PORT 6379

typedef enum {
    REDLANE_URL_REDIS,
    REDLANE_URL_REDISS,
    REDLANE_URL_UNIX,
    REDLANE_URL_MEMORY,
    REDLANE_URL_HTTP,
    REDLANE_URL_HTTPS,
} RedlaneUrlScheme;

/* Decoded; holds no NUL and is closed by one. data is NULL when it was not given. */
typedef struct {
    const char *data;
    size_t size;
} RedlaneUrlText;

typedef struct {
    RedlaneUrlText name; /* never empty */
    RedlaneUrlText value;
} RedlaneUrlParameter;

typedef struct {
    RedlaneUrlScheme scheme;
    RedlaneUrlText user;     /* absent when empty */
    RedlaneUrlText password; /* absent when empty; any byte but NUL */
    RedlaneUrlText host;     /* without brackets, "localhost" when not given; absent for
                                unix and memory */
    RedlaneUrlText path;     /* of the socket; of an http URL, absent when not given */
    int port;                /* 1 to 65535; 0 for unix and memory */
    bool port_given;
    int db; /* from the path or ?db=; 0 when not given */
    bool db_given;
    size_t parameter_count; /* in their order, no name twice, without db */
    RedlaneUrlParameter parameters[REDLANE_URL_MAX_PARAMETERS];
    char *storage; /* all of the texts; wiped when freed */
    size_t storage_size;
} RedlaneUrl;

/* Message of a parse that failed for want of memory; compare by address. */
extern const char redlane_url_no_memory[];

/* Fills `url`, to be freed by redlane_url_free also after a failure. NULL, or what is
 * wrong: a constant text for people, without anything of the URL. */
const char *redlane_url_parse(RedlaneUrl *url, const char *text, size_t size);

void redlane_url_free(RedlaneUrl *url);

/* The parameter of that name; NULL if there is none. */
const RedlaneUrlText *redlane_url_parameter(const RedlaneUrl *url, const char *name);

/* Appends the URL as it may be shown. The password is ***; so are a user without a
 * password (many write a password there), the values of parameters not known to be
 * harmless, and names not known at all. -1 when memory is exhausted. */
int redlane_url_write_redacted(const RedlaneUrl *url, RedlaneBuffer *buffer);

/* The same for any text: of what cannot be parsed, no more than a known scheme. */
int redlane_url_redact(const char *text, size_t size, RedlaneBuffer *buffer);

#endif
