/* The options of TLS among a client's. */
#ifndef REDLANE_TYPES_CLIENT_TLS_H
#define REDLANE_TYPES_CLIENT_TLS_H

#include <stdbool.h>

#include "core/url.h"
#include "py/python.h"
#include "wire/tls.h"

/* Each NULL or None where it was not given. */
typedef struct {
    PyObject *ca; /* str or os.PathLike, as are the next two */
    PyObject *cert;
    PyObject *key;
    PyObject *key_password; /* str or bytes */
    PyObject *server_name;  /* str */
} RedlaneClientTls;

/* Takes a parameter of the URL's query that is one of TLS, also by redis-py's name for
 * it: 1, as an owned object in `tls`; 0 when it is none; -1 with ConfigurationError. */
int redlane_client_tls_parameter(RedlaneState *state,
                                 const RedlaneUrlParameter *parameter,
                                 const char *source, RedlaneClientTls *tls);

/* Releases what the former filled. */
void redlane_client_tls_clear(RedlaneClientTls *tls);

/* What the settings need: for an encrypted link *tls, for another no option at all. 0,
 * or -1 with an exception; `source` begins its message unless it is empty. */
int redlane_client_tls_read(RedlaneState *state, const RedlaneClientTls *given,
                            const char *source, bool encrypted, RedlaneTls **tls);

#endif
