/* A client's options: every one is checked before anything is made.
 *
 * GIL held. A message names the option and says what it must be; of a URL it holds
 * nothing, since a password may stand anywhere in a URL that cannot be read. */
#include "types/client_options.h"

#include <math.h>
#include <string.h>
#include <sys/un.h>

#include "core/clock.h"
#include "core/platform.h"
#include "core/url.h"
#include "py/state.h"
#include "store/engine.h"
#include "types/client_tls.h"

#define DEFAULT_TIMEOUT (REDLANE_NS_PER_S / 4)
#define DEFAULT_TIMEOUT_TLS (REDLANE_NS_PER_S * 2)
#define MAX_SECONDS 1e6
#define DEFAULT_POOL_SIZE 32
#define MAX_POOL_SIZE 65536
#define DEFAULT_MAX_REPLY ((size_t)512 << 20)

static int
refuse(RedlaneState *state, const char *name, const char *must_be)
{
    PyErr_Format(state->ConfigurationError, "%s must be %s", name, must_be);
    return -1;
}

static bool
is_given(PyObject *object)
{
    return object && object != Py_None;
}

/* --- single options --- */

static int
read_seconds(RedlaneState *state, PyObject *object, const char *name, int64_t *result)
{
    double seconds = NAN;

    if (!is_given(object)) {
        return 0;
    }
    if (PyFloat_Check(object)) {
        seconds = PyFloat_AS_DOUBLE(object);
    }
    else if (PyLong_Check(object) && !PyBool_Check(object)) {
        seconds = PyLong_AsDouble(object);
        if (seconds == -1.0 && PyErr_Occurred()) {
            PyErr_Clear();
            seconds = NAN;
        }
    }
    if (!(seconds > 0 && seconds <= MAX_SECONDS)) {
        return refuse(state, name,
                      "a number of seconds greater than 0, at most 1,000,000");
    }
    *result = (int64_t)ceil(seconds * (double)REDLANE_NS_PER_S);
    return 0;
}

static int
read_size(RedlaneState *state, PyObject *object, const char *name, size_t most,
          size_t *result)
{
    Py_ssize_t value = -1;

    if (!is_given(object)) {
        return 0;
    }
    if (PyLong_Check(object) && !PyBool_Check(object)) {
        value = PyLong_AsSsize_t(object);
        if (value == -1 && PyErr_Occurred()) {
            PyErr_Clear();
        }
    }
    if (value < 1 || (size_t)value > most) {
        PyErr_Format(state->ConfigurationError, "%s must be an int from 1 to %zu", name,
                     most);
        return -1;
    }
    *result = (size_t)value;
    return 0;
}

/* CLIENT SETNAME takes printable ASCII without spaces. */
static int
read_name(RedlaneState *state, PyObject *object, char **result)
{
    const char *text;

    if (!is_given(object)) {
        return 0;
    }
    if (!PyUnicode_Check(object) || !PyUnicode_IS_ASCII(object)) {
        return refuse(state, "name", "printable ASCII without spaces");
    }
    text = PyUnicode_AsUTF8(object);
    if (!text) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(object); i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return refuse(state, "name", "printable ASCII without spaces");
        }
    }
    *result = (char *)text; /* a draft: the settings copy it */
    return 0;
}

static int
read_fallback(RedlaneState *state, PyObject *object, RedlanePolicy *policy)
{
    static const char *const names[] = {
        [REDLANE_POLICY_RAISE] = "raise",
        [REDLANE_POLICY_MEMORY] = "memory",
        [REDLANE_POLICY_NONE] = "none",
    };

    *policy = REDLANE_POLICY_RAISE;
    if (!is_given(object)) {
        return 0;
    }
    for (size_t i = 0; PyUnicode_Check(object) && i < 3; i++) {
        if (PyUnicode_CompareWithASCIIString(object, names[i]) == 0) {
            *policy = (RedlanePolicy)i;
            return 0;
        }
    }
    return refuse(state, "fallback", "'raise', 'memory' or 'none'");
}

static int
read_decode(RedlaneState *state, PyObject *object, bool *decode)
{
    *decode = object == Py_True;
    if (is_given(object) && !PyBool_Check(object)) {
        return refuse(state, "decode_responses", "True or False");
    }
    return 0;
}

