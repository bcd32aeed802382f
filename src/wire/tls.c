/* A TLS session above a socket of ours: the second member of the transport table.
 *
 *   socket ──recv──▶ data [ first ▶ last ) ──▶ SSL ──▶ reader
 *   socket ◀──send── SSL ◀── request
 *
 * The session's input and output are our own, so that a dead peer is no SIGPIPE, one
 * receive brings many records, and a read can wait on the socket outside OpenSSL.
 *
 * No lock but the gate, around each call into OpenSSL, never around a wait. */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "wire/tls_context.h"
#include "wire/tls_gate.h"

#define RECEIVE (32 * 1024)     /* two records at least */
#define WRITE_MOST (256 * 1024) /* then the answers get their turn */
/* Of one record. Given more, OpenSSL may write a whole one that it had begun and begin
 * the next, and then say that nothing went: what is sent must be known to be sent. */
#define RECORD_MOST SSL3_RT_MAX_PLAIN_LENGTH
/* A server that sends what OpenSSL keeps for itself, tickets without end, would keep a
 * call there: after so many receives it gets to look at the deadline. */
#define FETCHES_MOST 4

typedef struct {
    SSL *ssl;
    bool broken; /* it failed: nothing more may be said */
    bool over;   /* reading ended or failed, and will again */
    bool ended;  /* the socket is at its end, or the peer said that it is */
    int error;   /* errno of the socket in this call, or 0 */
    int fetches; /* in this call */
    size_t first, last;
    char why[192];
    char data[RECEIVE];
} Session;

/* --- between SSL and the socket --- */

static BIO_METHOD *socket_method; /* made once, never freed */
static pthread_once_t socket_once = PTHREAD_ONCE_INIT;

/* One receive into `data`, which is empty. */
static void
fetch(RedlaneTransport *transport, bool within)
{
    Session *session = transport->session;
    ssize_t moved =
        (within ? redlane_transport_receive_within_nogil
                : redlane_transport_receive_nogil)(transport, session->data, RECEIVE);

    session->fetches++;
    session->first = session->last = 0;
    if (moved > 0) {
        session->last = (size_t)moved;
    }
    else if (moved == REDLANE_IO_CLOSED) {
        session->ended = true;
    }
    else if (moved == REDLANE_IO_FAILED) {
        session->error = transport->error;
    }
}

static int
socket_read(BIO *bio, char *data, size_t size, size_t *moved)
{
    RedlaneTransport *transport = BIO_get_data(bio);
    Session *session = transport->session;
    size_t held;

    BIO_clear_retry_flags(bio);
    *moved = 0;
    if (session->first == session->last && !session->ended &&
        session->fetches < FETCHES_MOST) {
        fetch(transport, false);
    }
    held = session->last - session->first;
    if (held == 0) {
        if (!session->ended && !session->error) {
            BIO_set_retry_read(bio);
        }
        return 0;
    }
    *moved = size < held ? size : held;
    memcpy(data, session->data + session->first, *moved);
    session->first += *moved;
    return 1;
}

static int
socket_write(BIO *bio, const char *data, size_t size, size_t *moved)
{
    RedlaneTransport *transport = BIO_get_data(bio);
    ssize_t sent = redlane_transport_send_nogil(transport, data, size);

    BIO_clear_retry_flags(bio);
    *moved = sent > 0 ? (size_t)sent : 0;
    if (sent == REDLANE_IO_BLOCKED) {
        BIO_set_retry_write(bio);
    }
    else if (sent == REDLANE_IO_FAILED) {
        ((Session *)transport->session)->error = transport->error;
    }
    return sent > 0;
}

static long
socket_control(BIO *bio, int command, long number, void *pointer)
{
    const RedlaneTransport *transport = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return ((const Session *)transport->session)->ended;
    default:
        return 0;
    }
}

static void
make_method(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "redlane socket");

    if (method && BIO_meth_set_read_ex(method, socket_read) == 1 &&
        BIO_meth_set_write_ex(method, socket_write) == 1 &&
        BIO_meth_set_ctrl(method, socket_control) == 1) {
        socket_method = method;
    }
    else {
        BIO_meth_free(method);
    }
}

/* --- what a call came to --- */

