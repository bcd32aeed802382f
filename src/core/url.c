#include "core/url.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/number.h"

const char redlane_url_no_memory[] = "out of memory";

static const char bad_escape[] = "a '%' must be followed by two hex digits";
static const char bad_bytes[] = "it holds a NUL, CR or LF";
static const char bad_db[] = "the database is not a number from 0 to 2147483647";
static const char bad_port[] =
    "the port is not a number from 1 to 65535 (in a password, '/' is written %2F, '?' "
    "%3F and '#' %23)";

typedef struct {
    const char *name; /* with its "://" */
    RedlaneUrlScheme scheme;
    int port; /* the default one; 0: no host and no port */
} SchemeRow;

static const SchemeRow schemes[] = {
    {"redis://", REDLANE_URL_REDIS, REDLANE_URL_DEFAULT_PORT},
    {"rediss://", REDLANE_URL_REDISS, REDLANE_URL_DEFAULT_PORT},
    {"unix://", REDLANE_URL_UNIX, 0},
    {"memory://", REDLANE_URL_MEMORY, 0},
    {"http://", REDLANE_URL_HTTP, 80},
    {"https://", REDLANE_URL_HTTPS, 443},
};

#define SCHEME_COUNT (sizeof(schemes) / sizeof(schemes[0]))

typedef struct {
    RedlaneUrl *url;
    char *out; /* the free rest of url->storage */
} Parser;

/* A piece of the URL as it was given. */
typedef struct {
    const char *start;
    const char *end;
} Piece;

static char
lower(char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (char)(byte + 32) : byte;
}

static const SchemeRow *
find_scheme(const char *text, size_t size)
{
    for (size_t i = 0; i < SCHEME_COUNT; i++) {
        const char *name = schemes[i].name;
        size_t at = 0;

        while (at < size && name[at] && lower(text[at]) == name[at]) {
            at++;
        }
        if (!name[at]) {
            return &schemes[i];
        }
    }
    return NULL;
}

static int
hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    digit = (char)(digit | 0x20);
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static const char *
find_byte(Piece piece, char byte)
{
    if (piece.start == piece.end) {
        return NULL;
    }
    return memchr(piece.start, byte, (size_t)(piece.end - piece.start));
}

/* Decodes a piece into the storage, which has room: decoding never makes it longer, and
 * the separator before or behind each piece pays for its NUL. Line breaks may stand in
 * credentials only. */
static const char *
decode_piece(Parser *parser, Piece piece, bool credential, RedlaneUrlText *text)
{
    char *out = parser->out;

    for (const char *at = piece.start; at < piece.end; at++) {
        char byte = *at;

        if (byte == '%') {
            int high = piece.end - at > 2 ? hex_value(at[1]) : -1;
            int low = high >= 0 ? hex_value(at[2]) : -1;

            if (low < 0) {
                return bad_escape;
            }
            byte = (char)(high << 4 | low);
            at += 2;
        }
        if (byte == 0 || (!credential && (byte == '\r' || byte == '\n'))) {
            return bad_bytes;
        }
        *out++ = byte;
    }
    *out = 0;
    *text = (RedlaneUrlText){parser->out, (size_t)(out - parser->out)};
    parser->out = out + 1;
    return NULL;
}

/* An empty user or password counts as not given. */
static const char *
decode_credential(Parser *parser, Piece piece, RedlaneUrlText *text)
{
    return piece.start == piece.end ? NULL : decode_piece(parser, piece, true, text);
}

static const char *
parse_user(Parser *parser, Piece piece)
{
    const char *colon = find_byte(piece, ':');
    const char *wrong;

    if (!colon) {
        return decode_credential(parser, piece, &parser->url->user);
    }
    wrong = decode_credential(parser, (Piece){piece.start, colon}, &parser->url->user);
    if (wrong) {
        return wrong;
    }
    return decode_credential(parser, (Piece){colon + 1, piece.end},
                             &parser->url->password);
}

static const char *
parse_port(RedlaneUrl *url, Piece piece)
{
    int64_t port;

    if (!redlane_number_parse_int64(piece.start, (size_t)(piece.end - piece.start),
                                    &port) ||
        port < 1 || port > 65535) {
        return bad_port;
    }
    url->port = (int)port;
    url->port_given = true;
    return NULL;
}

/* What may stand between the brackets of [::1%25eth0], decoded. */
static bool
is_address_byte(char byte)
{
    return hex_value(byte) >= 0 || byte == ':' || byte == '.';
}

