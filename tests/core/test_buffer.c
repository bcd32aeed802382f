#include "core/buffer.h"

#include "harness.h"

void
test_buffer(void)
{
    RedlaneBuffer buffer = {0};

    for (int i = 0; i < 1000; i++) {
        CHECK_INTEGER(redlane_buffer_append_byte(&buffer, (char)i), 0);
    }
    CHECK_INTEGER(buffer.size, 1000);
    CHECK(buffer.size <= buffer.capacity);
    CHECK_INTEGER((unsigned char)buffer.data[999], 999 & 255);
    CHECK_INTEGER(redlane_buffer_reserve(&buffer, SIZE_MAX), -1);
    CHECK_INTEGER(buffer.size, 1000);
    CHECK_INTEGER(redlane_buffer_append(&buffer, NULL, 0), 0);
    redlane_buffer_free(&buffer);
    CHECK(buffer.data == NULL && buffer.capacity == 0);
}