/* --- the URL --- */

static int
parse_url(RedlaneState *state, PyObject *text, const char *source, RedlaneUrl *url)
{
    const char *data, *wrong;
    Py_ssize_t size;

    if (!PyUnicode_Check(text)) {
        return refuse(state, source, "a str");
    }
    data = PyUnicode_AsUTF8AndSize(text, &size);
    if (!data) {
        PyErr_Clear(); /* its message would hold the URL */
        return refuse(state, source, "text that UTF-8 can encode");
    }
    wrong = redlane_url_parse(url, data, (size_t)size);
    if (wrong == redlane_url_no_memory) {
        PyErr_NoMemory();
        return -1;
    }
    if (wrong) {
        PyErr_Format(state->ConfigurationError, "%s: %s", source, wrong);
        return -1;
    }
    return 0;
}

static bool
is_loopback(const RedlaneUrlText *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "::1"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(host->data, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int
read_scheme(RedlaneState *state, const RedlaneUrl *url, const char *source,
            RedlaneScheme *scheme)
{
    const char *message = NULL;

    switch (url->scheme) {
    case REDLANE_URL_MEMORY:
        *scheme = REDLANE_SCHEME_MEMORY;
        return 0;
    case REDLANE_URL_REDIS:
    case REDLANE_URL_REDISS:
        *scheme = REDLANE_SCHEME_TCP;
        return 0;
    case REDLANE_URL_UNIX:
        if (url->path.size >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
            message = "the path of a unix socket is too long for the system";
            break;
        }
        *scheme = REDLANE_SCHEME_UNIX;
        return 0;
    case REDLANE_URL_HTTP:
        if (!is_loopback(&url->host)) {
            message = "http:// would send the token unencrypted: it goes to this "
                      "machine alone";
            break;
        }
        /* fall through */
    case REDLANE_URL_HTTPS:
        if (url->user.data || url->password.data || url->db_given) {
            message = "an https:// URL has no user, password or database; what it is "
                      "opened with is its token";
            break;
        }
        *scheme = REDLANE_SCHEME_REST;
        return 0;
    }
    PyErr_Format(state->ConfigurationError, "%s: %s", source, message);
    return -1;
}

/* A parameter as an object: a number where `number` says so. NULL without an exception
 * when there is none. */
static PyObject *
make_parameter(RedlaneState *state, const RedlaneUrlParameter *parameter,
               const char *source, char number)
{
    PyObject *text, *object;

    text = PyUnicode_DecodeUTF8(parameter->value.data,
                                (Py_ssize_t)parameter->value.size, "replace");
    if (!text || !number) {
        return text;
    }
    object =
        number == 'f' ? PyFloat_FromString(text) : PyLong_FromUnicodeObject(text, 10);
    Py_DECREF(text);
    if (!object && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Format(state->ConfigurationError, "%s: the parameter %s is not a number",
                     source, parameter->name.data);
    }
    return object;
}

/* Owned objects from the query, where no keyword argument was given. */
typedef struct {
    PyObject *timeout, *connect_timeout, *pool_size, *name, *token;
    RedlaneClientTls tls;
} QueryArguments;

static int
read_parameter(RedlaneState *state, const RedlaneUrlParameter *parameter,
               const char *source, QueryArguments *query)
{
    const struct {
        const char *name;
        char number;
        PyObject **place;
    } known[] = {{"timeout", 'f', &query->timeout},
                 {"connect_timeout", 'f', &query->connect_timeout},
                 {"pool_size", 'i', &query->pool_size},
                 {"name", '\0', &query->name},
                 {"token", '\0', &query->token}};
    int taken = redlane_client_tls_parameter(state, parameter, source, &query->tls);

    if (taken) {
        return taken < 0 ? -1 : 0;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(parameter->name.data, known[i].name) == 0) {
            *known[i].place = make_parameter(state, parameter, source, known[i].number);
            return *known[i].place ? 0 : -1;
        }
    }
    PyErr_Format(state->ConfigurationError,
                 "%s: unknown parameter '%.40s' (known: db, timeout, connect_timeout, "
                 "pool_size, name, token, tls_ca, tls_cert, tls_key, tls_key_password, "
                 "tls_server_name)",
                 source, parameter->name.data);
    return -1;
}

static int
read_query(RedlaneState *state, const RedlaneUrl *url, const char *source,
           QueryArguments *query)
{
    for (size_t i = 0; i < url->parameter_count; i++) {
        if (read_parameter(state, &url->parameters[i], source, query) < 0) {
            return -1;
        }
    }
    return 0;
}

static void
clear_query(QueryArguments *query)
{
    Py_CLEAR(query->timeout);
    Py_CLEAR(query->connect_timeout);
    Py_CLEAR(query->pool_size);
    Py_CLEAR(query->name);
    Py_CLEAR(query->token);
    redlane_client_tls_clear(&query->tls);
}

static PyObject *
prefer(PyObject *keyword, PyObject *from_query)
{
    return is_given(keyword) ? keyword : from_query;
}

/* Fills the draft's plain values; texts point into the arguments. */
static int
read_options(RedlaneState *state, const RedlaneClientArguments *arguments,
             const QueryArguments *query, bool slow, RedlaneSettings *draft)
{
    draft->timeout = slow ? DEFAULT_TIMEOUT_TLS : DEFAULT_TIMEOUT;
    draft->connect_timeout = draft->timeout;
    draft->pool_size = DEFAULT_POOL_SIZE;
    draft->max_reply = DEFAULT_MAX_REPLY;
    draft->max_memory = REDLANE_ENGINE_MAX_BYTES;
    if (read_seconds(state, prefer(arguments->timeout, query->timeout), "timeout",
                     &draft->timeout) < 0 ||
        read_seconds(state, prefer(arguments->connect_timeout, query->connect_timeout),
                     "connect_timeout", &draft->connect_timeout) < 0 ||
        read_size(state, prefer(arguments->pool_size, query->pool_size), "pool_size",
                  MAX_POOL_SIZE, &draft->pool_size) < 0 ||
        read_size(state, arguments->max_reply, "max_reply", PY_SSIZE_T_MAX,
                  &draft->max_reply) < 0 ||
        read_size(state, arguments->max_memory, "max_memory", PY_SSIZE_T_MAX,
                  &draft->max_memory) < 0) {
        return -1;
    }
    return read_name(state, prefer(arguments->name, query->name), &draft->name);
}

/* What an HTTP header takes: printable ASCII. */
static int
read_token(RedlaneState *state, PyObject *object, const char *source,
           RedlaneSettings *draft)
{
    bool rest = draft->scheme == REDLANE_SCHEME_REST;
    Py_ssize_t size;
    const char *text;

    if (!is_given(object)) {
        if (rest) {
            PyErr_Format(state->ConfigurationError,
                         "%s: an https:// URL is opened with its token (token=)",
                         source);
        }
        return rest ? -1 : 0;
    }
    if (!rest) {
        return refuse(state, "token", "left out: it goes with an https:// URL");
    }
    if (!PyUnicode_Check(object) || !PyUnicode_IS_ASCII(object) ||
        PyUnicode_GET_LENGTH(object) == 0) {
        return refuse(state, "token", "printable ASCII without spaces");
    }
    text = PyUnicode_AsUTF8AndSize(object, &size);
    if (!text) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return refuse(state, "token", "printable ASCII without spaces");
        }
    }
    draft->password = (char *)text; /* a draft: the settings copy it */
    draft->password_size = (size_t)size;
    return 0;
}