/* What people can do about some of OpenSSL's reasons. */
static const char *
hint_of(int reason)
{
    switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
        return "; does the server speak TLS on this port?";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        return "; TLS 1.2 is the oldest version that is spoken";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "; the server asks for a client certificate: give tls_cert and tls_key";
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "; does the server ask for a client certificate (tls_cert)?";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        return "; the server does not accept the client certificate (tls_cert)";
    default:
        return "";
    }
}

static void
keep_reason(RedlaneTransport *transport)
{
    Session *session = transport->session;
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);

    if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
        reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        (void)snprintf(
            session->why, sizeof(session->why),
            "the server's certificate is not trusted: %s",
            X509_verify_cert_error_string(SSL_get_verify_result(session->ssl)));
    }
    else {
        (void)snprintf(session->why, sizeof(session->why), "TLS: %s%s",
                       redlane_tls_reason("failed"),
                       ERR_GET_LIB(error) == ERR_LIB_SSL ? hint_of(reason) : "");
    }
    transport->reason = session->why;
}

/* The outcome of a call that moved nothing; inside the gate. */
static ssize_t
judge(RedlaneTransport *transport, int returned, short *wants)
{
    Session *session = transport->session;
    bool said = false; /* OpenSSL has a reason, which tells more than an errno */

    switch (SSL_get_error(session->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
        *wants = POLLIN;
        return REDLANE_IO_BLOCKED;
    case SSL_ERROR_WANT_WRITE:
        *wants = POLLOUT;
        return REDLANE_IO_BLOCKED;
    case SSL_ERROR_ZERO_RETURN:
        session->ended = true;
        return REDLANE_IO_CLOSED;
    case SSL_ERROR_SSL:
        said = ERR_GET_REASON(ERR_peek_error()) != SSL_R_UNEXPECTED_EOF_WHILE_READING;
        break;
    default:
        break;
    }
    session->broken = true;
    if (!said && session->ended) {
        return REDLANE_IO_CLOSED; /* without a close_notify: as lost as any */
    }
    if (!said && session->error) {
        transport->error = session->error;
        transport->reason = NULL;
    }
    else {
        keep_reason(transport);
    }
    return REDLANE_IO_FAILED;
}

/* True with the gate entered. */
static bool
enter(RedlaneTransport *transport)
{
    Session *session = transport->session;

    session->error = 0;
    session->fetches = 0;
    if (redlane_tls_enter()) {
        return true;
    }
    transport->error = ECANCELED;
    return false;
}

/* --- the transport --- */

static ssize_t
tls_read(RedlaneTransport *transport, char *data, size_t size)
{
    Session *session = transport->session;
    size_t total = 0, moved;
    ssize_t outcome;

    if (session->over) {
        return session->ended ? REDLANE_IO_CLOSED : REDLANE_IO_FAILED;
    }
    if (!enter(transport)) {
        return REDLANE_IO_FAILED;
    }
    for (;;) {
        int got = SSL_read_ex(session->ssl, data + total, size - total, &moved);

        if (got != 1) {
            outcome = judge(transport, got, &transport->wants_read);
            session->over = outcome != REDLANE_IO_BLOCKED;
            break;
        }
        total += moved;
        outcome = (ssize_t)total;
        if (total == size ||
            (SSL_pending(session->ssl) == 0 && session->first == session->last)) {
            break;
        }
    }
    redlane_tls_leave();
    return total > 0 ? (ssize_t)total : outcome;
}

/* Waits for a byte on the socket, outside OpenSSL, and reads it. */
static ssize_t
read_after_wait(RedlaneTransport *transport, char *data, size_t size)
{
    Session *session = transport->session;

    session->error = 0;
    fetch(transport, true);
    if (session->error) {
        session->broken = session->over = true;
        transport->reason = NULL;
        return REDLANE_IO_FAILED;
    }
    return session->last > 0 || session->ended ? tls_read(transport, data, size)
                                               : REDLANE_IO_BLOCKED;
}

static ssize_t
tls_read_within(RedlaneTransport *transport, char *data, size_t size)
{
    Session *session = transport->session;
    struct pollfd full = {.fd = transport->fd, .events = POLLOUT};
    ssize_t moved;

    if (session->first < session->last || session->ended || session->over ||
        transport->wants_read == POLLOUT || SSL_has_pending(session->ssl)) {
        moved = tls_read(transport, data, size);
        if (moved != REDLANE_IO_BLOCKED) {
            return moved;
        }
        if (transport->wants_read == POLLOUT) {
            (void)poll(&full, 1, (int)(REDLANE_WAIT_SLICE / REDLANE_NS_PER_MS));
            return REDLANE_IO_BLOCKED;
        }
    }
    return read_after_wait(transport, data, size);
}

static ssize_t
tls_write(RedlaneTransport *transport, const char *data, size_t size)
{
    Session *session = transport->session;
    size_t total = 0, moved;
    ssize_t outcome = REDLANE_IO_BLOCKED;

    if (!enter(transport)) {
        return REDLANE_IO_FAILED;
    }
    while (total < size && total < WRITE_MOST) {
        size_t piece = size - total < RECORD_MOST ? size - total : RECORD_MOST;
        int sent = SSL_write_ex(session->ssl, data + total, piece, &moved);

        if (sent != 1) {
            outcome = judge(transport, sent, &transport->wants_write);
            break;
        }
        total += moved;
    }
    redlane_tls_leave();
    if (outcome == REDLANE_IO_CLOSED) {
        transport->error = EPIPE;
        transport->reason = NULL;
        outcome = REDLANE_IO_FAILED;
    }
    return total > 0 ? (ssize_t)total : outcome;
}

/* Whether OpenSSL holds the beginning of a record: of its header, or of what follows it
 * (RB: it reads the body). */
static bool
is_within_record(SSL *ssl)
{
    return SSL_has_pending(ssl) || strcmp(SSL_rstate_string(ssl), "RB") == 0;
}

/* A ticket or a key update is no reason to give a connection up: OpenSSL is asked for
 * data whenever there is anything. Part of a record is one: the rest could be a reply
 * that nobody asked for, and would be taken for that to the next request. */
static bool
tls_quiet(RedlaneTransport *transport)
{
    Session *session = transport->session;
    bool quiet = false;
    short wants;
    char byte;
    size_t moved;

    if (session->over) {
        return false;
    }
    if (session->first == session->last && !session->ended) {
        session->error = 0;
        fetch(transport, false);
        if (session->error) {
            return false;
        }
        if (session->first == session->last && !session->ended) {
            return !is_within_record(session->ssl);
        }
    }
    if (enter(transport)) {
        int got = SSL_peek_ex(session->ssl, &byte, 1, &moved);

        quiet = got != 1 && judge(transport, got, &wants) == REDLANE_IO_BLOCKED &&
                !is_within_record(session->ssl);
        redlane_tls_leave();
    }
    return quiet;
}

static void
tls_goodbye(RedlaneTransport *transport)
{
    Session *session = transport->session;

    if (!session->broken && !session->ended && enter(transport)) {
        if (SSL_is_init_finished(session->ssl)) {
            (void)SSL_shutdown(session->ssl);
        }
        redlane_tls_leave();
    }
}

static void
tls_forget(RedlaneTransport *transport)
{
    Session *session = transport->session;

    if (session->ssl && redlane_tls_enter()) {
        SSL_free(session->ssl);
        redlane_tls_leave();
    }
    free(session);
    redlane_transport_make_plain(transport);
}

static const RedlaneTransportOps tls_ops = {
    .read = tls_read,
    .read_within = tls_read_within,
    .write = tls_write,
    .quiet = tls_quiet,
    .goodbye = tls_goodbye,
    .forget = tls_forget,
};

/* --- opening --- */

/* The name without a dot at its end or an IPv6 zone, which no certificate has. */
static void
trim_name(const char *name, char trimmed[256])
{
    size_t size;

    (void)snprintf(trimmed, 256, "%.255s", name);
    if (strchr(trimmed, ':')) {
        trimmed[strcspn(trimmed, "%")] = '\0';
    }
    size = strlen(trimmed);
    if (size > 1 && trimmed[size - 1] == '.') {
        trimmed[size - 1] = '\0';
    }
}

/* Whom the certificate must name. */
static int
expect_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    struct in6_addr address;
    char trimmed[256];

    trim_name(name, trimmed);
    if (inet_pton(AF_INET, trimmed, &address) == 1 ||
        inet_pton(AF_INET6, trimmed, &address) == 1) {
        return X509_VERIFY_PARAM_set1_ip_asc(parameters, trimmed) == 1 ? 0 : -1;
    }
    X509_VERIFY_PARAM_set_hostflags(parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    /* With a dot before it OpenSSL would take any name below that one. */
    return trimmed[0] && trimmed[0] != '.' &&
                   X509_VERIFY_PARAM_set1_host(parameters, trimmed, 0) == 1 &&
                   SSL_set_tlsext_host_name(ssl, trimmed) == 1
               ? 0
               : -1;
}

/* Puts a session above the transport; inside the gate. */
static int
begin(RedlaneTransport *transport, RedlaneTls *tls, const char *host,
      RedlaneFault *fault)
{
    Session *session = transport->session;
    SSL_CTX *context = redlane_tls_context(tls, fault);
    BIO *bio;

    if (!context) {
        return -1;
    }
    (void)pthread_once(&socket_once, make_method);
    session->ssl = SSL_new(context);
    bio = session->ssl && socket_method ? BIO_new(socket_method) : NULL;
    if (!bio) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    BIO_set_data(bio, transport);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_connect_state(session->ssl);
    if (expect_name(session->ssl, tls->server_name ? tls->server_name : host) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT,
                          "TLS: the server's name cannot be asked for");
        return -1;
    }
    return 0;
}

