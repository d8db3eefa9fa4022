/* A NIF library with one function: it makes a given shared library global.
 *
 * The BEAM loads NIF libraries RTLD_LOCAL, and so would load the libpython that one of them
 * needs; but CPython's own extension modules look their symbols up in the global scope. */
#ifndef PY_LOADER_H
#define PY_LOADER_H

#include <erl_nif.h>

/* dlopens `path` for the life of the VM with its symbols global. Returns NULL, or why it failed:
 * a text of the dynamic loader, valid until this thread calls it again. Any thread. */
const char *py_loader_open(const char *path);

#endif
