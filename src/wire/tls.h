/* TLS on a connection (rediss://): who is trusted and who we are, once for each
 * settings object; and the handshake that puts a session above a connected socket.
 *
 * The server's certificate and its name are always verified; nothing turns that off.
 * Only tls*.c see OpenSSL. No function needs the GIL. */
#ifndef REDLANE_WIRE_TLS_H
#define REDLANE_WIRE_TLS_H

#include <stddef.h>

#include "core/fault.h"
#include "wire/transport.h"
#include "wire/wait.h"

typedef struct RedlaneTls RedlaneTls;

/* Each NULL where it is not given; all BORROWED. */
typedef struct {
    const char *ca;          /* file or folder; NULL: the system's certificates */
    const char *cert;        /* the client's certificate, its chain behind it */
    const char *key;         /* its key; NULL: in the same file */
    const char *password;    /* of the key */
    const char *server_name; /* to ask for and to verify; NULL: the URL's host */
    size_t password_size;
} RedlaneTlsOptions;

/* Reads the files at once; the password is not kept. NULL with a fault, whose text
 * begins with the name of the option (no path: a key may stand there by mistake). */
RedlaneTls *redlane_tls_new_nogil(const RedlaneTlsOptions *options,
                                  RedlaneFault *fault);
void redlane_tls_free(RedlaneTls *tls); /* or NULL */

/* Shakes hands on a connected transport, whose reads and writes are encrypted from then
 * on. 0, or -1 with a fault (CONNECT, TIMEOUT, PYTHON, MEMORY, CLOSED); the caller
 * closes. */
int redlane_tls_open_nogil(RedlaneTransport *transport, RedlaneTls *tls,
                           const char *host, const RedlaneWait *wait,
                           RedlaneFault *fault);

/* The same in steps, for one that waits by itself: begin, then step by step: 1 when it
 * is done, 0 when it waits for the transport's wants_read, -1 with a fault. */
int redlane_tls_begin_nogil(RedlaneTransport *transport, RedlaneTls *tls,
                            const char *host, RedlaneFault *fault);
int redlane_tls_step_nogil(RedlaneTransport *transport, RedlaneTls *tls,
                           RedlaneFault *fault);

/* What the newest handshake agreed on: "TLSv1.3" and the name of the cipher suite,
 * constants both; NULL before the first. */
const char *redlane_tls_version(const RedlaneTls *tls);
const char *redlane_tls_cipher(const RedlaneTls *tls);

#endif
