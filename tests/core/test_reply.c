#include "core/reply.h"

#include "harness.h"

static int made;

static void *
make_bulk(const char *data, size_t size, bool decode)
{
    (void)data;
    (void)size;
    (void)decode;
    made++;
    return &made;
}

/* A head that found no room is not forgotten by the elements after it. */
static void
check_failed_array(void)
{
    RedlaneReply reply = {.make_bulk = make_bulk, .failed = true};

    redlane_reply_bulk(&reply, "a", 1);
    redlane_reply_bulk(&reply, "b", 1);
    redlane_reply_array_close(&reply, 0, 2);
    CHECK(reply.failed);
    CHECK(reply.object == NULL);
    CHECK_INTEGER(made, 0);
    redlane_buffer_free(&reply.nodes);
}

void
test_reply(void)
{
    RedlaneReply reply = {.make_bulk = make_bulk};
    RedlaneNode node;
    size_t offset = 0;

    redlane_reply_array(&reply, 1);
    redlane_reply_bulk(&reply, "ab", 2);
    CHECK_INTEGER(made, 0);
    CHECK(redlane_reply_next(&reply, &offset, &node));
    CHECK_INTEGER(node.kind, REDLANE_REPLY_ARRAY);
    CHECK(redlane_reply_next(&reply, &offset, &node));
    CHECK_BYTES(node.data, node.size, "ab");
    CHECK(!redlane_reply_next(&reply, &offset, &node));
    redlane_buffer_free(&reply.nodes);
    check_failed_array();
}
