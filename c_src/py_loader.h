/* A NIF library with one function, which makes a given shared library global.
 *
 * The BEAM loads NIF libraries RTLD_LOCAL, and so would load the libpython that one of them
 * needs; but CPython's own extension modules look their symbols up in the global scope. */
#ifndef PY_LOADER_H
#define PY_LOADER_H

#include <erl_nif.h>

/* Loads the library at `path` for the life of the VM, with its symbols global. Returns NULL, or the
 * reason of a failure: a text of the dynamic loader, valid until this thread calls that again. Any
 * thread. */
const char *py_loader_open(const char *path);

#endif
