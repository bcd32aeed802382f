/* A near cache that is told what to do by lines on its standard input and answers each
 * with one line: so that tests can have it meet servers of every kind.
 *
 * usage: driver HOST PORT [name=value …]     (HOST with a slash: a unix socket)
 *   user, password, ca, interval (ms), max (bytes), timeout (ms)
 *
 * Values are strings of malloc; what they cost is their length. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "near/near.h"

static RedlaneNear *near;
static RedlaneNearTicket tickets[10];

static const char *const state_names[] = {"idle", "connecting", "confirmed", "refused",
                                          "closed"};

static void
fail(const char *why)
{
    fprintf(stderr, "driver: %s\n", why);
    exit(2);
}

static char *
text_option(char *argument, const char *name)
{
    size_t size = strlen(name);

    return strncmp(argument, name, size) == 0 && argument[size] == '='
               ? argument + size + 1
               : NULL;
}

static void
make_near(int argc, char **argv)
{
    RedlaneTlsOptions tls = {0};
    RedlaneSettings draft = {.scheme = REDLANE_SCHEME_TCP,
                             .timeout = REDLANE_NS_PER_S,
                             .connect_timeout = 5 * REDLANE_NS_PER_S,
                             .max_reply = 1 << 20};
    RedlaneSettings *settings;
    RedlaneFault fault;
    size_t max = 1 << 20;
    int64_t interval = REDLANE_NS_PER_S;
    char *text;

    draft.port = atoi(argv[2]);
    if (strchr(argv[1], '/')) {
        draft.scheme = REDLANE_SCHEME_UNIX;
        draft.path = argv[1];
    }
    else {
        draft.host = argv[1];
    }
    for (int i = 3; i < argc; i++) {
        if ((text = text_option(argv[i], "user"))) {
            draft.username = text;
        }
        else if ((text = text_option(argv[i], "password"))) {
            draft.password = text;
            draft.password_size = strlen(text);
        }
        else if ((text = text_option(argv[i], "ca"))) {
            tls.ca = text;
        }
        else if ((text = text_option(argv[i], "interval"))) {
            interval = atoi(text) * REDLANE_NS_PER_MS;
        }
        else if ((text = text_option(argv[i], "timeout"))) {
            draft.connect_timeout = atoi(text) * REDLANE_NS_PER_MS;
        }
        else if ((text = text_option(argv[i], "max"))) {
            max = (size_t)atoi(text);
        }
        else {
            fail(argv[i]);
        }
    }
    if (tls.ca && !(draft.tls = redlane_tls_new_nogil(&tls, &fault))) {
        fail(fault.text);
    }
    settings = redlane_settings_new(&draft);
    near = settings ? redlane_near_new(settings, max, interval) : NULL;
    if (!near) {
        fail("no memory");
    }
    redlane_settings_release(settings);
}

static void
free_dead(void)
{
    void *value;

    while ((value = redlane_near_take_dead(near))) {
        free(value);
    }
}

static const char *
store(const char *key, const RedlaneNearTicket *ticket, const char *text, int64_t pttl)
{
    char *value = strdup(text);
    const RedlaneNearOffer offer = {
        .value = value, .cost = strlen(text), .pttl_ms = pttl, .near_ttl_ms = 60000};
    RedlaneNearEntry *entry =
        redlane_near_store(near, key, strlen(key), ticket, &offer);

    if (!entry) {
        free(value);
        return "refused";
    }
    free(redlane_near_entry_release(entry));
    return "stored";
}

static void
say_entry(RedlaneNearEntry *entry)
{
    printf("%s\n", entry ? (const char *)entry->value : "-");
    if (entry) {
        free(redlane_near_entry_release(entry));
    }
}

/* The statistics as one line of JSON: the reasons hold neither quotes nor backslashes
 * here, else they are replaced. */
static void
say_stats(void)
{
    RedlaneNearStats stats;

    redlane_near_stats(near, &stats);
    for (char *at = stats.reason; *at; at++) {
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ') {
            *at = '\'';
        }
    }
    printf("{\"state\": \"%s\", \"resp3\": %s, \"reason\": \"%s\", \"run_id\": \"%s\", "
           "\"prefixes\": %zu, \"entries\": %zu, \"bytes\": %zu, \"dead\": %zu, "
           "\"hits\": %" PRIu64 ", \"misses\": %" PRIu64 ", \"stores\": %" PRIu64
           ", \"overtaken\": %" PRIu64 ", \"evictions\": %" PRIu64
           ", \"invalidations\": %" PRIu64 ", \"flushes\": %" PRIu64
           ", \"links\": %" PRIu64 "}\n",
           state_names[stats.state], stats.resp3 ? "true" : "false", stats.reason,
           stats.run_id, stats.prefixes, stats.entries, stats.bytes, stats.dead,
           stats.hits, stats.misses, stats.stores, stats.overtaken, stats.evictions,
           stats.invalidations, stats.flushes, stats.links);
}

