#include "admin/tokens.h"

#include <stdio.h>
#include <string.h>

#include "admin/digest.h"

static const char token_prefix[] = "weir_"; /* so that scanners of leaked secrets can know it */

const char *token_scope_name(enum token_scope s)
{
    static const char *const names[] = {
        [SCOPE_NONE] = "none", [SCOPE_READ] = "read", [SCOPE_WRITE] = "write"};
    return names[s];
}

enum err token_scope_parse(const char *text, enum token_scope *out)
{
    for (unsigned s = SCOPE_READ; s <= SCOPE_WRITE; s++) {
        if (strcmp(text, token_scope_name((enum token_scope)s)) == 0) {
            *out = (enum token_scope)s;
            return ERR_OK;
        }
    }
    return ERR_INVALID;
}

bool token_name_valid(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const size_t len = strlen(name);
    return len > 0 && len < TOKEN_NAME_MAX && strspn(name, allowed) == len;
}

/* ---- the file ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_hash(const char *text, uint8_t out[TOKEN_HASH_BYTES])
{
    if (strlen(text) != (size_t)2 * TOKEN_HASH_BYTES)
        return false;
    for (size_t i = 0; i < TOKEN_HASH_BYTES; i++) {
        const int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_taken(const struct tokens *t, const char *name)
{
    for (uint32_t i = 0; i < t->count; i++) {
        if (strcmp(t->list[i].name, name) == 0)
            return true;
    }
    return false;
}

/* NULL: taken into t, or nothing in the line; else what is wrong with it. */
static const char *parse_line(char *line, struct tokens *t)
{
    static const char space[] = " \t\r";
    char *comment = strchr(line, '#');
    if (comment)
        *comment = '\0';
    char *rest = NULL;
    const char *name = strtok_r(line, space, &rest);
    if (!name)
        return NULL;
    const char *scope = strtok_r(NULL, space, &rest), *hash = strtok_r(NULL, space, &rest);
    struct token fresh = {0};
    if (!scope || !hash || strtok_r(NULL, space, &rest))
        return "a line is: name scope sha256";
    if (!token_name_valid(name))
        return "a name has letters, digits, '.', '_' and '-', at most 63 of them";
    if (token_scope_parse(scope, &fresh.scope) != ERR_OK)
        return "the scope is read or write";
    if (!parse_hash(hash, fresh.hash))
        return "the hash is 64 hex digits (weir-admin --new-token makes a line)";
    if (is_taken(t, name))
        return "the name was given before";
    if (t->count == TOKENS_MAX)
        return "there are too many tokens";
    memcpy(fresh.name, name, strlen(name) + 1);
    t->list[t->count++] = fresh;
    return NULL;
}

enum err tokens_parse(const char *text, size_t len, struct tokens *out, char *error)
{
    struct tokens fresh = {.required = true};
    unsigned number = 0;
    for (size_t at = 0; at < len;) {
        char line[512];
        const char *end = memchr(text + at, '\n', len - at);
        const size_t n = end ? (size_t)(end - (text + at)) : len - at;
        const char *wrong = "the line is too long";
        number++;
        if (n < sizeof line) {
            memcpy(line, text + at, n);
            line[n] = '\0';
            wrong = memchr(line, '\0', n) ? "a NUL byte" : parse_line(line, &fresh);
        }
        if (wrong) {
            (void)snprintf(error, TOKEN_ERROR_MAX, "line %u: %s", number, wrong);
            return ERR_INVALID;
        }
        at += n + 1;
    }
    *out = fresh;
    return ERR_OK;
}

/* ---- asking ---- */

static bool same_word(const char *text, const char *lower, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
        if (c != lower[i])
            return false;
    }
    return true;
}

enum token_scope tokens_check(const struct tokens *t, const char *authorization,
                              const struct token **who)
{
    static const char scheme[] = "bearer ";
    uint8_t hash[DIGEST_BYTES];
    *who = NULL;
    if (!t->required)
        return SCOPE_WRITE;
    if (!authorization || !same_word(authorization, scheme, sizeof scheme - 1))
        return SCOPE_NONE;
    const char *token = authorization + sizeof scheme - 1;
    digest_sha256(token, strlen(token), hash);
    for (uint32_t i = 0; i < t->count; i++) { /* all of them: the time tells nothing */
        if (digest_equal(hash, t->list[i].hash))
            *who = &t->list[i];
    }
    return *who ? (*who)->scope : SCOPE_NONE;
}

/* ---- making ---- */

void token_make(const char *name, enum token_scope scope, const uint8_t random[32], char *token,
                char *line)
{
    char base64[DIGEST_BASE64_MAX], hex[DIGEST_HEX_MAX];
    uint8_t hash[DIGEST_BYTES];
    digest_base64(random, base64);
    for (char *c = base64; *c; c++) /* the form that needs no quoting anywhere */
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c == '=' ? '\0' : *c);
    (void)snprintf(token, TOKEN_TEXT_MAX, "%s%s", token_prefix, base64);
    digest_sha256(token, strlen(token), hash);
    digest_hex(hash, hex);
    (void)snprintf(line, TOKEN_LINE_MAX, "%s %s %s", name, token_scope_name(scope), hex);
}