static const char *
check_host(const RedlaneUrlText *host, bool bracketed)
{
    bool zone = false;

    if (host->size > 255) {
        return "the host is longer than 255 bytes";
    }
    for (size_t i = 0; i < host->size; i++) {
        unsigned char byte = (unsigned char)host->data[i];

        if (byte <= ' ' || byte == 0x7f || strchr("/?#@[]\\:", byte)) {
            if (!(bracketed && byte == ':')) {
                return "the host holds a byte that no host has (an IPv6 address stands "
                       "in brackets)";
            }
        }
        zone = zone || byte == '%';
        if (bracketed && !zone && !is_address_byte((char)byte)) {
            return "what stands in brackets is no IPv6 address";
        }
    }
    if (bracketed && !memchr(host->data, ':', host->size)) {
        return "what stands in brackets is no IPv6 address";
    }
    return NULL;
}

static const char *
parse_host(Parser *parser, Piece piece)
{
    RedlaneUrl *url = parser->url;
    bool bracketed = piece.start < piece.end && *piece.start == '[';
    Piece host = piece;
    const char *wrong;

    if (bracketed) {
        host.start++;
        host.end = find_byte(host, ']');
        if (!host.end) {
            return "the bracket of the IPv6 address is not closed";
        }
        piece.start = host.end + 1;
        if (piece.start < piece.end && *piece.start != ':') {
            return bad_port;
        }
    }
    else {
        const char *colon = find_byte(piece, ':');

        host.end = colon ? colon : piece.end;
        piece.start = host.end;
    }
    if (piece.start < piece.end) {
        wrong = parse_port(url, (Piece){piece.start + 1, piece.end});
        if (wrong) {
            return wrong;
        }
    }
    if (host.start == host.end && !bracketed) {
        url->host = (RedlaneUrlText){"localhost", 9};
        return NULL;
    }
    wrong = decode_piece(parser, host, false, &url->host);
    return wrong ? wrong : check_host(&url->host, bracketed);
}

/* `user:password@host:port`, as far as the scheme has them. */
static const char *
parse_authority(Parser *parser, Piece piece)
{
    RedlaneUrl *url = parser->url;
    const char *at = NULL;
    const char *wrong;

    if (url->scheme == REDLANE_URL_MEMORY) {
        return piece.start == piece.end ? NULL : "nothing may follow memory://";
    }
    for (const char *byte = piece.start; byte < piece.end; byte++) {
        if (*byte == '@') {
            at = byte; /* the last one: a password may hold it */
        }
    }
    if (at) {
        wrong = parse_user(parser, (Piece){piece.start, at});
        if (wrong) {
            return wrong;
        }
        piece.start = at + 1;
    }
    if (url->scheme == REDLANE_URL_UNIX) {
        return piece.start == piece.end
                   ? NULL
                   : "the path of a unix socket begins with '/', as in "
                     "unix:///run/redis.sock";
    }
    return parse_host(parser, piece);
}

static const char *
set_db(RedlaneUrl *url, const char *text, size_t size)
{
    int64_t db;

    if (!redlane_number_parse_int64(text, size, &db) || db < 0 || db > INT32_MAX) {
        return bad_db;
    }
    if (url->db_given && url->db != (int)db) {
        return "the path and ?db= name two databases";
    }
    url->db = (int)db;
    url->db_given = true;
    return NULL;
}

/* The path, with its '/', or empty. */
static const char *
parse_path(Parser *parser, Piece piece)
{
    RedlaneUrl *url = parser->url;
    size_t size = (size_t)(piece.end - piece.start);

    switch (url->scheme) {
    case REDLANE_URL_REDIS:
    case REDLANE_URL_REDISS:
        return size <= 1 ? NULL : set_db(url, piece.start + 1, size - 1);
    case REDLANE_URL_UNIX:
        if (size <= 1) {
            return "the path of the unix socket is missing, as in "
                   "unix:///run/redis.sock";
        }
        return decode_piece(parser, piece, false, &url->path);
    case REDLANE_URL_MEMORY:
        return size <= 1 ? NULL : "nothing may follow memory://";
    case REDLANE_URL_HTTP:
    case REDLANE_URL_HTTPS:
        break;
    }
    return size == 0 ? NULL : decode_piece(parser, piece, false, &url->path);
}

