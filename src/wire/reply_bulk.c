/* The bytes objects that large bulk strings are received into. Needs the GIL; between
 * its calls the object's content is written without, which nobody else has seen yet. */
#include "wire/reader_bulk.h"
#include "wire/reply_object.h"

/* What an announced size costs before its bytes have come: address space, for nothing
 * is written. Beyond, the object grows as they come. */
#define ROOM_FIRST ((size_t)32 * REDLANE_BULK_LARGE)

static int
open_sink(RedlaneReader *reader, RedlaneReaderContext *context)
{
    RedlaneSink sink;
    PyObject *bulk;

    if (!redlane_reader_find_bulk(reader, &sink)) {
        return 0;
    }
    sink.room =
        sink.size - sink.filled > ROOM_FIRST ? sink.filled + ROOM_FIRST : sink.size;
    bulk = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)sink.room);
    if (!bulk) {
        return -1;
    }
    context->bulk = bulk;
    sink.data = PyBytes_AS_STRING(bulk);
    redlane_reader_sink_open(reader, &sink);
    return 0;
}

static int
grow_sink(RedlaneReader *reader, RedlaneReaderContext *context)
{
    RedlaneSink *sink = &reader->sink;
    size_t room = sink->size / 2 > sink->room ? 2 * sink->room : sink->size;
    PyObject *bulk = context->bulk;

    context->bulk = NULL; /* a failure releases it */
    if (_PyBytes_Resize(&bulk, (Py_ssize_t)room) < 0) {
        return -1;
    }
    context->bulk = bulk;
    sink->data = PyBytes_AS_STRING(bulk);
    sink->room = room;
    return 0;
}

int
redlane_reply_object_receive(RedlaneReader *reader, RedlaneReaderContext *context)
{
    if (redlane_reader_sink_is_full(reader)) {
        return grow_sink(reader, context);
    }
    return open_sink(reader, context);
}
