/* Does the loader make a library global, and say why it cannot? Linked with c_src/py_loader.c
 * and with stand-ins for the functions of the BEAM, which it does not call here.
 *
 * Usage: py_loader_test LIBPYTHON */
#define _GNU_SOURCE
#include "../c_src/py_loader.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int passed = 0;
static int failed = 0;

static void check(int holds, const char *what)
{
    printf("%s: %s\n", holds ? "ok" : "FAILED", what);
    if (holds) {
        passed++;
    } else {
        failed++;
    }
}

int main(int argc, char *argv[])
{
    const char *error;

    if (argc != 2) {
        fprintf(stderr, "usage: %s LIBPYTHON\n", argv[0]);
        return 2;
    }
    error = py_loader_open("/nonexistent/libpython.so");
    check(error != NULL && strstr(error, "/nonexistent/libpython.so") != NULL,
          "a missing library is named in the error");
    error = py_loader_open(__FILE__);
    check(error != NULL, "a file that is no library is an error");
    check(dlsym(RTLD_DEFAULT, "Py_IsInitialized") == NULL, "no Python at first");
    check(py_loader_open(argv[1]) == NULL, "libpython opens");
    check(dlsym(RTLD_DEFAULT, "Py_IsInitialized") != NULL, "its symbols are global");
    check(py_loader_open(argv[1]) == NULL, "it opens again");
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
