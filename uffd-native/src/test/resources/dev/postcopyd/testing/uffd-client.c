/*
 * A process that hands over its own userfaultfd and then does to its memory what it is told.
 *
 * usage: uffd-client SOCKET PAGES FEATURES FLAGS
 *   maps PAGES pages of private memory, creates a userfaultfd with FEATURES (hexadecimal; "raw"
 *   leaves the handshake out) and FLAGS (n: non-blocking, -: none), registers the memory, sends the
 *   descriptor over the unix socket SOCKET, prints the memory's address, and obeys lines on its
 *   standard input. Each command answers with one line.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what) {
  perror(what);
  exit(1);
}

static int create(int flags) {
  int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device >= 0) {
    int fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
    close(device);
    if (fd >= 0) return fd;
  }
  return syscall(SYS_userfaultfd, flags);
}

static void send_fd(const char *path, int fd) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  if (s < 0 || connect(s, (struct sockaddr *)&address, sizeof(address)) < 0) die("connect");
  char byte = 'u';
  struct iovec iov = {&byte, 1};
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  message.msg_control = &control;
  message.msg_controllen = sizeof(control);
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof(int));
  if (sendmsg(s, &message, 0) != 1) die("sendmsg");
  close(s);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  size_t page = sysconf(_SC_PAGESIZE);
  size_t pages = strtoul(argv[2], NULL, 10);
  int fd = create(O_CLOEXEC | (argv[4][0] == 'n' ? O_NONBLOCK : 0));
  if (fd < 0) die("userfaultfd");
  unsigned char *memory =
      mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap");
  if (strcmp(argv[3], "raw")) {
    struct uffdio_api api = {.api = UFFD_API, .features = strtoul(argv[3], NULL, 16)};
    if (ioctl(fd, UFFDIO_API, &api)) die("UFFDIO_API");
    struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    reg.range.start = (uintptr_t)memory;
    reg.range.len = pages * page;
    if (ioctl(fd, UFFDIO_REGISTER, &reg)) die("UFFDIO_REGISTER");
  }
  send_fd(argv[1], fd);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("%lu\n", (unsigned long)memory);

  char line[100], command[20];
  while (fgets(line, sizeof(line), stdin)) {
    unsigned long first = 0, count = 0;
    sscanf(line, "%19s %lu %lu", command, &first, &count);
    if (!strcmp(command, "read")) {
      printf("%d\n", *(volatile unsigned char *)(memory + first * page));
    } else if (!strcmp(command, "dontneed")) {
      printf("%d\n", madvise(memory + first * page, count * page, MADV_DONTNEED));
    } else if (!strcmp(command, "remap")) {
      unsigned char *to = mmap(NULL, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      to = mremap(memory, pages * page, pages * page, MREMAP_MAYMOVE | MREMAP_FIXED, to);
      if (to == MAP_FAILED) die("mremap");
      memory = to;
      printf("%lu\n", (unsigned long)memory);
    } else if (!strcmp(command, "fork")) {
      /* The child reads a byte and tells it by its exit status. */
      pid_t child = fork();
      if (child < 0) die("fork");
      if (child == 0) _exit(*(volatile unsigned char *)(memory + first * page));
      int status;
      if (waitpid(child, &status, 0) != child) die("waitpid");
      printf("%d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    } else {
      return 2;
    }
  }
  return 0;
}
