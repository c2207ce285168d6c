#include "base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/utf8.h"

static const char *const level_names[LOG_LEVEL_COUNT] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static const char *const event_names[LOG_EVENT_COUNT] = {
    [EV_ROUTER_STARTED] = "router_started",
    [EV_ROUTER_STOPPING] = "router_stopping",
    [EV_ROUTER_STOPPED] = "router_stopped",
    [EV_WORKER_STARTED] = "worker_started",
    [EV_WORKER_EXITED] = "worker_exited",
    [EV_WORKER_HUNG] = "worker_hung",
    [EV_WORKER_STOOD_STILL] = "worker_stood_still",
    [EV_WORKER_CLEANED] = "worker_cleaned",
    [EV_CONFIG_RELOADED] = "config_reloaded",
    [EV_CONFIG_REFUSED] = "config_refused",
    [EV_NODES_CHANGED] = "nodes_changed",
    [EV_NODE_UNRESOLVED] = "node_unresolved",
    [EV_PANIC_ENTERED] = "panic_entered",
    [EV_PANIC_LEFT] = "panic_left",
    [EV_STORE_FAILED] = "store_failed",
    [EV_STORE_RECOVERED] = "store_recovered",
    [EV_STREAM_PLACED] = "stream_placed",
    [EV_STREAM_RETRIED] = "stream_retried",
    [EV_STREAM_TAKEN_OVER] = "stream_taken_over",
    [EV_PLAYER_MOVED] = "player_moved",
    [EV_STREAM_MOVING] = "stream_moving",
    [EV_STREAM_MOVED] = "stream_moved",
    [EV_PLAYER_REHOMED] = "player_rehomed",
    [EV_SESSION_CLOSED] = "session_closed",
    [EV_CONNECTION_REFUSED] = "connection_refused",
    [EV_LINES_SUPPRESSED] = "lines_suppressed",
    [EV_LINES_LOST] = "lines_lost",
    [EV_HEALTHD_STARTED] = "healthd_started",
    [EV_HEALTHD_STOPPED] = "healthd_stopped",
    [EV_HEALTHD_ACTIVE] = "healthd_active",
    [EV_HEALTHD_STANDBY] = "healthd_standby",
    [EV_CHECKS_IMPOSSIBLE] = "checks_impossible",
    [EV_NODE_VERDICT] = "node_verdict",
    [EV_NODE_SKEW] = "node_skew",
    [EV_NODE_RELOADED] = "node_reloaded",
    [EV_ADMIN_STARTED] = "admin_started",
    [EV_ADMIN_STOPPED] = "admin_stopped",
    [EV_API_CHANGE] = "api_change",
    [EV_API_DENIED] = "api_denied",
};

static const char *const key_names[LOG_KEY_COUNT] = {
    [K_SID] = "sid",
    [K_WORKER] = "worker",
    [K_PID] = "pid",
    [K_CLIENT] = "client",
    [K_APP] = "app",
    [K_STREAM] = "stream",
    [K_KIND] = "kind",
    [K_NODE] = "node",
    [K_ADDRESS] = "address",
    [K_REASON] = "reason",
    [K_WHY] = "why",
    [K_DETAIL] = "detail",
    [K_STATE] = "state",
    [K_MS] = "ms",
    [K_SETUP_MS] = "setup_ms",
    [K_DURATION_MS] = "duration_ms",
    [K_BYTES_IN] = "bytes_in",
    [K_BYTES_OUT] = "bytes_out",
    [K_TRIES] = "tries",
    [K_REHOMES] = "rehomes",
    [K_EPOCH] = "epoch",
    [K_COUNT] = "count",
    [K_VERSION] = "version",
    [K_FILE] = "file",
    [K_ERROR] = "error",
    [K_SIGNAL] = "signal",
    [K_STATUS] = "status",
    [K_CODE] = "code",
    [K_FLASH_VER] = "flash_ver",
    [K_NODES] = "nodes",
    [K_WORKERS] = "workers",
    [K_PREVIOUS] = "previous",
    [K_LATENCY_US] = "latency_us",
    [K_SESSIONS] = "sessions",
    [K_USER] = "user",
    [K_METHOD] = "method",
    [K_PATH] = "path",
    [K_FORWARDED] = "forwarded",
};

const char *log_level_name(enum log_level level)
{
    assert((unsigned)level < LOG_LEVEL_COUNT);
    return level_names[level];
}

const char *log_event_name(enum log_event e)
{
    assert((unsigned)e < LOG_EVENT_COUNT);
    return event_names[e];
}

const char *log_key_name(enum log_key k)
{
    assert((unsigned)k < LOG_KEY_COUNT);
    return key_names[k];
}

struct log_field log_text(enum log_key k, const char *s)
{
    return log_text_n(k, s ? s : "", s ? strlen(s) : 0);
}

void log_init(struct log *l, int fd, enum log_level level, enum log_format format)
{
    *l = (struct log){.fd = fd, .level = level, .format = format, .worker = -1};
}

uint64_t log_count_lost(struct log *l)
{
    const uint64_t lost = l->dropped - l->dropped_counted;
    l->dropped_counted = l->dropped;
    return lost;
}

/* ---- values ---- */

/* Controls of ASCII and of Unicode, among them whatever breaks a line or reverses the reading
 * direction. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static bool is_bare(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = s[i];
        const bool word =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && (c == '\0' || !strchr("._:/@#+,-[]*%~", c)))
            return false;
    }
    return len > 0;
}

/* Two-character escapes that both formats know; NULL: none. */
static const char *short_escape(uint32_t c)
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