static void
say_notice(void)
{
    char text[232];

    puts(redlane_near_take_notice(near, text, sizeof(text)) ? text : "-");
}

/* What a child made by fork finds, confirms, stores and finds; 0 when all is well. */
static int
child(void)
{
    RedlaneNearTicket ticket;
    RedlaneNearEntry *entry;
    int64_t until = redlane_clock_now() + 30 * REDLANE_NS_PER_S;

    if (redlane_near_is_confirmed(near) || redlane_near_find(near, "k:1", 3)) {
        return 10;
    }
    do {
        ticket = redlane_near_ticket(near, "k:1", 3);
        (void)usleep(1000);
    } while (!ticket.generation && redlane_clock_now() < until);
    if (strcmp(store("k:1", &ticket, "of the child", 60000), "stored") != 0) {
        return 11;
    }
    entry = redlane_near_find(near, "k:1", 3);
    if (!entry || strcmp(entry->value, "of the child") != 0) {
        return 12;
    }
    free(redlane_near_entry_release(entry));
    return redlane_near_stop_all(10 * REDLANE_NS_PER_S) ? 0 : 13;
}

static void
do_fork(void)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        _exit(child());
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        fail("fork");
    }
    printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

/* find K | stale K | ticket N K | holds N | store N K VALUE PTTL | kill K | prefix P |
 * clear | watch P | same RUN_ID | stats | notice | dead | fork | wait N MS | close |
 * stop */
static void
obey(char **word, size_t count)
{
    const char *verb = word[0];
    const char *key = count > 1 ? word[1] : "";
    RedlaneNearTicket *ticket = &tickets[atoi(key) % 10];

    if (strcmp(verb, "find") == 0) {
        say_entry(redlane_near_find(near, key, strlen(key)));
    }
    else if (strcmp(verb, "stale") == 0) {
        say_entry(redlane_near_find_stale(near, key, strlen(key)));
    }
    else if (strcmp(verb, "ticket") == 0 && count == 3) {
        *ticket = redlane_near_ticket(near, word[2], strlen(word[2]));
        puts(ticket->generation ? "good" : "void");
    }
    else if (strcmp(verb, "holds") == 0) {
        puts(redlane_near_ticket_holds(near, ticket) ? "true" : "false");
    }
    else if (strcmp(verb, "wait") == 0 && count == 3) {
        int64_t until = redlane_clock_now() + atoi(word[2]) * REDLANE_NS_PER_MS;

        puts(redlane_near_wait_nogil(near, ticket, until) ? "overtaken" : "holds");
    }
    else if (strcmp(verb, "store") == 0 && count == 5) {
        puts(store(word[2], ticket, word[3], atoll(word[4])));
    }
    else if (strcmp(verb, "same") == 0) {
        puts(redlane_near_is_same_server(near, key) ? "true" : "false");
    }
    else if (strcmp(verb, "watch") == 0) {
        puts(redlane_near_watch(near, key, strlen(key)) ? "true" : "false");
    }
    else if (strcmp(verb, "stats") == 0) {
        say_stats();
    }
    else if (strcmp(verb, "notice") == 0) {
        say_notice();
    }
    else if (strcmp(verb, "fork") == 0) {
        do_fork();
    }
    else if (strcmp(verb, "stop") == 0) {
        puts(redlane_near_stop_all(10 * REDLANE_NS_PER_S) ? "true" : "false");
    }
    else {
        if (strcmp(verb, "kill") == 0) {
            redlane_near_kill(near, key, strlen(key));
        }
        else if (strcmp(verb, "prefix") == 0) {
            redlane_near_kill_prefix(near, key, strlen(key));
        }
        else if (strcmp(verb, "clear") == 0) {
            redlane_near_kill_all(near);
        }
        else if (strcmp(verb, "close") == 0) {
            redlane_near_close(near);
        }
        else if (strcmp(verb, "dead") == 0) {
            free_dead();
        }
        else {
            fail(verb);
        }
        puts("ok");
    }
}

int
main(int argc, char **argv)
{
    static char line[70000];

    if (argc < 3) {
        fail("usage: driver HOST PORT [name=value …]");
    }
    make_near(argc, argv);
    while (fgets(line, sizeof(line), stdin)) {
        char *word[6] = {line, line + strlen(line)};
        size_t count = 0;

        line[strcspn(line, "\n")] = '\0';
        for (char *at = line; at && count < 6;) {
            word[count++] = at;
            at = strchr(at, ' ');
            if (at) {
                *at++ = '\0';
            }
        }
        obey(word, count);
        (void)fflush(stdout);
    }
    redlane_near_close(near);
    free_dead();
    if (!redlane_near_stop_all(10 * REDLANE_NS_PER_S)) {
        fail("the thread does not end");
    }
    redlane_near_release(near);
    return 0;
}
