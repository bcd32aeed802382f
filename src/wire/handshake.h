/* The first words on a connection: protocol, who we are, which database. */
#ifndef REDLANE_WIRE_HANDSHAKE_H
#define REDLANE_WIRE_HANDSHAKE_H

#include "wire/connection.h"
#include "wire/reply_plain.h"

/* 0, or -1 with a fault; the caller closes. */
int redlane_handshake_nogil(RedlaneConnection *connection,
                            const RedlaneSettings *settings, const RedlaneWait *wait,
                            RedlaneFault *fault);

/* The reply to what stands in `out`, or NULL with a fault. For the handshake and for
 * questions of the background thread: the reader builds plain replies from then on. */
RedlanePlainReply *redlane_connection_answer_nogil(RedlaneConnection *connection,
                                                   const RedlaneWait *wait,
                                                   RedlaneFault *fault);

/* An error line as a fault, without the arguments that a server may repeat in it. */
void redlane_fault_set_reply(RedlaneFault *fault, const RedlanePlainReply *reply);

#endif
