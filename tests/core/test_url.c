#include "core/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static RedlaneUrl
parse(const char *text)
{
    RedlaneUrl url;
    const char *wrong = redlane_url_parse(&url, text, strlen(text));

    if (wrong) {
        printf("%s: %s\n", text, wrong);
    }
    CHECK(wrong == NULL);
    return url;
}

static bool
is(RedlaneUrlText text, const char *wanted)
{
    return wanted ? text.data && text.size == strlen(wanted) &&
                        strcmp(text.data, wanted) == 0
                  : text.data == NULL && text.size == 0;
}

static void
test_tcp(void)
{
    RedlaneUrl url = parse("redis://user:pa%40ss%2F%0d@Host.example:6380/15");

    CHECK_INTEGER(url.scheme, REDLANE_URL_REDIS);
    CHECK(is(url.user, "user") && is(url.password, "pa@ss/\r"));
    CHECK(is(url.host, "Host.example") && is(url.path, NULL));
    CHECK(url.port == 6380 && url.port_given && url.db == 15 && url.db_given);
    redlane_url_free(&url);
    CHECK(url.storage == NULL);

    url = parse("REDISS://");
    CHECK(url.scheme == REDLANE_URL_REDISS && is(url.host, "localhost"));
    CHECK(url.port == 6379 && !url.port_given && url.db == 0 && !url.db_given);
    CHECK(is(url.user, NULL) && is(url.password, NULL));
    redlane_url_free(&url);

    url =
        parse("redis://:p@ss:w:rd@[::1%25eth0]:1/?db=2147483647&timeout=0.5&&name=a+b");
    CHECK(is(url.user, NULL) && is(url.password, "p@ss:w:rd"));
    CHECK(is(url.host, "::1%eth0") && url.port == 1 && url.db == 2147483647);
    CHECK_INTEGER(url.parameter_count, 2);
    CHECK(is(*redlane_url_parameter(&url, "timeout"), "0.5"));
    CHECK(is(*redlane_url_parameter(&url, "name"), "a+b"));
    CHECK(redlane_url_parameter(&url, "db") == NULL);
    redlane_url_free(&url);

    url = parse("redis://user@/3?db=3");
    CHECK(is(url.user, "user") && is(url.password, NULL) && url.db == 3);
    CHECK(is(url.host, "localhost"));
    redlane_url_free(&url);
    url = parse("redis://user:@h");
    CHECK(is(url.user, "user") && is(url.password, NULL) && is(url.host, "h"));
    redlane_url_free(&url);
}

static void
test_unix_and_http(void)
{
    RedlaneUrl url = parse("unix://us%65r:p%25ss@/run/red%20is.sock?db=1");

    CHECK_INTEGER(url.scheme, REDLANE_URL_UNIX);
    CHECK(is(url.user, "user") && is(url.password, "p%ss"));
    CHECK(is(url.path, "/run/red is.sock") && is(url.host, NULL));
    CHECK(url.db == 1 && url.port == 0);
    redlane_url_free(&url);
    url = parse("unix:///a@b");
    CHECK(is(url.path, "/a@b") && is(url.user, NULL) && url.db == 0);
    redlane_url_free(&url);
    url = parse("memory://");
    CHECK(url.scheme == REDLANE_URL_MEMORY && is(url.host, NULL) && url.port == 0);
    redlane_url_free(&url);
    url = parse("memory://?max_bytes=5");
    CHECK(is(*redlane_url_parameter(&url, "max_bytes"), "5"));
    redlane_url_free(&url);
    url = parse("https://xxx.upstash.io/a/b?token=t%3D");
    CHECK(url.scheme == REDLANE_URL_HTTPS && is(url.host, "xxx.upstash.io"));
    CHECK(url.port == 443 && is(url.path, "/a/b"));
    CHECK(is(*redlane_url_parameter(&url, "token"), "t="));
    redlane_url_free(&url);
    url = parse("http://h:8079");
    CHECK(url.scheme == REDLANE_URL_HTTP && url.port == 8079 && is(url.path, NULL));
    redlane_url_free(&url);
}

/* Texts that are no URL of ours; CANARY could be a secret. */
static const char *const refused[] = {"",
                                      "CANARY",
                                      "CANARY:6379",
                                      "redis:/CANARY",
                                      "redi://CANARY",
                                      "redis:\x0f\x0fx",
                                      "redis://h/CANARY",
                                      "redis://h/-1",
                                      "redis://h/01",
                                      "redis://h/2147483648",
                                      "redis://h/0/",
                                      "redis://h/0/CANARY",
                                      "redis://h?db=x",
                                      "redis://h?db=",
                                      "redis://h/1?db=2",
                                      "redis://h?db=1&db=2",
                                      "redis://h:",
                                      "redis://h:0",
                                      "redis://h:65536",
                                      "redis://h:+1",
                                      "redis://h:CANARY",
                                      "redis://h:06379",
                                      "redis://:CANARY/x@h:1/0",
                                      "redis://:CANARY?x@h",
                                      "redis://u:1/CANARY@h/0",
                                      "redis://u:1?name=CANARY@h/0",
                                      "https://u:1/CANARY@h/",
                                      "redis://:CANARY#x@h",
                                      "redis://::1/0",
                                      "redis://[::1",
                                      "redis://[CANARY]/0",
                                      "redis://[]/0",
                                      "redis://[::1]x/0",
                                      "redis://a b/0",
                                      "redis://a%2fb/0",
                                      "redis://a%00/0",
                                      "redis://%/0",
                                      "redis://%4",
                                      "redis://%zz",
                                      "redis://u%00:CANARY@h",
                                      "redis://:CANARY%00@h",
                                      "redis://h\n/CANARY",
                                      "redis://h\r/0",
                                      "redis://h%0a/0",
                                      "redis://h?CANARY",
                                      "redis://h?=CANARY",
                                      "redis://h?a=CANARY&a=2",
                                      "redis://h?x=%0d%0aCANARY",
                                      "unix://CANARY",
                                      "unix://",
                                      "unix:///",
                                      "unix://h/CANARY",
                                      "unix://:p@/CANARY@/x",
                                      "unix:///a%00b",
                                      "memory://CANARY",
                                      "memory:///CANARY",
                                      "https://h:99999/CANARY"};

