/* Any 3072 bytes as a peer's two handshake messages: what is accepted must also verify from the
 * other side. */
#include <stdlib.h>
#include <string.h>

#include "rtmp/handshake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HELLO = RTMP_HANDSHAKE_BYTES };
    uint8_t first[HELLO] = {0}, second[HELLO] = {0};
    uint8_t reply[RTMP_S0S1S2_BYTES], hello[RTMP_C0C1_BYTES], confirm[HELLO];
    bool digest = false;

    if (size > 0)
        (void)rtmp_opening_name(rtmp_opening_detect(data, size));
    memcpy(first, data, size < HELLO ? size : HELLO);
    if (size > HELLO)
        memcpy(second, data + HELLO, size - HELLO < HELLO ? size - HELLO : HELLO);

    const enum err e = rtmp_handshake_reply_digest(first, 1, second, reply);
    require(e == ERR_OK || e == ERR_INVALID);
    if (e == ERR_OK) {
        require(rtmp_handshake_s2_valid(first, reply + RTMP_C0C1_BYTES));
        require(rtmp_handshake_confirm(reply + 1, second, confirm, &digest) == ERR_OK && digest);
    }
    (void)rtmp_handshake_s2_valid(first, second);
    require(rtmp_handshake_confirm(first, second, confirm, &digest) == ERR_OK);
    require(digest || memcmp(confirm, first, HELLO) == 0);

    /* the bytes as randomness: the digest's place follows from them */
    require(rtmp_handshake_hello_digest(1, first, hello) == ERR_OK);
    require(rtmp_handshake_reply_digest(hello + 1, 1, second, reply) == ERR_OK);
    require(rtmp_handshake_s2_valid(hello + 1, reply + RTMP_C0C1_BYTES));
    return 0;
}