static const char *
parse_parameter(Parser *parser, Piece piece)
{
    RedlaneUrl *url = parser->url;
    RedlaneUrlParameter parameter;
    const char *equals = find_byte(piece, '=');
    const char *wrong;

    if (!equals || equals == piece.start) {
        return "an option of the query is not name=value";
    }
    wrong = decode_piece(parser, (Piece){piece.start, equals}, false, &parameter.name);
    if (!wrong) {
        wrong = decode_piece(parser, (Piece){equals + 1, piece.end}, false,
                             &parameter.value);
    }
    if (wrong) {
        return wrong;
    }
    if (strcmp(parameter.name.data, "db") == 0) {
        return set_db(url, parameter.value.data, parameter.value.size);
    }
    if (redlane_url_parameter(url, parameter.name.data)) {
        return "an option of the query is given twice";
    }
    if (url->parameter_count == REDLANE_URL_MAX_PARAMETERS) {
        return "the query has more than 32 options";
    }
    url->parameters[url->parameter_count++] = parameter;
    return NULL;
}

/* What stands behind '?'; empty pieces between '&' are let pass. */
static const char *
parse_query(Parser *parser, Piece piece)
{
    while (piece.start < piece.end) {
        const char *ampersand = find_byte(piece, '&');
        Piece one = {piece.start, ampersand ? ampersand : piece.end};
        const char *wrong = one.start == one.end ? NULL : parse_parameter(parser, one);

        if (wrong) {
            return wrong;
        }
        piece.start = ampersand ? ampersand + 1 : piece.end;
    }
    return NULL;
}

/* Cuts what follows the scheme at the first '/' and '?', and parses the three. */
static const char *
parse_rest(Parser *parser, Piece rest)
{
    const char *question = find_byte(rest, '?');
    Piece query = {rest.end, rest.end};
    Piece path;
    const char *slash;
    const char *wrong;

    if (question) {
        query.start = question + 1;
        rest.end = question;
    }
    slash = find_byte(rest, '/');
    path = (Piece){slash ? slash : rest.end, rest.end};
    rest.end = path.start;
    /* or else part of a password such as `1/x` would pass for a path; only a socket's
     * path may hold it, where there is no password before it */
    if (find_byte(query, '@') ||
        (find_byte(path, '@') &&
         (parser->url->scheme != REDLANE_URL_UNIX || find_byte(rest, '@')))) {
        return "an '@' behind the host is written %40 (in a password, '/' is written "
               "%2F and '?' %3F)";
    }
    wrong = parse_authority(parser, rest);
    if (!wrong) {
        wrong = parse_path(parser, path);
    }
    return wrong ? wrong : parse_query(parser, query);
}

const char *
redlane_url_parse(RedlaneUrl *url, const char *text, size_t size)
{
    const SchemeRow *scheme;
    Parser parser = {url, NULL};

    *url = (RedlaneUrl){0};
    if (size == 0) {
        return "it is empty";
    }
    if (size > REDLANE_URL_MAX_SIZE) {
        return "it is longer than 65,536 bytes";
    }
    if (memchr(text, 0, size) || memchr(text, '\r', size) || memchr(text, '\n', size)) {
        return bad_bytes;
    }
    if (memchr(text, '#', size)) {
        return "a '#' is written %23";
    }
    scheme = find_scheme(text, size);
    if (!scheme) {
        return "it does not begin with redis://, rediss://, unix://, memory:// or "
               "https://";
    }
    url->scheme = scheme->scheme;
    url->port = scheme->port;
    url->storage_size = size + 8;
    url->storage = malloc(url->storage_size);
    if (!url->storage) {
        return redlane_url_no_memory;
    }
    parser.out = url->storage;
    return parse_rest(&parser, (Piece){text + strlen(scheme->name), text + size});
}

void
redlane_url_free(RedlaneUrl *url)
{
    /* volatile, so that the compiler does not leave out what nobody reads after it */
    volatile char *byte = url->storage;

    for (size_t i = 0; url->storage && i < url->storage_size; i++) {
        byte[i] = 0;
    }
    free(url->storage);
    *url = (RedlaneUrl){0};
}

const RedlaneUrlText *
redlane_url_parameter(const RedlaneUrl *url, const char *name)
{
    for (size_t i = 0; i < url->parameter_count; i++) {
        if (strcmp(url->parameters[i].name.data, name) == 0) {
            return &url->parameters[i].value;
        }
    }
    return NULL;
}
