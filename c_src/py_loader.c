#include "py_loader.h"

#include <dlfcn.h>
#include <string.h>

/* The version of the interface of OTP 25, whose functions are all that is needed: compiled with the
 * headers of a newer OTP, the library would not load on an older one. */
#undef ERL_NIF_MINOR_VERSION
#define ERL_NIF_MINOR_VERSION 16
#undef ERL_NIF_MIN_ERTS_VERSION
#define ERL_NIF_MIN_ERTS_VERSION "erts-13.0"

const char *py_loader_open(const char *path)
{
    /* The library is never closed: Python does not survive that, and lives as long as the VM. */
    if (dlopen(path, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE) != NULL) {
        return NULL;
    }
    const char *error = dlerror();
    return error != NULL ? error : "unknown error";
}

/* Returns a binary with the bytes of `text`, in `env`. Any thread. */
static ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text)
{
    ERL_NIF_TERM term;
    const size_t size = strlen(text);
    unsigned char *bytes = enif_make_new_binary(env, size, &term);

    memcpy(bytes, text, size);
    return term;
}

/* open(Path :: binary()) -> ok | {error, binary()}. Runs on a dirty I/O scheduler, since it reads a
 * file. Raises `badarg` unless Path is a binary without NUL. Frees its copy of the path. */
static ERL_NIF_TERM open_nif(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    ErlNifBinary path;
    char *copy = NULL;
    const char *error;
    ERL_NIF_TERM result;

    (void)argc;
    if (!enif_inspect_binary(env, argv[0], &path) || memchr(path.data, 0, path.size) != NULL) {
        return enif_make_badarg(env);
    }
    copy = enif_alloc(path.size + 1);
    if (copy == NULL) {
        result = enif_make_tuple2(env, enif_make_atom(env, "error"), make_text(env, "no memory"));
        goto done;
    }
    memcpy(copy, path.data, path.size);
    copy[path.size] = '\0';
    error = py_loader_open(copy);
    if (error == NULL) {
        result = enif_make_atom(env, "ok");
    } else {
        result = enif_make_tuple2(env, enif_make_atom(env, "error"), make_text(env, error));
    }
done:
    enif_free(copy);
    return result;
}

/* Called by the code server when a second version of the module is loaded. The library has no state
 * to pass on. */
static int upgrade(ErlNifEnv *env, void **priv, void **old_priv, ERL_NIF_TERM info)
{
    (void)env;
    (void)priv;
    (void)old_priv;
    (void)info;
    return 0;
}

static ErlNifFunc functions[] = {{"open", 1, open_nif, ERL_NIF_DIRTY_JOB_IO_BOUND}};

__attribute__((visibility("default"))) ERL_NIF_INIT(py_loader, functions, NULL, NULL, upgrade, NULL)
