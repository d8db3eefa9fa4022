/* The floor of a call to another process: pairs of processes that pass a few bytes to and fro by a
 * socketpair. `py_bench_pair block|spin PAIRS COUNT` prints the median of a round trip in
 * nanoseconds, and the round trips of all pairs in a second. Built by scripts/bench. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The bytes of a small job, and of its reply. */
enum { JOB = 98, REPLY = 21 };

static long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static int compare(const void *left, const void *right)
{
    long a = *(const long *)left, b = *(const long *)right;
    return (a > b) - (a < b);
}

/* Reads what comes, blocking or in a loop; returns the bytes, 0 at the end. */
static ssize_t take(int fd, char *bytes, int flags)
{
    ssize_t count;
    do {
        count = recv(fd, bytes, 128, flags);
    } while (count < 0 && (errno == EAGAIN || errno == EINTR));
    return count;
}

/* Runs one pair; writes the median of its round trips to `out`. */
static void pair(int flags, long count, int out)
{
    int ends[2];
    char bytes[128] = {0};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        exit(1);
    }
    pid_t other = fork();
    if (other == 0) {
        close(ends[0]);
        while (take(ends[1], bytes, flags) > 0) {
            send(ends[1], bytes, REPLY, MSG_NOSIGNAL);
        }
        _exit(0);
    }
    close(ends[1]);
    long *times = calloc((size_t)count, sizeof *times);
    if (other < 0 || times == NULL) {
        exit(1);
    }
    for (long index = 0; index < count; index++) {
        long start = now();
        send(ends[0], bytes, JOB, MSG_NOSIGNAL);
        take(ends[0], bytes, flags);
        times[index] = now() - start;
    }
    qsort(times, (size_t)count, sizeof *times, compare);
    if (write(out, &times[count / 2], sizeof *times) != sizeof *times) {
        exit(1);
    }
    close(ends[0]);
    waitpid(other, NULL, 0);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        return 2;
    }
    int flags = strcmp(argv[1], "spin") == 0 ? MSG_DONTWAIT : 0;
    long pairs = atol(argv[2]), count = atol(argv[3]), median = 0;
    int results[2];
    if (pairs < 1 || count < 1 || pipe(results) != 0) {
        return 2;
    }
    long start = now();
    for (long index = 0; index < pairs; index++) {
        if (fork() == 0) {
            pair(flags, count, results[1]);
        }
    }
    while (wait(NULL) > 0) {
    }
    double seconds = (double)(now() - start) / 1e9;
    if (read(results[0], &median, sizeof median) != sizeof median) {
        return 1;
    }
    printf("%ld %.0f", median, (double)(pairs * count) / seconds);
    return 0;
}
