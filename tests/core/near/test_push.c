/* What an invalidation connection may say, whole, in pieces and spoiled. */
#include <stdlib.h>
#include <string.h>

#include "near_tests.h"
#include "wire/reply_push.h"

static char heard[200]; /* keys, each with a comma; '*' for all */

static void
hear(void *owner, const char *key, size_t size)
{
    CHECK(owner == heard);
    if (strlen(heard) + size + 2 < sizeof(heard)) {
        (void)strncat(heard, key ? key : "*", key ? size : 1);
        (void)strncat(heard, ",", 2);
    }
}

static void
put(RedlaneReader *reader, const char *data, size_t size)
{
    while (size) {
        size_t room;
        char *place = redlane_reader_room_nogil(reader, size, &room);

        room = room < size ? room : size;
        memcpy(place, data, room);
        redlane_reader_filled_nogil(reader, room);
        data += room;
        size -= room;
    }
}

/* The kinds of the replies as letters, '!' where the stream was refused. */
static const char *
read_stream(const char *data, size_t size, size_t piece, bool hello)
{
    static const char letters[] = "se3ocI";
    static char kinds[32];
    size_t count = 0;
    RedlaneReader reader;
    RedlanePush push = {.invalidate = hear, .owner = heard, .awaits_hello = hello};
    RedlaneFault fault;
    int got = 0;

    heard[0] = '\0';
    (void)redlane_reader_open(&reader, 1 << 20);
    redlane_push_read_with(&reader, &push);
    while (size && got >= 0) {
        size_t part = piece < size ? piece : size;
        void *reply;

        put(&reader, data, part);
        data += part;
        size -= part;
        while ((got = redlane_reader_next(&reader, &reply, &fault)) > 0) {
            if (count < sizeof(kinds) - 2) {
                kinds[count++] = letters[push.kind];
            }
        }
    }
    if (got < 0) {
        CHECK(fault.kind == REDLANE_FAULT_PROTOCOL && fault.text[0]);
        kinds[count++] = '!';
    }
    kinds[count] = '\0';
    redlane_reader_close(&reader);
    return kinds;
}

#define RESP3_KEYS ">2\r\n$10\r\ninvalidate\r\n*2\r\n$2\r\nab\r\n$0\r\n\r\n"
#define RESP3_ALL ">2\r\n$10\r\ninvalidate\r\n_\r\n"
#define CHANNEL "$20\r\n__redis__:invalidate\r\n"
#define RESP2_KEYS "*3\r\n$7\r\nmessage\r\n" CHANNEL "*1\r\n$3\r\nabc\r\n"
#define RESP2_ALL "*3\r\n$7\r\nmessage\r\n" CHANNEL "$-1\r\n"
#define SUBSCRIBED "*3\r\n$9\r\nsubscribe\r\n" CHANNEL ":1\r\n"
#define PONG2 "*2\r\n$4\r\npong\r\n$0\r\n\r\n"
#define HELLO "%2\r\n$5\r\nproto\r\n:3\r\n+x\r\n*2\r\n%1\r\n$1\r\na\r\n_\r\n#t\r\n"

static const struct {
    const char *data, *kinds, *keys;
    bool hello;
} streams[] = {
    {RESP3_KEYS "+PONG\r\n" RESP3_ALL, "IoI", "ab,,*,", false},
    {SUBSCRIBED RESP2_KEYS PONG2 RESP2_ALL, "cIoI", "abc,*,", false},
    {HELLO "+OK\r\n", "3s", "", true},
    {"-ERR no\r\n", "e", "", true},
    {HELLO, "!", "", false},
    {RESP3_KEYS "*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n", "I!", "ab,,", false},
    {">2\r\n$10\r\ninvalidate\r\n*0\r\n", "I", "", false},
    {">2\r\n$10\r\ninvalidate\r\n$2\r\nab\r\n", "!", "", false},
    {"*3\r\n$9\r\nsubscribe\r\n" CHANNEL "_\r\n", "!", "", false},
    {"*2\r\n$4\r\npong\r\n*0\r\n", "!", "", false},
    {"*2\r\n:1\r\n", "!", "", false},
    {"*2\r\n*2\r\n", "!", "", false},
    {"*3\r\n_\r\n", "!", "", false},
    {"$4\r\nPONG\r\n", "!", "", false},
};

static void
test_spoiled(void)
{
    static const char bytes[] = "$*>%+-:_#,~=(\r\n0129ab\xff";
    static const char whole[] = RESP3_KEYS RESP3_ALL RESP2_KEYS SUBSCRIBED PONG2;

    srand(11);
    for (int i = 0; i < 20000; i++) {
        char data[sizeof(whole)];
        size_t size = sizeof(whole) - 1;

        memcpy(data, whole, sizeof(whole));
        for (int spoils = rand() % 4; spoils >= 0; spoils--) {
            data[(size_t)rand() % size] = bytes[(size_t)rand() % (sizeof(bytes) - 1)];
        }
        (void)read_stream(data, size - (size_t)rand() % 20, (size_t)rand() % 30 + 1,
                          rand() % 2);
    }
}

void
test_push(void)
{
    for (size_t i = 0; i < sizeof(streams) / sizeof(*streams); i++) {
        size_t size = strlen(streams[i].data);

        for (size_t piece = 1; piece <= size; piece++) {
            const char *kinds =
                read_stream(streams[i].data, size, piece, streams[i].hello);

            check_bytes(kinds, strlen(kinds), streams[i].kinds,
                        strlen(streams[i].kinds), streams[i].data, __FILE__, __LINE__);
            check_bytes(heard, strlen(heard), streams[i].keys, strlen(streams[i].keys),
                        streams[i].data, __FILE__, __LINE__);
        }
    }
    test_spoiled();
}
