/* GIL held, but while certificates are read. No message holds a value: the text of a
 * key may stand where its path should. */
#include "types/client_tls.h"

#include <string.h>

#include "py/state.h"

static int
refuse(RedlaneState *state, const char *source, const char *name, const char *problem)
{
    PyErr_Format(state->ConfigurationError, "%s%s%s: %s", source, *source ? ": " : "",
                 name, problem);
    return -1;
}

/* --- the query --- */

static PyObject **
place_of(RedlaneClientTls *tls, const char *name)
{
    const struct {
        const char *name, *other; /* redis-py's */
        PyObject **place;
    } known[] = {
        {"tls_ca", "ssl_ca_certs", &tls->ca},
        {"tls_cert", "ssl_certfile", &tls->cert},
        {"tls_key", "ssl_keyfile", &tls->key},
        {"tls_key_password", "ssl_keyfile_password", &tls->key_password},
        {"tls_server_name", "tls_server_name", &tls->server_name},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(name, known[i].name) == 0 || strcmp(name, known[i].other) == 0) {
            return known[i].place;
        }
    }
    return NULL;
}

int
redlane_client_tls_parameter(RedlaneState *state, const RedlaneUrlParameter *parameter,
                             const char *source, RedlaneClientTls *tls)
{
    const char *name = parameter->name.data;
    PyObject **place = place_of(tls, name);

    if (strcmp(name, "ssl_cert_reqs") == 0) {
        return strcmp(parameter->value.data, "required") == 0
                   ? 1
                   : refuse(state, source, name,
                            "certificates are always verified; a self-signed one is "
                            "given as tls_ca");
    }
    if (!place) {
        return 0;
    }
    if (*place) {
        return refuse(state, source, name, "it is given twice, by two names");
    }
    /* Paths as the system has them; what is no UTF-8 comes out again as it was. */
    *place = PyUnicode_DecodeFSDefaultAndSize(parameter->value.data,
                                              (Py_ssize_t)parameter->value.size);
    return *place ? 1 : -1;
}

void
redlane_client_tls_clear(RedlaneClientTls *tls)
{
    Py_CLEAR(tls->ca);
    Py_CLEAR(tls->cert);
    Py_CLEAR(tls->key);
    Py_CLEAR(tls->key_password);
    Py_CLEAR(tls->server_name);
}

/* --- the values --- */

static bool
is_given(PyObject *object)
{
    return object && object != Py_None;
}

/* The names of the options, in the order of RedlaneClientTls. */
static const char *
first_given(const RedlaneClientTls *given)
{
    return is_given(given->ca)             ? "tls_ca"
           : is_given(given->cert)         ? "tls_cert"
           : is_given(given->key)          ? "tls_key"
           : is_given(given->key_password) ? "tls_key_password"
           : is_given(given->server_name)  ? "tls_server_name"
                                           : NULL;
}

/* The path as bytes without NUL, new in *bytes. */
static int
read_path(RedlaneState *state, PyObject *object, const char *source, const char *name,
          PyObject **bytes, const char **path)
{
    if (!is_given(object)) {
        return 0;
    }
    if (!PyUnicode_FSConverter(object, bytes)) {
        if (PyErr_ExceptionMatches(PyExc_TypeError) ||
            PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            return refuse(state, source, name, "it must be a path, str or os.PathLike");
        }
        return -1;
    }
    *path = PyBytes_AS_STRING(*bytes);
    return **path ? 0 : refuse(state, source, name, "it is empty");
}

static int
read_password(RedlaneState *state, PyObject *object, const char *source,
              RedlaneTlsOptions *options)
{
    Py_ssize_t size = 0;

    if (!is_given(object)) {
        return 0;
    }
    if (PyBytes_Check(object)) {
        options->password = PyBytes_AS_STRING(object);
        size = PyBytes_GET_SIZE(object);
    }
    else if (PyUnicode_Check(object)) {
        options->password = PyUnicode_AsUTF8AndSize(object, &size);
        PyErr_Clear(); /* its message would hold the password */
    }
    if (!options->password) {
        return refuse(state, source, "tls_key_password",
                      "it must be a str that UTF-8 can encode, or bytes");
    }
    options->password_size = (size_t)size;
    return 0;
}

static int
read_server_name(RedlaneState *state, PyObject *object, const char *source,
                 RedlaneTlsOptions *options)
{
    static const char must_be[] = "it must be a host name or an address, in ASCII";
    Py_ssize_t size;

    if (!is_given(object)) {
        return 0;
    }
    if (!PyUnicode_Check(object) || !PyUnicode_IS_ASCII(object)) {
        return refuse(state, source, "tls_server_name", must_be);
    }
    options->server_name = PyUnicode_AsUTF8AndSize(object, &size);
    if (!options->server_name) {
        return -1;
    }
    if (size < 1 || size > 255 || options->server_name[0] == '.' ||
        strlen(options->server_name) != (size_t)size) {
        return refuse(state, source, "tls_server_name", must_be);
    }
    return 0;
}

static int
make_tls(RedlaneState *state, const char *source, const RedlaneTlsOptions *options,
         RedlaneTls **tls)
{
    RedlaneFault fault = {0};

    Py_BEGIN_ALLOW_THREADS
    *tls = redlane_tls_new_nogil(options, &fault);
    Py_END_ALLOW_THREADS
    if (*tls) {
        return 0;
    }
    if (fault.kind == REDLANE_FAULT_MEMORY) {
        PyErr_NoMemory();
    }
    else {
        PyErr_Format(state->ConfigurationError, "%s%s%s", source, *source ? ": " : "",
                     fault.text);
    }
    return -1;
}

int
redlane_client_tls_read(RedlaneState *state, const RedlaneClientTls *given,
                        const char *source, bool encrypted, RedlaneTls **tls)
{
    PyObject *ca = NULL, *cert = NULL, *key = NULL;
    RedlaneTlsOptions options = {0};
    const char *name = first_given(given);
    int result = -1;

    if (!encrypted) {
        return name ? refuse(state, source, name, "it goes with a rediss:// URL") : 0;
    }
    if (is_given(given->key) && !is_given(given->cert)) {
        return refuse(state, source, "tls_key", "it goes with tls_cert");
    }
    if (is_given(given->key_password) && !is_given(given->cert)) {
        return refuse(state, source, "tls_key_password", "it goes with tls_cert");
    }
    if (read_path(state, given->ca, source, "tls_ca", &ca, &options.ca) == 0 &&
        read_path(state, given->cert, source, "tls_cert", &cert, &options.cert) == 0 &&
        read_path(state, given->key, source, "tls_key", &key, &options.key) == 0 &&
        read_password(state, given->key_password, source, &options) == 0 &&
        read_server_name(state, given->server_name, source, &options) == 0) {
        result = make_tls(state, source, &options, tls);
    }
    Py_XDECREF(ca);
    Py_XDECREF(cert);
    Py_XDECREF(key);
    return result;
}
