/* URLs. Any text: the parse keeps what its header promises, and its redacted form is
 * stable and shows no password. Then the text as a password, encoded and raw: it comes
 * back whole, or nothing of it is shown. */
#include <stdbool.h>
#include <string.h>

#include "core/url.h"
#include "fuzz.h"

#define CANARY "c4n4ry-c4n4ry"

static bool
holds(const char *text, size_t size, const char *piece, size_t piece_size)
{
    return piece_size == 0 || memmem(text, size, piece, piece_size) != NULL;
}

static void
check_text(RedlaneUrlText text)
{
    require(text.data ? text.data[text.size] == 0 && strlen(text.data) == text.size
                      : text.size == 0,
            "a text holds no NUL and is closed by one");
}

static void
check_parsed(const RedlaneUrl *url)
{
    check_text(url->user);
    check_text(url->password);
    check_text(url->host);
    check_text(url->path);
    require(url->port >= 0 && url->port <= 65535 && url->db >= 0, "ranges");
    if (url->scheme == REDLANE_URL_UNIX || url->scheme == REDLANE_URL_MEMORY) {
        require(!url->host.data && url->port == 0, "no host");
    }
    else {
        require(url->host.size > 0 && url->port > 0, "a host and a port");
    }
    require((url->scheme != REDLANE_URL_UNIX) || url->path.size > 1, "a socket's path");
    for (size_t i = 0; i < url->parameter_count; i++) {
        check_text(url->parameters[i].name);
        check_text(url->parameters[i].value);
        require(url->parameters[i].name.size > 0, "a parameter has a name");
        require(redlane_url_parameter(url, url->parameters[i].name.data) ==
                    &url->parameters[i].value,
                "no name twice");
    }
}

static bool
same_text(RedlaneUrlText one, RedlaneUrlText other)
{
    return one.size == other.size && (one.data == NULL) == (other.data == NULL) &&
           (one.size == 0 || memcmp(one.data, other.data, one.size) == 0);
}

/* The redacted form is a URL of the same server; all that is hidden is "***". */
static void
check_redacted(const RedlaneUrl *url, const RedlaneBuffer *shown)
{
    RedlaneUrl again;
    bool options_hidden = false;

    for (size_t i = 0; i < url->parameter_count; i++) {
        const char *name = url->parameters[i].name.data;

        options_hidden = options_hidden || (strcmp(name, "timeout") != 0 &&
                                            strcmp(name, "password") != 0);
    }
    if (options_hidden) {
        return; /* a bare *** stands there, which is no option */
    }
    require(redlane_url_parse(&again, shown->data, shown->size) == NULL,
            "a redacted URL parses");
    require(again.scheme == url->scheme && same_text(again.host, url->host) &&
                same_text(again.path, url->path) && again.port == url->port &&
                again.db == url->db,
            "a redacted URL names the same server");
    if (url->password.data) {
        require(same_text(again.user, url->user) && again.password.size == 3 &&
                    memcmp(again.password.data, "***", 3) == 0,
                "the user stays, the password is hidden");
    }
    redlane_url_free(&again);
}

static void
check_any(const char *text, size_t size)
{
    RedlaneUrl url;
    RedlaneBuffer shown = {0};
    const char *wrong = redlane_url_parse(&url, text, size);

    require(redlane_url_redact(text, size, &shown) == 0, "anything can be redacted");
    if (!wrong) {
        check_parsed(&url);
        check_redacted(&url, &shown);
    }
    else {
        require(shown.size >= 3 && shown.size <= 12 &&
                    memcmp(shown.data + shown.size - 3, "***", 3) == 0,
                "no more than the scheme of what cannot be parsed");
    }
    redlane_url_free(&url);
    redlane_buffer_free(&shown);
}

static void
append_encoded(RedlaneBuffer *buffer, const char *text, size_t size)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        char escaped[3] = {'%', digits[byte >> 4], digits[byte & 15]};

        redlane_buffer_append(buffer, escaped, 3);
    }
}

/* Every byte but NUL, encoded, is a password that comes back. */
static void
check_round_trip(const char *text, size_t size)
{
    RedlaneBuffer made = {0};
    RedlaneUrl url;
    const char *wrong;

    redlane_buffer_append_literal(&made, "redis://");
    append_encoded(&made, text, size);
    redlane_buffer_append_literal(&made, ":");
    append_encoded(&made, text, size);
    redlane_buffer_append_literal(&made, "@[::1]:7/3");
    wrong = redlane_url_parse(&url, made.data, made.size);
    if (made.size > REDLANE_URL_MAX_SIZE || (size && memchr(text, 0, size))) {
        require(wrong != NULL, "too long, or a NUL");
    }
    else {
        require(!wrong && url.password.size == size && url.user.size == size &&
                    (size == 0 || memcmp(url.password.data, text, size) == 0),
                "an encoded password comes back");
        require(url.port == 7 && url.db == 3 && strcmp(url.host.data, "::1") == 0,
                "and the rest as well");
    }
    redlane_url_free(&url);
    redlane_buffer_free(&made);
}

/* A password that nobody encoded, with a canary in it: whatever the parse makes of the
 * pieces, the canary is not shown. */
static void
check_raw_password(const char *text, size_t size)
{
    static const char *const schemes[] = {"redis://", "rediss://", "unix://",
                                          "https://"};
    static const char *const users[] = {":", "user:"};

    for (size_t i = 0; i < 8; i++) {
        const char *scheme = schemes[i % 4];
        RedlaneBuffer made = {0}, shown = {0};

        redlane_buffer_append(&made, scheme, strlen(scheme));
        redlane_buffer_append(&made, users[i / 4], strlen(users[i / 4]));
        redlane_buffer_append(&made, text, size / 2);
        redlane_buffer_append_literal(&made, CANARY);
        redlane_buffer_append(&made, text + size / 2, size - size / 2);
        redlane_buffer_append_literal(&made, "@");
        if (strcmp(scheme, "unix://") != 0) {
            redlane_buffer_append_literal(&made, "host:1");
        }
        redlane_buffer_append_literal(&made, "/0");
        require(redlane_url_redact(made.data, made.size, &shown) == 0, "redacted");
        require(!holds(shown.data, shown.size, CANARY, sizeof(CANARY) - 1),
                "a raw password is not shown");
        redlane_buffer_free(&made);
        redlane_buffer_free(&shown);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    check_any(text, size);
    check_round_trip(text, size);
    check_raw_password(text, size);
    return 0;
}