static int
read_tls(RedlaneState *state, const RedlaneClientArguments *arguments,
         const QueryArguments *query, bool encrypted, RedlaneTls **tls)
{
    RedlaneClientTls given = {
        prefer(arguments->tls_ca, query->tls.ca),
        prefer(arguments->tls_cert, query->tls.cert),
        prefer(arguments->tls_key, query->tls.key),
        prefer(arguments->tls_key_password, query->tls.key_password),
        prefer(arguments->tls_server_name, query->tls.server_name),
    };

    /* Of a URL that is not the client's own, messages say where it stands. */
    return redlane_client_tls_read(
        state, &given, strcmp(arguments->source, "url") == 0 ? "" : arguments->source,
        encrypted, tls);
}

RedlaneSettings *
redlane_client_options_read(RedlaneState *state,
                            const RedlaneClientArguments *arguments,
                            RedlanePolicy *policy, bool *decode)
{
    RedlaneSettings draft = {0}, *settings = NULL;
    QueryArguments query = {0};
    RedlaneBuffer shown = {0};
    RedlaneUrl url = {0};
    bool encrypted, slow;

    if (parse_url(state, arguments->url, arguments->source, &url) < 0 ||
        read_scheme(state, &url, arguments->source, &draft.scheme) < 0 ||
        read_query(state, &url, arguments->source, &query) < 0) {
        goto exit;
    }
    encrypted = url.scheme == REDLANE_URL_REDISS;
    slow = encrypted || draft.scheme == REDLANE_SCHEME_REST;
    if (read_options(state, arguments, &query, slow, &draft) < 0 ||
        read_token(state, prefer(arguments->token, query.token), arguments->source,
                   &draft) < 0 ||
        read_fallback(state, arguments->fallback, policy) < 0 ||
        read_decode(state, arguments->decode_responses, decode) < 0 ||
        read_tls(state, arguments, &query, encrypted, &draft.tls) < 0) {
        goto exit;
    }
    if (draft.scheme == REDLANE_SCHEME_REST) {
        url.parameter_count = 0; /* it is shown as its owner knows it */
    }
    if (redlane_url_write_redacted(&url, &shown) < 0 ||
        redlane_buffer_append_byte(&shown, '\0') < 0) {
        PyErr_NoMemory();
        goto exit;
    }
    draft.host = (char *)url.host.data;
    draft.path = (char *)url.path.data;
    draft.username = (char *)url.user.data;
    if (draft.scheme != REDLANE_SCHEME_REST) {
        draft.password = (char *)url.password.data;
        draft.password_size = url.password.size;
    }
    draft.port = url.port;
    draft.db = url.db;
    draft.redacted = shown.data;
    settings = redlane_settings_new(&draft);
    if (!settings) {
        PyErr_NoMemory();
    }

exit:
    if (!settings) {
        redlane_tls_free(draft.tls);
    }
    redlane_buffer_free(&shown);
    clear_query(&query);
    redlane_url_free(&url);
    return settings;
}

