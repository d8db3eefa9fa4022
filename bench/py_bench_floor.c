/* The floors that Erlang cannot measure by itself: the costs of a dirty call, of a parked thread
 * and of a copy, on an idle machine. Built by scripts/bench. */
#include <erl_nif.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Shared by the schedulers and the parked thread; all but the thread's id is under the lock. */
struct parked {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool wanted;
    bool ended;
    ErlNifPid caller;
    ErlNifEnv *env;
    ERL_NIF_TERM reference;
};

/* The parked thread. Owns the environment that it was woken with, which a send empties. */
static void *park(void *argument)
{
    struct parked *parked = argument;
    pthread_mutex_lock(&parked->lock);
    while (!parked->ended) {
        if (!parked->wanted) {
            pthread_cond_wait(&parked->woken, &parked->lock);
            continue;
        }
        parked->wanted = false;
        ErlNifPid caller = parked->caller;
        ErlNifEnv *env = parked->env;
        ERL_NIF_TERM message =
            enif_make_tuple2(env, parked->reference, enif_make_atom(env, "ok"));
        pthread_mutex_unlock(&parked->lock);
        enif_send(NULL, &caller, env, message);
        enif_free_env(env);
        pthread_mutex_lock(&parked->lock);
    }
    pthread_mutex_unlock(&parked->lock);
    return NULL;
}

/* Runs on a scheduler thread; `wake(Ref)`: the message {Ref, ok} follows. For one caller at a time:
 * a second one before the answer would replace the first. */
static ERL_NIF_TERM wake(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct parked *parked = enif_priv_data(env);
    ErlNifEnv *message = enif_alloc_env();
    ERL_NIF_TERM reference = enif_make_copy(message, argv[0]);
    pthread_mutex_lock(&parked->lock);
    bool busy = parked->wanted;
    if (!busy) {
        enif_self(env, &parked->caller);
        parked->env = message;
        parked->reference = reference;
        parked->wanted = true;
        pthread_cond_signal(&parked->woken);
    }
    pthread_mutex_unlock(&parked->lock);
    if (busy) {
        enif_free_env(message);
        return enif_make_badarg(env);
    }
    return enif_make_atom(env, "ok");
}

/* Runs on a dirty scheduler thread, and returns `ok`. */
static ERL_NIF_TERM nothing(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    (void)argv;
    return enif_make_atom(env, "ok");
}

/* Runs on a dirty scheduler thread; `copy(Binary, IsWarm)`: the nanoseconds of one memcpy. Memory
 * that is not warm is new to the process, as that of a big object is: the time of the kernel for it
 * is included. */
static ERL_NIF_TERM copy(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    ErlNifBinary binary;
    char warm[8];
    if (!enif_inspect_binary(env, argv[0], &binary) ||
        !enif_get_atom(env, argv[1], warm, sizeof warm, ERL_NIF_LATIN1)) {
        return enif_make_badarg(env);
    }
    bool is_warm = strcmp(warm, "true") == 0;
    ErlNifTime start = enif_monotonic_time(ERL_NIF_NSEC);
    unsigned char *target = malloc(binary.size);
    if (target == NULL) {
        return enif_raise_exception(env, enif_make_atom(env, "enomem"));
    }
    if (is_warm) {
        memset(target, 1, binary.size);
        start = enif_monotonic_time(ERL_NIF_NSEC);
    }
    memcpy(target, binary.data, binary.size);
    /* The compiler could see that the copy is not read, and leave it out. */
    __asm__ volatile("" : : "r"(target) : "memory");
    ErlNifTime end = enif_monotonic_time(ERL_NIF_NSEC);
    free(target);
    return enif_make_int64(env, end - start);
}

/* Frees nothing on failure: the VM goes down with the benchmark then. */
static int load(ErlNifEnv *env, void **private, ERL_NIF_TERM info)
{
    (void)env;
    (void)info;
    struct parked *parked = calloc(1, sizeof *parked);
    if (parked == NULL || pthread_mutex_init(&parked->lock, NULL) != 0 ||
        pthread_cond_init(&parked->woken, NULL) != 0 ||
        pthread_create(&parked->thread, NULL, park, parked) != 0) {
        return -1;
    }
    *private = parked;
    return 0;
}

static void unload(ErlNifEnv *env, void *private)
{
    (void)env;
    struct parked *parked = private;
    pthread_mutex_lock(&parked->lock);
    parked->ended = true;
    pthread_cond_signal(&parked->woken);
    pthread_mutex_unlock(&parked->lock);
    pthread_join(parked->thread, NULL);
    free(parked);
}

static ErlNifFunc functions[] = {
    {"wake", 1, wake, 0},
    {"nothing", 0, nothing, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"copy", 2, copy, ERL_NIF_DIRTY_JOB_CPU_BOUND},
};

ERL_NIF_INIT(py_bench_floor, functions, load, NULL, NULL, unload)
