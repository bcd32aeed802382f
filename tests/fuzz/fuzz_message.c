/* Streams on a connection that is subscribed: hiredis' parser, our reader and the
 * callbacks that hand messages on.
 *
 * Input: the limit of a reply, two sizes of pieces, and the stream. Read whole and in
 * pieces it must tell the same: the same replies with the same names and payloads, and
 * the same end. What was handed on of a reply that was refused is not compared. */
#include <string.h>

#include "fuzz.h"
#include "wire/reader.h"
#include "wire/reply_message.h"

#define HEAD 3 /* bytes before the stream */

typedef struct {
    const char *stream;
    size_t size;
    size_t pieces[2]; /* sizes, taken in turn */
    size_t max_reply;
} Input;

typedef struct {
    uint64_t open; /* of the message under way */
    uint64_t all;  /* of whole replies */
    size_t replies;
    bool refused;
} Told;

static uint64_t
mix_bytes(uint64_t hash, RedlaneArg bytes)
{
    hash = (hash ^ bytes.size) * UINT64_C(0x9e3779b97f4a7c15) + (hash >> 29);
    for (size_t i = 0; i < bytes.size; i++) {
        hash = (hash ^ (unsigned char)bytes.data[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static bool
hear(void *owner, RedlaneArg channel, const RedlaneArg *pattern, RedlaneArg payload)
{
    Told *told = owner;

    told->open = mix_bytes(pattern ? mix_bytes(1, *pattern) : 2, channel);
    told->open = mix_bytes(told->open, payload);
    return true;
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

static void
note_reply(Told *told, const RedlaneMessages *messages)
{
    bool is_message = messages->kind == REDLANE_MESSAGE_PAYLOAD;
    bool is_named = messages->kind == REDLANE_MESSAGE_SUBSCRIBED ||
                    messages->kind == REDLANE_MESSAGE_UNSUBSCRIBED;

    require(messages->kind > REDLANE_MESSAGE_NONE, "a kind is known");
    require(messages->kind <= REDLANE_MESSAGE_PAYLOAD, "a known kind");
    require(is_message == (told->open != 0), "a message was handed on, nothing else");
    if (is_named) {
        RedlaneArg name = {messages->topic.data, messages->topic.size};

        told->open = mix_bytes(messages->by_pattern, name);
    }
    told->all = (told->all ^ told->open ^ messages->kind) * UINT64_C(0x100000001b3);
    told->open = 0;
    told->replies++;
}

static Told
read_in(const Input *input, bool whole)
{
    Told told = {0};
    RedlaneMessages messages = {.deliver = hear, .owner = &told};
    RedlaneReader reader;
    RedlaneFault fault = {.kind = REDLANE_FAULT_NONE};
    size_t at = 0;
    int got = 0;

    require(redlane_reader_open(&reader, input->max_reply) == 0, "a reader");
    redlane_messages_read_with(&reader, &messages);
    for (int turn = 0; at < input->size && got >= 0; turn ^= 1) {
        size_t size = whole ? input->size : input->pieces[turn];
        void *reply;

        size = size < input->size - at ? size : input->size - at;
        receive(&reader, input->stream + at, size);
        at += size;
        while ((got = redlane_reader_next(&reader, &reply, &fault)) > 0) {
            note_reply(&told, &messages);
        }
    }
    told.refused = got < 0;
    require(!told.refused || fault.kind == REDLANE_FAULT_PROTOCOL, "a fault says why");
    redlane_reader_close(&reader);
    redlane_messages_clear(&messages);
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
        .max_reply = data[0] & 1 ? 100 : 1 << 20,
    };
    whole = read_in(&input, true);
    pieces = read_in(&input, false);
    require(whole.replies == pieces.replies, "as many replies in pieces");
    require(whole.all == pieces.all, "the same replies in pieces");
    require(whole.refused == pieces.refused, "the same end in pieces");
    return 0;
}
