/* tests/names/preload.c - the name servers that a daemon asks: $NAMES is a file of "name address"
 * lines, which a test changes while the daemon runs. A name that is not in it cannot be looked up,
 * which takes $NAMES_MS; what is an address already is as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int known(const char *name, char *address)
{
    char line[256], first[128];
    int found = 0;
    FILE *f = fopen(getenv("NAMES"), "r");
    while (f && !found && fgets(line, sizeof line, f))
        found = sscanf(line, "%127s %63s", first, address) == 2 && strcmp(first, name) == 0;
    if (f)
        fclose(f);
    return found;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    static resolver *real;
    char address[64];
    struct addrinfo numeric = hints ? *hints : (struct addrinfo){0};
    if (!real)
        real = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    numeric.ai_flags |= AI_NUMERICHOST;
    if (!name || real(name, service, &numeric, out) == 0)
        return name ? 0 : real(name, service, hints, out);
    if (known(name, address))
        return real(address, service, &numeric, out);
    usleep((useconds_t)(1000 * atoi(getenv("NAMES_MS") ? getenv("NAMES_MS") : "0")));
    return EAI_AGAIN;
}
