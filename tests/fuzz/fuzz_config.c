/* Any text: refused with a reason, or a configuration whose print loads again and prints the same.
 */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *print(const struct config *c)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        abort();
    config_print(c, out);
    fclose(out);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config *c = NULL, *again = NULL;
    if (config_load_buffer("f", (const char *)data, size, &c, error) != ERR_OK) {
        if (strncmp(error, "f:", 2) != 0 || strlen(error) < 5)
            abort();
        return 0;
    }
    char *text = print(c);
    if (config_load_buffer("again", text, strlen(text), &again, error) != ERR_OK)
        abort();
    char *text_again = print(again);
    if (strcmp(text, text_again) != 0 || config_needs_restart(c, again))
        abort();
    free(text_again);
    free(text);
    config_destroy(again);
    config_destroy(c);
    return 0;
}