/* --- for redlane._config --- */

static PyObject *
options_check_url(PyObject *module, PyObject *args)
{
    RedlaneState *state = redlane_state_of_module(module);
    RedlaneClientArguments arguments = {.source = "url"};
    PyObject *shown = NULL;
    RedlaneSettings *settings;
    RedlanePolicy policy;
    bool decode;

    if (!PyArg_ParseTuple(args, "O|s:_check_url", &arguments.url, &arguments.source)) {
        return NULL;
    }
    settings = redlane_client_options_read(state, &arguments, &policy, &decode);
    if (settings) {
        shown = PyUnicode_DecodeUTF8(settings->redacted,
                                     (Py_ssize_t)strlen(settings->redacted), "replace");
        redlane_settings_release(settings);
    }
    return shown;
}

static PyObject *
options_url_db(PyObject *module, PyObject *text)
{
    RedlaneUrl url = {0};
    PyObject *result = NULL;

    if (parse_url(redlane_state_of_module(module), text, "url", &url) == 0) {
        result = url.db_given ? PyLong_FromLong(url.db) : Py_NewRef(Py_None);
    }
    redlane_url_free(&url);
    return result;
}

PyDoc_STRVAR(
    options_check_url_doc,
    "_check_url(url, source='url')\n--\n\n"
    "The URL as it may be shown. ConfigurationError, which begins with source, "
    "for a bad one.");

PyDoc_STRVAR(options_url_db_doc,
             "_url_db(url)\n--\n\nThe database that a URL names, or None.");

PyMethodDef redlane_client_options_functions[] = {
    {"_check_url", options_check_url, METH_VARARGS, options_check_url_doc},
    {"_url_db", options_url_db, METH_O, options_url_db_doc},
    {NULL, NULL, 0, NULL},
};
