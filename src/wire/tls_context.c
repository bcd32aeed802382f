/* Lock: `making`, while a context is made of the system's certificates, which takes
 * some 30 ms: threads that connect at once wait for the first. It is taken inside the
 * gate alone, so no fork finds it taken. What files say is read before anybody else has
 * the object. */
#include "wire/tls_context.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire/tls_gate.h"

static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

typedef struct {
    const RedlaneTlsOptions *options;
    bool asked; /* the key is encrypted */
} Secret;

static int
refuse(RedlaneFault *fault, const char *option, const char *reason)
{
    redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "%s: %s", option, reason);
    return -1;
}

const char *
redlane_tls_reason(const char *otherwise)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    return reason ? reason : otherwise;
}

/* Says what the system says of a file: OpenSSL's message would hold its path. */
static int
check_file(const char *option, const char *path, bool folder_too, bool *folder,
           RedlaneFault *fault)
{
    struct stat found;

    if (strncmp(path, "-----", 5) == 0) {
        return refuse(fault, option, "it must be the path of a file, not its contents");
    }
    if (stat(path, &found) < 0) {
        return refuse(fault, option, strerror(errno));
    }
    *folder = S_ISDIR(found.st_mode);
    if (*folder && !folder_too) {
        return refuse(fault, option, strerror(EISDIR));
    }
    return access(path, R_OK) < 0 ? refuse(fault, option, strerror(errno)) : 0;
}

/* pem_password_cb. Without it OpenSSL would ask on the terminal. */
static int
give_password(char *buffer, int size, int writing, void *context)
{
    Secret *secret = context;
    const RedlaneTlsOptions *options = secret->options;

    (void)writing;
    secret->asked = true;
    if (!options->password || options->password_size > (size_t)size) {
        return -1;
    }
    memcpy(buffer, options->password, options->password_size);
    return (int)options->password_size;
}

static int
load_ca(SSL_CTX *context, const char *path, RedlaneFault *fault)
{
    X509_VERIFY_PARAM *parameters = SSL_CTX_get0_param(context);
    bool folder;

    if (!path) {
        return SSL_CTX_set_default_verify_paths(context) == 1
                   ? 0
                   : refuse(fault, "TLS", "the system's certificates cannot be read");
    }
    if (check_file("tls_ca", path, true, &folder, fault) < 0) {
        return -1;
    }
    if ((folder ? SSL_CTX_load_verify_dir(context, path)
                : SSL_CTX_load_verify_file(context, path)) != 1) {
        return refuse(fault, "tls_ca", redlane_tls_reason("no certificate in PEM"));
    }
    /* What is given is trusted, be it a root, an intermediate or the server's own. */
    (void)X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
    return 0;
}

static int
load_key(SSL_CTX *context, const RedlaneTlsOptions *options, const Secret *secret,
         RedlaneFault *fault)
{
    static const char stranger[] = "the key does not belong to the certificate";
    const char *option = options->key ? "tls_key" : "tls_cert";
    bool folder;
    int used, reason;

    if (options->key && check_file(option, options->key, false, &folder, fault) < 0) {
        return -1;
    }
    used = SSL_CTX_use_PrivateKey_file(
        context, options->key ? options->key : options->cert, SSL_FILETYPE_PEM);
    if (used == 1) {
        return SSL_CTX_check_private_key(context) == 1
                   ? 0
                   : refuse(fault, option, stranger);
    }
    reason = ERR_GET_REASON(ERR_peek_last_error());
    if (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH) {
        return refuse(fault, option, stranger);
    }
    if (!secret->asked) {
        return refuse(fault, option,
                      options->key ? "no private key in PEM"
                                   : "no private key in PEM, and there is no tls_key");
    }
    return options->password
               ? refuse(fault, "tls_key_password", "it does not open the key")
               : refuse(fault, option,
                        "the key is encrypted, and there is no tls_key_password");
}

static int
load_identity(SSL_CTX *context, const RedlaneTlsOptions *options, RedlaneFault *fault)
{
    Secret secret = {options, false};
    bool folder;
    int result;

    if (!options->cert) {
        return 0;
    }
    if (check_file("tls_cert", options->cert, false, &folder, fault) < 0) {
        return -1;
    }
    SSL_CTX_set_default_passwd_cb(context, give_password);
    SSL_CTX_set_default_passwd_cb_userdata(context, &secret);
    if (SSL_CTX_use_certificate_chain_file(context, options->cert) == 1) {
        result = load_key(context, options, &secret, fault);
    }
    else {
        result = refuse(fault, "tls_cert", redlane_tls_reason("no certificate in PEM"));
    }
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    return result;
}

static SSL_CTX *
make_context(const RedlaneTlsOptions *options, RedlaneFault *fault)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
        (void)refuse(fault, "TLS", redlane_tls_reason("out of memory"));
        goto error;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    /* The rest of a request may have moved when it is written again. */
    (void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (load_identity(context, options, fault) == 0 &&
        load_ca(context, options->ca, fault) == 0) {
        return context;
    }
error:
    SSL_CTX_free(context);
    return NULL;
}

SSL_CTX *
redlane_tls_context(RedlaneTls *tls, RedlaneFault *fault)
{
    const RedlaneTlsOptions none = {0};
    SSL_CTX *context = atomic_load(&tls->context);

    if (context) {
        return context;
    }
    (void)pthread_mutex_lock(&making);
    context = atomic_load(&tls->context);
    if (!context) {
        context = make_context(&none, fault);
        atomic_store(&tls->context, context);
    }
    (void)pthread_mutex_unlock(&making);
    return context;
}

RedlaneTls *
redlane_tls_new_nogil(const RedlaneTlsOptions *options, RedlaneFault *fault)
{
    RedlaneTls *tls = calloc(1, sizeof(*tls));

    if (tls && options->server_name) {
        tls->server_name = strdup(options->server_name);
    }
    if (!tls || (options->server_name && !tls->server_name)) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        goto error;
    }
    if (!options->ca && !options->cert) {
        return tls; /* reading the system's certificates can wait */
    }
    if (!redlane_tls_enter()) {
        (void)refuse(fault, "TLS", "OpenSSL cannot be used");
        goto error;
    }
    atomic_init(&tls->context, make_context(options, fault));
    redlane_tls_leave();
    if (atomic_load(&tls->context)) {
        return tls;
    }
error:
    redlane_tls_free(tls);
    return NULL;
}

void
redlane_tls_free(RedlaneTls *tls)
{
    SSL_CTX *context;

    if (!tls) {
        return;
    }
    context = atomic_load(&tls->context);
    if (context && redlane_tls_enter()) {
        SSL_CTX_free(context);
        redlane_tls_leave();
    }
    free(tls->server_name);
    free(tls);
}

const char *
redlane_tls_version(const RedlaneTls *tls)
{
    return atomic_load(&((RedlaneTls *)tls)->version);
}

const char *
redlane_tls_cipher(const RedlaneTls *tls)
{
    return atomic_load(&((RedlaneTls *)tls)->cipher);
}
