/* Large bulk strings without the buffer.
 *
 *   wire:    $2500000 CR LF | payload …………………………… | CR LF
 *                               │ received into the sink
 *   buffer:  $0 CR LF ─────────────────────────────── | CR LF     what hiredis parses
 *
 * Bytes that come through the buffer are copied twice, and a value of megabytes pays
 * for it: 2.5 MB took 1.2 ms and take 0.95 this way, 12 MB a third less of the CPU. So
 * once the head of a large bulk string is there, whoever turns the connection says
 * where its payload shall go.
 * In the buffer the head becomes that of an empty string; the payload goes to the sink,
 * and what follows it (its terminator first) goes to the buffer again. hiredis then
 * parses the empty string, its callback checks the terminator as ever, and hands the
 * sink's content out instead. So order, nesting and limits stay hiredis' and the
 * reader's.
 *
 * No Python: the GIL or not, as the caller likes. */
#ifndef REDLANE_WIRE_READER_BULK_H
#define REDLANE_WIRE_READER_BULK_H

#include "wire/reader.h"

/* Where as much of a bulk string is still to come, giving it a sink pays. It costs a
 * turn with the GIL, which another thread may have. */
#ifndef REDLANE_BULK_LARGE /* a fuzzer has a small one */
#define REDLANE_BULK_LARGE (512 * 1024)
#endif

/* True when parsing can get nowhere, but a large bulk string can be given a sink.
 * `wanted` is what redlane_reader_wanted_nogil has just said. */
static inline bool
redlane_reader_announces_bulk(const RedlaneReader *reader, int64_t wanted)
{
    return wanted >= REDLANE_BULK_LARGE && reader->takes_bulks && !reader->sink.data;
}

/* After redlane_reader_next has said that bytes are missing: true when it stopped in a
 * bulk string that may have a sink. `announced` has its size and how much of it the
 * buffer holds. */
bool redlane_reader_find_bulk(const RedlaneReader *reader, RedlaneSink *announced);

/* Receives it into `announced->data` from here on. */
void redlane_reader_sink_open(RedlaneReader *reader, const RedlaneSink *announced);

/* True when the sink is full, but its string is not complete: it must get more room. */
static inline bool
redlane_reader_sink_is_full(const RedlaneReader *reader)
{
    return reader->sink.data && reader->sink.filled == reader->sink.room;
}

/* For the reader: redlane_reader_room_nogil and filled while there is a sink. */
char *redlane_reader_sink_room_nogil(RedlaneReader *reader, size_t *size);
void redlane_reader_sink_filled_nogil(RedlaneReader *reader, size_t size);

#endif
