/* Inside wire/tls*.c: the settings' part of TLS, as OpenSSL has it. */
#ifndef REDLANE_WIRE_TLS_CONTEXT_H
#define REDLANE_WIRE_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "wire/tls.h"

struct RedlaneTls {
    _Atomic(SSL_CTX *) context;    /* NULL until it is needed, where no file is read */
    _Atomic(const char *) version; /* of the newest handshake */
    _Atomic(const char *) cipher;
    char *server_name; /* or NULL: the host of the URL */
};

/* The context, made now if it was not; NULL with a fault. Inside the gate. */
SSL_CTX *redlane_tls_context(RedlaneTls *tls, RedlaneFault *fault);

/* The reason of the oldest error in this thread's queue, or `otherwise`. */
const char *redlane_tls_reason(const char *otherwise);

#endif
