/* admin/tokens.h - who may ask: bearer tokens, of which only hashes are kept. The file has a line `name scope sha256` for each;
 * '#' begins a comment. Scope read looks, write changes too.
 * Owner:  main() loads them; SIGHUP replaces them whole.   Errors: `error` is a sentence with the line's number.
 * Tests:  tests/unit/admin/test_tokens.c */
#ifndef WEIR_ADMIN_TOKENS_H
#define WEIR_ADMIN_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"

enum token_scope { SCOPE_NONE = 0, SCOPE_READ, SCOPE_WRITE };
enum {
    TOKEN_NAME_MAX = 64,
    TOKEN_HASH_BYTES = 32,
    TOKENS_MAX = 256,
    TOKEN_TEXT_MAX = 64,        /* one that we made, with NUL */
    TOKEN_LINE_MAX = 160,       /* its line of the file */
    TOKEN_ERROR_MAX = 256,
    TOKEN_FILE_MAX = 64 * 1024,
};

struct token {
    char name[TOKEN_NAME_MAX];
    enum token_scope scope;
    uint8_t hash[TOKEN_HASH_BYTES];
};

struct tokens {
    bool required; /* a file is configured; without one everybody who can connect may do everything */
    struct token list[TOKENS_MAX];
    uint32_t count;
};

const char *token_scope_name(enum token_scope s); /* "none", "read", "write" */
/* "read" or "write". ERR_INVALID. */
MUST_CHECK enum err token_scope_parse(const char *text, enum token_scope *out);
bool token_name_valid(const char *name);

/* *out changes on ERR_OK only; required becomes true. error: TOKEN_ERROR_MAX. */
MUST_CHECK enum err tokens_parse(const char *text, size_t len, struct tokens *out, char *error);
/* What an Authorization header (NULL: none) is good for. *who: the token, or NULL; compared in constant time. */
enum token_scope tokens_check(const struct tokens *t, const char *authorization, const struct token **who);

/* A token out of 32 random bytes, and its line. token: TOKEN_TEXT_MAX; line: TOKEN_LINE_MAX. */
void token_make(const char *name, enum token_scope scope, const uint8_t random[32], char *token, char *line);

#endif
