/*
 * Stands between a process and its disk, and makes the disk fail as long as a file of the
 * failure's name lies in the directory $FAILING_DISK:
 *
 *   sync    a sync fails, and so does a write to a file opened with O_DSYNC, after all of it was
 *           written: what became of it is not known
 *   write   a write at a position fails, after half of it was written
 *   read    a read at a position fails
 *   slow    a sync takes a second and a half
 *   stderr  a write to standard error returns late
 *
 * Always with EIO, and only on files whose names do not end with "lock".
 *
 * Loaded with LD_PRELOAD, before the process has threads. Its system calls do not go through the C
 * library, so there is no function to put in place of another: a seccomp filter turns them into
 * signals, and the handler makes other calls that do the same. A sync that does not fail does
 * nothing, for no machine loses its power here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#define ARGUMENT(context, i) \
  ((context)->uc_mcontext.gregs[(const int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10}[i]])
#elif defined(__aarch64__)
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#define ARGUMENT(context, i) ((context)->uc_mcontext.regs[i])
#else
#error "which register holds what is not known here"
#endif

static int is_on(const char *failure) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", getenv("FAILING_DISK"), failure);
  return access(path, F_OK) == 0;
}

static int fails(int fd, const char *failure) {
  char link[64], path[4096];
  if (!is_on(failure)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  return length < 4 || strncmp(path + length - 4, "lock", 4) != 0;
}

static long result_of(int number, long fd, void *bytes, size_t count, off_t position) {
  struct iovec all = {bytes, count}, half = {bytes, count / 2};
  long done;
  switch (number) {
    case SYS_fdatasync:
    case SYS_fsync:
      if (is_on("slow")) usleep(1500 * 1000);
      return fails(fd, "sync") ? -EIO : 0;
    case SYS_pread64:
      if (fails(fd, "read")) return -EIO;
      done = preadv(fd, &all, 1, position);
      break;
    case SYS_pwrite64:
      if (fails(fd, "write")) return pwritev(fd, &half, 1, position), -EIO;
      done = pwritev(fd, &all, 1, position);
      if ((fcntl(fd, F_GETFL) & O_DSYNC) && fails(fd, "sync")) return -EIO;
      break;
    default: /* SYS_write, to standard error */
      done = writev(fd, &all, 1);
      if (is_on("stderr")) usleep(300 * 1000);
  }
  return done < 0 ? -errno : done;
}

static void on_call(int signal, siginfo_t *info, void *where) {
  (void)signal;
  ucontext_t *context = where;
  int saved = errno;
  RESULT(context) = result_of(info->si_syscall, ARGUMENT(context, 0), (void *)ARGUMENT(context, 1),
                              ARGUMENT(context, 2), ARGUMENT(context, 3));
  errno = saved;
}

/* The process has a handler of its own for all that looks like a crash. */
int sigaction(int signal, const struct sigaction *action, struct sigaction *old) {
  if (signal == SIGSYS && action != NULL) action = NULL;
  return ((__typeof__(&sigaction))dlsym(RTLD_NEXT, "sigaction"))(signal, action, old);
}

static int set_handler(const struct sigaction *action) {
  return ((__typeof__(&sigaction))dlsym(RTLD_NEXT, "sigaction"))(SIGSYS, action, NULL);
}

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)
#define TRAP BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP)

__attribute__((constructor)) static void begin(void) {
  struct sock_filter rules[] = {
      LOAD(nr),
      SKIP_UNLESS(SYS_fdatasync, 1), TRAP,
      SKIP_UNLESS(SYS_fsync, 1), TRAP,
      SKIP_UNLESS(SYS_pread64, 1), TRAP,
      SKIP_UNLESS(SYS_pwrite64, 1), TRAP,
      SKIP_UNLESS(SYS_write, 3), LOAD(args[0]), SKIP_UNLESS(STDERR_FILENO, 1), TRAP,
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
  struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (getenv("FAILING_DISK") == NULL) return;
  if (set_handler(&action) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("failing-disk");
    _exit(99);
  }
}
