/* admin/digest.h - SHA-256 as bytes, hex and base64 (tokens, ETags, the dashboard's content policy).   Tests: tests/unit/admin/test_tokens.c */
#ifndef WEIR_ADMIN_DIGEST_H
#define WEIR_ADMIN_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_HEX_MAX = 65, DIGEST_BASE64_MAX = 45 };

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_BYTES]);
void digest_hex(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_HEX_MAX]);
void digest_base64(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_BASE64_MAX]);
/* In a time that does not depend on where they differ. */
bool digest_equal(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES]);

#endif