int
redlane_tls_step_nogil(RedlaneTransport *transport, RedlaneTls *tls,
                       RedlaneFault *fault)
{
    Session *session = transport->session;
    ssize_t outcome = REDLANE_IO_FAILED;
    bool done = false;

    if (enter(transport)) {
        int returned = SSL_do_handshake(session->ssl);

        done = returned == 1;
        if (done) {
            atomic_store(&tls->version, SSL_get_version(session->ssl));
            atomic_store(&tls->cipher, SSL_get_cipher_name(session->ssl));
        }
        else {
            outcome = judge(transport, returned, &transport->wants_read);
        }
        redlane_tls_leave();
    }
    if (done) {
        transport->wants_read = POLLIN;
        return 1;
    }
    if (outcome == REDLANE_IO_BLOCKED) {
        return 0;
    }
    redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "%s",
                      outcome == REDLANE_IO_CLOSED
                          ? "the server closed the connection in the TLS handshake; "
                            "does it speak TLS on this port?"
                          : redlane_transport_problem(transport));
    return -1;
}

static int
wait_for_step(RedlaneTransport *transport, const RedlaneWait *wait, int64_t *looked_at,
              RedlaneFault *fault)
{
    int64_t now = redlane_clock_coarse();
    int result =
        redlane_wait_fd_nogil(wait, transport->fd, transport->wants_read, fault);

    if (result < 0 && fault->kind == REDLANE_FAULT_TIMEOUT) {
        redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT,
                          "timed out in the TLS handshake; does the server speak TLS "
                          "on this port?");
    }
    if (result == 0 && now - *looked_at >= REDLANE_WAIT_SLICE) {
        /* Bytes that keep dripping must not keep signal handlers from running. */
        *looked_at = now;
        result = redlane_wait_interrupted_nogil(wait, fault);
    }
    if (result == 0 && transport->fd < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "the process forked");
        result = -1;
    }
    return result;
}

int
redlane_tls_begin_nogil(RedlaneTransport *transport, RedlaneTls *tls, const char *host,
                        RedlaneFault *fault)
{
    Session *session = malloc(sizeof(*session));
    int result;

    if (!session) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return -1;
    }
    memset(session, 0, offsetof(Session, data));
    transport->session = session;
    transport->ops = &tls_ops;
    if (!enter(transport)) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "OpenSSL cannot be used");
        return -1;
    }
    result = begin(transport, tls, host, fault);
    redlane_tls_leave();
    return result;
}

int
redlane_tls_open_nogil(RedlaneTransport *transport, RedlaneTls *tls, const char *host,
                       const RedlaneWait *wait, RedlaneFault *fault)
{
    int64_t looked_at = redlane_clock_coarse();
    int result;

    if (redlane_tls_begin_nogil(transport, tls, host, fault) < 0) {
        return -1;
    }
    while ((result = redlane_tls_step_nogil(transport, tls, fault)) == 0) {
        if (wait_for_step(transport, wait, &looked_at, fault) < 0) {
            return -1;
        }
    }
    return result < 0 ? -1 : 0;
}
