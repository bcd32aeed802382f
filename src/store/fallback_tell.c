/* What the log hears of a link. GIL held; any Python code may run. */
#include "py/log.h"
#include "store/engine_store.h"
#include "store/fallback.h"

/* Once the link is well the engine's values are of no use, nor is their memory. */
static void
empty_engine(RedlaneMembers *members)
{
    RedlaneRoute route = redlane_guard_route(members->guard);

    if (route.well && members->engine) {
        redlane_engine_flush(redlane_engine_store_engine(members->engine));
    }
}

static void
tell_one(RedlaneState *state, RedlaneMembers *members, const RedlaneNews *news)
{
    const char *url = members->settings->redacted;

    switch (news->kind) {
    case REDLANE_NEWS_BACK:
        empty_engine(members);
        redlane_log_event(state, REDLANE_LOG_INFO, "redlane.link.up",
                          "Redis is back: %s", url);
        break;
    case REDLANE_NEWS_SUSPECT:
        redlane_log_event(state, REDLANE_LOG_INFO, "redlane.link.suspect",
                          "Redis is being checked: %s (%s)", url, news->reason);
        break;
    case REDLANE_NEWS_AWAY:
        redlane_log_event(state, REDLANE_LOG_WARNING, "redlane.link.down",
                          "Redis is away: %s (%s)", url, news->reason);
        break;
    case REDLANE_NEWS_REFUSED:
        redlane_log_event(state, REDLANE_LOG_ERROR, "redlane.link.refused",
                          "Redis is away: %s (%s)", url, news->reason);
        break;
    case REDLANE_NEWS_READONLY:
        redlane_log_event(state, REDLANE_LOG_WARNING, "redlane.link.readonly",
                          "Redis takes no writes: %s (%s)", url, news->reason);
        break;
    case REDLANE_NEWS_WRITES:
        empty_engine(members);
        redlane_log_event(state, REDLANE_LOG_INFO, "redlane.link.writable",
                          "Redis takes writes again: %s", url);
        break;
    case REDLANE_NEWS_FAILED:
        redlane_log_event(state, REDLANE_LOG_ERROR, "redlane.operation.failed",
                          "Redis operation failed: %s (%s)", news->reason, url);
        break;
    case REDLANE_NEWS_LOST:
        redlane_log_event(
            state, REDLANE_LOG_WARNING, "redlane.journal.lost",
            "Redis did not hear of %llu changes made while it was away: %s",
            (unsigned long long)news->lost, url);
        break;
    }
}

/* Why there are no near hits, once for each reason. */
static void
tell_of_near(RedlaneState *state, RedlaneMembers *members)
{
    char reason[232];

    if (redlane_near_take_notice(members->near, reason, sizeof(reason))) {
        redlane_log_event(state, REDLANE_LOG_WARNING, "redlane.near.off",
                          "The near cache is off: %s (%s)", members->settings->redacted,
                          reason);
    }
}

void
redlane_fallback_tell(RedlaneState *state, RedlaneMembers *members)
{
    RedlaneNews news;

    if (members->near) {
        tell_of_near(state, members);
    }
    while (redlane_guard_take_news(members->guard, &news)) {
        tell_one(state, members, &news);
    }
}
