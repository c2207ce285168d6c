#include "admin/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_BYTES])
{
    (void)SHA256(data, len, out);
}

void digest_hex(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[DIGEST_HEX_MAX - 1] = '\0';
}

void digest_base64(const uint8_t digest[DIGEST_BYTES], char out[DIGEST_BASE64_MAX])
{
    (void)EVP_EncodeBlock((unsigned char *)out, digest, DIGEST_BYTES);
}

bool digest_equal(const uint8_t a[DIGEST_BYTES], const uint8_t b[DIGEST_BYTES])
{
    return CRYPTO_memcmp(a, b, DIGEST_BYTES) == 0;
}