enum { ESCAPED_MAX = 4 * 4 + 1 }; /* four bytes as \xNN */

/* The next character of s as it stands between quotes; returns bytes of s consumed. */
static size_t escape_one(enum log_format format, const uint8_t *s, size_t len,
                         char out[ESCAPED_MAX])
{
    uint32_t c = 0;
    const size_t n = utf8_parse(s, len, &c);
    if (n == 0) {
        if (format == LOG_JSON)
            memcpy(out, "\xef\xbf\xbd", 4); /* U+FFFD */
        else
            snprintf(out, ESCAPED_MAX, "\\x%02x", s[0]);
        return 1;
    }
    const char *brief = short_escape(c);
    if (brief) {
        snprintf(out, ESCAPED_MAX, "%s", brief);
    } else if (!is_control(c)) {
        memcpy(out, s, n);
        out[n] = '\0';
    } else if (format == LOG_JSON) {
        snprintf(out, ESCAPED_MAX, "\\u%04x", (unsigned)c); /* all controls are below U+10000 */
    } else {
        for (size_t i = 0; i < n; i++)
            snprintf(out + 4 * i, ESCAPED_MAX - 4 * i, "\\x%02x", s[i]);
    }
    return n;
}

/* s cut at LOG_VALUE_MAX, but not inside a character. */
static size_t value_len(const char *s, size_t len)
{
    if (len <= LOG_VALUE_MAX)
        return len;
    size_t cut = LOG_VALUE_MAX;
    while (cut > LOG_VALUE_MAX - 3 && ((uint8_t)s[cut] & 0xc0) == 0x80)
        cut--;
    return cut;
}

size_t log_quote(enum log_format format, const char *s, size_t len, char *buf, size_t cap)
{
    len = value_len(s, len);
    if (format == LOG_LOGFMT && len <= cap && is_bare(s, len)) {
        memcpy(buf, s, len);
        return len;
    }
    if (cap < 2)
        return 0;
    size_t used = 0;
    buf[used++] = '"';
    for (size_t i = 0; i < len;) {
        char one[ESCAPED_MAX];
        i += escape_one(format, (const uint8_t *)s + i, len - i, one);
        const size_t n = strlen(one);
        if (used + n + 1 > cap)
            break;
        /* counted, not terminated. NOLINTNEXTLINE(bugprone-not-null-terminated-result) */
        memcpy(buf + used, one, n);
        used += n;
    }
    buf[used++] = '"';
    return used;
}

/* ---- lines ---- */

/* A line being put together; the last byte of buf is kept for the newline, with JSON the last two.
 */
struct line {
    enum log_format format;
    char *buf;
    size_t len, cap;
};

/* One `key=value` or `"key":value`; value is final text. What does not fit is left out whole. */
static void line_add(struct line *l, const char *key, const char *value, size_t value_bytes)
{
    char head[64];
    const bool json = l->format == LOG_JSON;
    const char *sep = l->len == 0 ? (json ? "{" : "") : json ? "," : " ";
    const int n = snprintf(head, sizeof head, json ? "%s\"%s\":" : "%s%s=", sep, key);
    assert(n > 0 && (size_t)n < sizeof head);
    if ((size_t)n + value_bytes > l->cap - l->len)
        return;
    memcpy(l->buf + l->len, head, (size_t)n);
    memcpy(l->buf + l->len + n, value, value_bytes);
    l->len += (size_t)n + value_bytes;
}

static void line_add_text(struct line *l, const char *key, const char *s, size_t len)
{
    char value[6 * LOG_VALUE_MAX + 2]; /* \u00NN is the longest escape of a byte */
    line_add(l, key, value, log_quote(l->format, s, len, value, sizeof value));
}

static void line_add_field(struct line *l, const struct log_field *f)
{
    char number[24];
    switch (f->type) {
    case LOG_F_TEXT:
        if (f->len > 0)
            line_add_text(l, log_key_name(f->key), f->text, f->len);
        return;
    case LOG_F_U64:
        snprintf(number, sizeof number, "%" PRIu64, f->u);
        break;
    case LOG_F_I64:
        snprintf(number, sizeof number, "%" PRId64, f->i);
        break;
    }
    line_add(l, log_key_name(f->key), number, strlen(number));
}

static void line_add_time(struct line *l, uint64_t now_ms)
{
    const time_t seconds = (time_t)(now_ms / 1000);
    struct tm t = {0};
    gmtime_r(&seconds, &t);
    char date[40], text[48];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(text, sizeof text, "%s.%03uZ", date, (unsigned)(now_ms % 1000));
    line_add_text(l, "ts", text, strlen(text));
}

size_t log_format_line(const struct log *l, uint64_t now_ms, enum log_level level,
                       enum log_event event, const struct log_field *f, size_t n, char *buf)
{
    struct line line = {.format = l->format, .buf = buf, .cap = LOG_LINE_MAX - 2};
    const char *level_name = log_level_name(level), *event_name = log_event_name(event);
    line_add_time(&line, now_ms);
    line_add_text(&line, "level", level_name, strlen(level_name));
    line_add_text(&line, "event", event_name, strlen(event_name));
    if (l->worker >= 0)
        line_add_field(&line,
                       &(struct log_field){.key = K_WORKER, .type = LOG_F_I64, .i = l->worker});
    for (size_t i = 0; i < n; i++)
        line_add_field(&line, &f[i]);
    if (l->format == LOG_JSON)
        buf[line.len++] = '}';
    buf[line.len++] = '\n';
    return line.len;
}
