/* A URL as it may be shown in a log, an error or a repr. What is not known to be
 * harmless is left out, rather than what is known to be secret. */
#include <stdio.h>

#include "core/number.h"
#include "core/url.h"

#define HIDDEN "***"

static const char *const scheme_names[] = {
    [REDLANE_URL_REDIS] = "redis://", [REDLANE_URL_REDISS] = "rediss://",
    [REDLANE_URL_UNIX] = "unix://",   [REDLANE_URL_MEMORY] = "memory://",
    [REDLANE_URL_HTTP] = "http://",   [REDLANE_URL_HTTPS] = "https://",
};

/* Options whose values tell nothing. */
static const char *const harmless[] = {
    "connect_timeout", "decode_responses", "fallback",
    "max_bytes",       "max_reply",        "name",
    "pool_size",       "ssl_ca_certs",     "ssl_cert_reqs",
    "ssl_certfile",    "timeout",          "tls_ca",
    "tls_cert",        "tls_server_name",
};

/* Options whose name may be shown, but not the value. */
static const char *const secret[] = {
    "password", "ssl_keyfile", "ssl_keyfile_password",
    "tls_key",  "token",       "tls_key_password",
};

static bool
is_listed(const RedlaneUrlText *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name->data, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Percent-encodes all but the bytes that mean nothing anywhere in a URL, and '/', ':'
 * where `also` has them. */
static int
write_encoded(RedlaneBuffer *buffer, const RedlaneUrlText *text, const char *also)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text->size; i++) {
        unsigned char byte = (unsigned char)text->data[i];
        char escaped[3] = {'%', digits[byte >> 4], digits[byte & 15]};
        bool plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                     (byte >= '0' && byte <= '9') || strchr("-._~", byte) ||
                     strchr(also, byte);

        if ((plain ? redlane_buffer_append_byte(buffer, (char)byte)
                   : redlane_buffer_append(buffer, escaped, sizeof(escaped))) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
write_text(RedlaneBuffer *buffer, const char *text)
{
    return redlane_buffer_append(buffer, text, strlen(text));
}

static int
write_number(RedlaneBuffer *buffer, const char *before, int number)
{
    char digits[REDLANE_INT64_TEXT];
    size_t size = redlane_number_format_int64(digits, number);

    return write_text(buffer, before) < 0 ? -1
                                          : redlane_buffer_append(buffer, digits, size);
}

static int
write_authority(const RedlaneUrl *url, RedlaneBuffer *buffer)
{
    if (url->password.data) {
        if ((url->user.data && write_encoded(buffer, &url->user, "") < 0) ||
            write_text(buffer, ":" HIDDEN "@") < 0) {
            return -1;
        }
    }
    else if (url->user.data && write_text(buffer, HIDDEN "@") < 0) {
        return -1;
    }
    if (url->host.data) {
        bool bracketed = memchr(url->host.data, ':', url->host.size) != NULL;

        if ((bracketed && write_text(buffer, "[") < 0) ||
            write_encoded(buffer, &url->host, bracketed ? ":" : "") < 0 ||
            (bracketed && write_text(buffer, "]") < 0)) {
            return -1;
        }
    }
    return url->port_given ? write_number(buffer, ":", url->port) : 0;
}

static int
write_parameter(const RedlaneUrlParameter *parameter, RedlaneBuffer *buffer)
{
    if (is_listed(&parameter->name, harmless, sizeof(harmless) / sizeof(harmless[0]))) {
        return write_text(buffer, parameter->name.data) < 0 ||
                       write_text(buffer, "=") < 0
                   ? -1
                   : write_encoded(buffer, &parameter->value, "");
    }
    if (is_listed(&parameter->name, secret, sizeof(secret) / sizeof(secret[0])) &&
        (write_text(buffer, parameter->name.data) < 0 || write_text(buffer, "=") < 0)) {
        return -1;
    }
    return write_text(buffer, HIDDEN);
}

int
redlane_url_write_redacted(const RedlaneUrl *url, RedlaneBuffer *buffer)
{
    const char *separator = "?";
    bool socket = url->scheme == REDLANE_URL_UNIX;

    if (write_text(buffer, scheme_names[url->scheme]) < 0 ||
        write_authority(url, buffer) < 0 ||
        (url->path.data && write_encoded(buffer, &url->path, "/:") < 0)) {
        return -1;
    }
    if (url->db_given) {
        bool in_query = socket || url->scheme == REDLANE_URL_MEMORY ||
                        url->scheme == REDLANE_URL_HTTP ||
                        url->scheme == REDLANE_URL_HTTPS;

        if (write_number(buffer, in_query ? "?db=" : "/", url->db) < 0) {
            return -1;
        }
        separator = in_query ? "&" : "?";
    }
    for (size_t i = 0; i < url->parameter_count; i++) {
        if (write_text(buffer, separator) < 0 ||
            write_parameter(&url->parameters[i], buffer) < 0) {
            return -1;
        }
        separator = "&";
    }
    return 0;
}

int
redlane_url_redact(const char *text, size_t size, RedlaneBuffer *buffer)
{
    RedlaneUrl url;
    const char *wrong = redlane_url_parse(&url, text, size);
    int result = -1;

    if (wrong == redlane_url_no_memory) {
        goto exit;
    }
    if (!wrong) {
        result = redlane_url_write_redacted(&url, buffer);
    }
    else if (!url.storage || write_text(buffer, scheme_names[url.scheme]) == 0) {
        /* the scheme is known once there is storage */
        result = write_text(buffer, HIDDEN);
    }
exit:
    redlane_url_free(&url);
    return result;
}
