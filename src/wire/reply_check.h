/* What no builder of replies takes, whatever it builds. For hiredis' callbacks; no
 * Python, no lock. */
#ifndef REDLANE_WIRE_REPLY_CHECK_H
#define REDLANE_WIRE_REPLY_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "hiredis/read.h"

/* Says why a callback gives the reply up, and the connection with it. */
void redlane_reply_refuse(const redisReadTask *task, const char *reason);

/* True for a type of RESP2; else it is refused. A nil may have come as any type. */
bool redlane_reply_is_resp2(const redisReadTask *task);

/* True for a bulk string or a line that ends where it should; else it is refused: in
 * pieces it would have been, before it was whole. */
bool redlane_reply_is_whole(const redisReadTask *task, const char *text, size_t size);

/* Both: a status, an error or a bulk string. */
bool redlane_reply_is_text(const redisReadTask *task, const char *text, size_t size);

/* createDouble and createBool, which are RESP3 alone. */
void *redlane_reply_refuse_double(const redisReadTask *task, double value, char *text,
                                  size_t size);
void *redlane_reply_refuse_bool(const redisReadTask *task, int value);

#endif