/* Every refusal has a text that holds nothing of the URL, and a redacted form that
 * shows no more than the scheme. */
static void
test_refusals(void)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        RedlaneBuffer shown = {0};
        RedlaneUrl url;
        const char *wrong = redlane_url_parse(&url, refused[i], strlen(refused[i]));

        if (!wrong) {
            printf("%s was let pass\n", refused[i]);
        }
        CHECK(wrong && strlen(wrong) > 5 && !strstr(wrong, "CANARY"));
        redlane_url_free(&url);
        CHECK_INTEGER(redlane_url_redact(refused[i], strlen(refused[i]), &shown), 0);
        CHECK(shown.size >= 3 && memcmp(shown.data + shown.size - 3, "***", 3) == 0);
        CHECK(!memmem(shown.data, shown.size, "CANARY", 6));
        redlane_buffer_free(&shown);
    }
}

static void
test_bounds(void)
{
    RedlaneUrl url;
    RedlaneBuffer text = {0};
    char option[32];

    CHECK(redlane_url_parse(&url, "redis://h\0/0", 12) != NULL);
    redlane_url_free(&url);
    redlane_buffer_append_literal(&text, "redis://h/0?");
    for (int i = 0; i < REDLANE_URL_MAX_PARAMETERS; i++) {
        int size = snprintf(option, sizeof(option), "o%d=&", i);

        redlane_buffer_append(&text, option, (size_t)size);
    }
    CHECK(redlane_url_parse(&url, text.data, text.size) == NULL);
    CHECK_INTEGER(url.parameter_count, REDLANE_URL_MAX_PARAMETERS);
    redlane_url_free(&url);
    redlane_buffer_append_literal(&text, "x=1");
    CHECK(redlane_url_parse(&url, text.data, text.size) != NULL);
    redlane_url_free(&url);
    text.size = 0;
    redlane_buffer_append_literal(&text, "redis://");
    while (text.size < 300) {
        redlane_buffer_append_byte(&text, 'h');
    }
    CHECK(redlane_url_parse(&url, text.data, text.size) != NULL);
    redlane_url_free(&url);
    while (text.size <= REDLANE_URL_MAX_SIZE) {
        redlane_buffer_append_byte(&text, 'h');
    }
    CHECK(redlane_url_parse(&url, text.data, text.size) != NULL);
    redlane_url_free(&url);
    redlane_buffer_free(&text);
}

static void
check_redacted(const char *text, const char *wanted)
{
    RedlaneBuffer shown = {0};

    CHECK_INTEGER(redlane_url_redact(text, strlen(text), &shown), 0);
    check_bytes(shown.data, shown.size, wanted, strlen(wanted), text, __FILE__,
                __LINE__);
    redlane_buffer_free(&shown);
}

static void
test_redaction(void)
{
    check_redacted("redis://user:secret@host:6379/0", "redis://user:***@host:6379/0");
    check_redacted("redis://:secret@host", "redis://:***@host");
    check_redacted("redis://secret@host", "redis://***@host");
    check_redacted("REDIS://us%65r%40:x@h/", "redis://user%40:***@h");
    check_redacted("redis://", "redis://localhost");
    check_redacted("rediss://[::1%25e]:1?db=2&timeout=1&password=x&token=y&other=z",
                   "rediss://[::1%25e]:1/2?timeout=1&password=***&token=***&***");
    check_redacted("rediss://h?tls_ca=%2Fca.pem&tls_key=k&tls_key_password=p"
                   "&ssl_certfile=c&ssl_keyfile=k&ssl_keyfile_password=p",
                   "rediss://h?tls_ca=%2Fca.pem&tls_key=***&tls_key_password=***"
                   "&ssl_certfile=c&ssl_keyfile=***&ssl_keyfile_password=***");
    check_redacted("unix://u:p@/run/r.sock?db=1&name=a%26b",
                   "unix://u:***@/run/r.sock?db=1&name=a%26b");
    check_redacted("memory://", "memory://");
    check_redacted("https://xxx.upstash.io?token=t",
                   "https://xxx.upstash.io?token=***");
    check_redacted("redis://h/x", "redis://***");
    check_redacted("whatever", "***");
}

void
test_url(void)
{
    test_tcp();
    test_unix_and_http();
    test_refusals();
    test_bounds();
    test_redaction();
}
