/* What the methods of AsyncClient give: a request that starts when it is awaited.
 *
 * It does what a coroutine does, for whoever asks for one (create_task, TaskGroup,
 * gather, wait_for, asyncio.run), but `await` goes on to the future of its reply at
 * once, so no frame and no task stand between. GIL held. */
#ifndef REDLANE_TYPES_ASYNC_REPLY_H
#define REDLANE_TYPES_ASYNC_REPLY_H

#include "types/client.h"
#include "types/pipeline_queue.h"

/* One command of `client`; the call is copied. NULL with an exception set. */
PyObject *redlane_async_reply_new(RedlaneClient *client, RedlaneCall *call);

/* All of a batch, which is taken over, in any case. */
PyObject *redlane_async_reply_new_batch(RedlaneClient *client,
                                        STEALS RedlaneBatch *batch, bool transaction,
                                        bool raise_on_error);

int redlane_async_reply_setup(PyObject *module);

#endif
