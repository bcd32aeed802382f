/* Streams on an invalidation connection: hiredis' parser, our reader and the callbacks
 * that hand keys on.
 *
 * Input: options, two sizes of pieces, and the stream. Read whole and in pieces it must
 * tell the same: the same replies with the same keys, and the same end. A message that
 * is refused may have handed on some of its keys: those are not compared. */
#include <string.h>

#include "fuzz.h"
#include "wire/reader.h"
#include "wire/reply_push.h"

#define HEAD 3 /* bytes before the stream */

typedef struct {
    const char *stream;
    size_t size;
    size_t pieces[2]; /* sizes, taken in turn */
    size_t max_reply;
    bool awaits_hello;
} Input;

typedef struct {
    uint64_t open; /* of the message under way */
    uint64_t all;  /* of whole replies */
    size_t replies;
    bool refused;
} Told;

static uint64_t
mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (hash >> 29);
}

static void
hear(void *owner, const char *key, size_t size)
{
    Told *told = owner;

    told->open = mix(told->open, key ? size : SIZE_MAX);
    for (size_t i = 0; i < size; i++) {
        told->open = mix(told->open, (unsigned char)key[i]);
    }
}

static void
receive(RedlaneReader *reader, const char *data, size_t size)
{
    while (size) {
        size_t room;
        char *place = redlane_reader_room_nogil(reader, size, &room);

        require(place && room, "there is room");
        room = room < size ? room : size;
        memcpy(place, data, room);
        redlane_reader_filled_nogil(reader, room);
        data += room;
        size -= room;
    }
}

static Told
read_in(const Input *input, bool whole)
{
    Told told = {0};
    RedlanePush push = {.invalidate = hear, .owner = &told};
    RedlaneReader reader;
    RedlaneFault fault = {.kind = REDLANE_FAULT_NONE};
    size_t at = 0;
    int got = 0;

    require(redlane_reader_open(&reader, input->max_reply) == 0, "a reader");
    push.awaits_hello = input->awaits_hello;
    redlane_push_read_with(&reader, &push);
    for (int turn = 0; at < input->size && got >= 0; turn ^= 1) {
        size_t size = whole ? input->size : input->pieces[turn];
        void *reply;

        size = size < input->size - at ? size : input->size - at;
        receive(&reader, input->stream + at, size);
        at += size;
        while ((got = redlane_reader_next(&reader, &reply, &fault)) > 0) {
            require(push.kind <= REDLANE_PUSH_INVALIDATION, "a known kind");
            told.all = mix(mix(told.all, push.kind), told.open);
            told.open = 0;
            told.replies++;
        }
    }
    told.refused = got < 0;
    require(!told.refused || fault.kind == REDLANE_FAULT_PROTOCOL, "a fault says why");
    redlane_reader_close(&reader);
    return told;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Input input;
    Told whole, pieces;

    if (size < HEAD) {
        return 0;
    }
    input = (Input){
        .stream = (const char *)data + HEAD,
        .size = size - HEAD,
        .pieces = {(size_t)data[1] + 1, (size_t)data[2] + 1},
        .max_reply = data[0] & 2 ? 100 : 1 << 20,
        .awaits_hello = data[0] & 1,
    };
    whole = read_in(&input, true);
    pieces = read_in(&input, false);
    require(whole.replies == pieces.replies, "as many replies in pieces");
    require(whole.all == pieces.all, "the same replies in pieces");
    require(whole.refused == pieces.refused, "the same end in pieces");
    return 0;
}
