#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/notify_io.h"

/* A socket as systemd would have it; name: a path, or '@' and a name. */
static int listen_at(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, name, strlen(name));
    if (name[0] == '@')
        a.sun_path[0] = '\0';
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_true(fd >= 0);
    const socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    assert_int_equal(bind(fd, (const struct sockaddr *)&a, len), 0);
    return fd;
}

static void check_delivery(const char *name)
{
    char got[64] = "";
    const int fd = listen_at(name);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    notify_send("READY=1\nSTATUS=3 nodes");
    assert_int_equal(recv(fd, got, sizeof got - 1, MSG_DONTWAIT), 22);
    assert_string_equal(got, "READY=1\nSTATUS=3 nodes");
    close(fd);
}

static void test_path(void **state)
{
    (void)state;
    char dir[] = "/tmp/weir-notify-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/socket", dir);
    check_delivery(path);
    unlink(path);
    rmdir(dir);
}

static void test_abstract(void **state)
{
    (void)state;
    char name[64];
    snprintf(name, sizeof name, "@weir-notify-%ld", (long)getpid());
    check_delivery(name);
}

static void test_silent(void **state)
{
    (void)state;
    char long_name[300];
    memset(long_name, 'x', sizeof long_name);
    long_name[0] = '/';
    long_name[sizeof long_name - 1] = '\0';
    const char *const cases[] = {"", "relative", "/nonexistent/socket", "@weir-nobody", long_name};
    unsetenv("NOTIFY_SOCKET");
    notify_send("READY=1");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(setenv("NOTIFY_SOCKET", cases[i], 1), 0);
        notify_send("READY=1");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_abstract),
        cmocka_unit_test(test_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
