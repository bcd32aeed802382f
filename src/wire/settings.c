/* No lock: immutable but for the atomic reference count. */
#include "wire/settings.h"

#include <stdlib.h>
#include <string.h>

#include "core/platform.h"

/* 0 when there is nothing to copy or it was copied. */
static int
copy_text(char **copy, const char *text)
{
    if (!text) {
        return 0;
    }
    *copy = strdup(text);
    return *copy ? 0 : -1;
}

static int
copy_password(RedlaneSettings *settings, const RedlaneSettings *draft)
{
    if (!draft->password) {
        return 0;
    }
    settings->password = malloc(draft->password_size + 1);
    if (!settings->password) {
        return -1;
    }
    memcpy(settings->password, draft->password, draft->password_size);
    settings->password[draft->password_size] = '\0';
    settings->password_size = draft->password_size;
    return 0;
}

RedlaneSettings *
redlane_settings_new(const RedlaneSettings *draft)
{
    RedlaneSettings *settings = calloc(1, sizeof(*settings));

    if (!settings) {
        return NULL;
    }
    atomic_init(&settings->references, 1);
    atomic_init(&settings->wants_run_id, false);
    atomic_init(&settings->answered, false);
    settings->scheme = draft->scheme;
    settings->port = draft->port;
    settings->db = draft->db;
    settings->timeout = draft->timeout;
    settings->connect_timeout = draft->connect_timeout;
    settings->pool_size = draft->pool_size;
    settings->max_reply = draft->max_reply;
    settings->max_memory = draft->max_memory;
    if (copy_text(&settings->host, draft->host) < 0 ||
        copy_text(&settings->path, draft->path) < 0 ||
        copy_text(&settings->username, draft->username) < 0 ||
        copy_password(settings, draft) < 0 ||
        copy_text(&settings->name, draft->name) < 0 ||
        copy_text(&settings->redacted, draft->redacted) < 0 ||
        (draft->scheme == REDLANE_SCHEME_REST &&
         !(settings->relay = redlane_relay_new()))) {
        redlane_settings_release(settings);
        return NULL;
    }
    settings->tls = draft->tls;
    return settings;
}

RedlaneSettings *
redlane_settings_hold(RedlaneSettings *settings)
{
    (void)atomic_fetch_add_explicit(&settings->references, 1, memory_order_relaxed);
    return settings;
}

void
redlane_settings_release(RedlaneSettings *settings)
{
    if (!settings || atomic_fetch_sub_explicit(&settings->references, 1,
                                               memory_order_acq_rel) != 1) {
        return;
    }
    if (settings->password) {
        redlane_platform_wipe(settings->password, settings->password_size);
    }
    free(settings->host);
    free(settings->path);
    free(settings->username);
    free(settings->password);
    free(settings->name);
    free(settings->redacted);
    redlane_tls_free(settings->tls);
    redlane_relay_free(settings->relay);
    free(settings);
}

void
redlane_settings_note_answer(const RedlaneSettings *settings)
{
    atomic_store_explicit((atomic_bool *)&settings->answered, true,
                          memory_order_relaxed);
}
