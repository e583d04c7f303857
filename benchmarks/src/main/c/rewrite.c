// SPDX-License-Identifier: Apache-2.0
//
// What an incremental snapshot asks of the disk, and nothing else: a file that shares its blocks with another one, a
// page in every hundred of it written anew, and all of it on the disk.
//
//   rewrite FROM TO       makes TO, prints how long it took and removes TO; prints nanos=0 where blocks can't be shared

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "wire.h"

#define PAGE_BYTES 4096
#define APART (100 * PAGE_BYTES)

int main(int argc, char **argv) {
    static char page[PAGE_BYTES] = "written anew";
    struct stat status;
    struct fsxattr attributes;
    if (argc != 3) {
        fprintf(stderr, "usage: see the head of rewrite.c\n");
        return 2;
    }
    int from = open(argv[1], O_RDONLY | O_CLOEXEC), to = open(argv[2], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (from < 0 || to < 0 || fstat(from, &status) != 0) {
        die("%s, %s", argv[1], argv[2]);
    }
    uint64_t begin = nanos();
    if (ioctl(to, FICLONE, from) != 0) {
        unlink(argv[2]);
        printf("nanos=0\n");
        return 0;
    }
    // As postcopyd does it.
    if (ioctl(to, FS_IOC_FSGETXATTR, &attributes) == 0) {
        attributes.fsx_xflags |= FS_XFLAG_COWEXTSIZE;
        attributes.fsx_cowextsize = PAGE_BYTES;
        ioctl(to, FS_IOC_FSSETXATTR, &attributes);
    }
    for (off_t at = 1 << 20; at < status.st_size - PAGE_BYTES; at += APART) {
        if (pwrite(to, page, PAGE_BYTES, at) != PAGE_BYTES) {
            die("pwrite");
        }
    }
    if (fsync(to) != 0) {
        die("fsync");
    }
    printf("nanos=%llu\n", (unsigned long long)(nanos() - begin));
    unlink(argv[2]);
    return 0;
}
