/* A client's options: URL and keyword arguments to settings, all checked at once. */
#ifndef REDLANE_TYPES_CLIENT_OPTIONS_H
#define REDLANE_TYPES_CLIENT_OPTIONS_H

#include <stdbool.h>

#include "store/link.h"

/* What Client() was given; each BORROWED, NULL or None where it was not. */
typedef struct {
    PyObject *url;
    PyObject *token; /* of an https:// URL */
    const char
        *source; /* of the URL, for messages: "url", or an environment variable */
    PyObject *fallback;
    PyObject *timeout;
    PyObject *connect_timeout;
    PyObject *pool_size;
    PyObject *decode_responses;
    PyObject *name;
    PyObject *max_reply;
    PyObject *max_memory;
    PyObject *tls_ca;
    PyObject *tls_cert;
    PyObject *tls_key;
    PyObject *tls_key_password;
    PyObject *tls_server_name;
} RedlaneClientArguments;

/* New settings, and what concerns the client alone; NULL with ConfigurationError. */
RedlaneSettings *redlane_client_options_read(RedlaneState *state,
                                             const RedlaneClientArguments *arguments,
                                             RedlanePolicy *policy, bool *decode);

/* Module functions for redlane._config: _check_url and _url_db. */
extern PyMethodDef redlane_client_options_functions[];

#endif
