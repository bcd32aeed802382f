/* The first words on a connection: protocol, who we are, which database. */
#ifndef REDLANE_WIRE_HANDSHAKE_H
#define REDLANE_WIRE_HANDSHAKE_H

#include "wire/connection.h"
#include "wire/reply_plain.h"

/* 0, or -1 with a fault; the caller closes. */
int redlane_handshake_nogil(RedlaneConnection *connection,
                            const RedlaneSettings *settings, const RedlaneWait *wait,
                            RedlaneFault *fault);

/* The same in steps, for one that waits by itself. */
typedef enum {
    REDLANE_AWAITED_HELLO,
    REDLANE_AWAITED_OK,   /* or an error, which ends the handshake */
    REDLANE_AWAITED_INFO, /* the run_id, if it says one */
    REDLANE_AWAITED_SKIP, /* of what was sent in vain */
} RedlaneAwaited;

typedef struct {
    const RedlaneSettings *settings; /* BORROWED */
    RedlaneReaderContext context;    /* the reader knows its place: it must not move */
    RedlaneAwaited awaited[4];
    int count, next; /* of awaited */
    bool unknown;    /* HELLO is not known */
    bool old;        /* and so it was asked without */
} RedlaneHandshake;

/* Puts the first words into `out`, which is empty. */
int redlane_handshake_begin_nogil(RedlaneConnection *connection,
                                  const RedlaneSettings *settings,
                                  RedlaneHandshake *handshake, RedlaneFault *fault);

/* Takes the answers that have come: 1 when all is said, 0 when `out` is to be sent, or
 * bytes must come; -1 with a fault. */
int redlane_handshake_step_nogil(RedlaneConnection *connection,
                                 RedlaneHandshake *handshake, RedlaneFault *fault);

/* After its last step, or a fault of the connection meanwhile, which is made clearer:
 * forgets the password. Without `fault` it went well. */
void redlane_handshake_end(RedlaneConnection *connection,
                           const RedlaneHandshake *handshake, RedlaneFault *fault);

/* The reply to what stands in `out`, or NULL with a fault. For the handshake and for
 * questions of the background thread: the reader builds plain replies from then on. */
RedlanePlainReply *redlane_connection_answer_nogil(RedlaneConnection *connection,
                                                   const RedlaneWait *wait,
                                                   RedlaneFault *fault);

/* An error line as a fault, without the arguments that a server may repeat in it. */
void redlane_fault_set_reply(RedlaneFault *fault, const RedlanePlainReply *reply);

#endif
