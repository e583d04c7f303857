// SPDX-License-Identifier: Apache-2.0

#include "guest.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

struct region regions[MAX_REGIONS];
int region_count;
int userfaultfd = -1;

static const char *expected;
static uint64_t expected_bytes;

// ---- what a region is

uint64_t size_of(const char *text) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    switch (*end) {
        case 'G': value <<= 10; // fall through
        case 'M': value <<= 10; // fall through
        case 'K': value <<= 10; end++; break;
        default: break;
    }
    if (errno != 0 || *end != '\0' || end == text) {
        errno = EINVAL;
        die("not a size: %s", text);
    }
    return value;
}

static void set_field(struct region *r, const char *name, const char *value) {
    if (strcmp(name, "size") == 0) {
        r->length_bytes = size_of(value);
    } else if (strcmp(name, "page") == 0) {
        r->page_bytes = size_of(value);
    } else if (strcmp(name, "offset") == 0) {
        r->offset_bytes = size_of(value);
    } else if (strcmp(name, "expected-at") == 0) {
        r->expected_at = size_of(value);
    } else if (strcmp(name, "ramblock") == 0) {
        r->ramblock = strdup(value);
    } else if (strcmp(name, "minor") == 0) {
        r->minor = strcmp(value, "on") == 0;
    } else if (strcmp(name, "backing") == 0 && strcmp(value, "anon") == 0) {
        r->backing = ANONYMOUS;
    } else if (strcmp(name, "backing") == 0 && strcmp(value, "memfd") == 0) {
        r->backing = MEMFD;
    } else {
        errno = EINVAL;
        die("a region has no %s=%s", name, value);
    }
}

void add_region(const char *specification) {
    if (region_count == MAX_REGIONS) {
        errno = E2BIG;
        die("more than %d regions", MAX_REGIONS);
    }
    struct region *r = &regions[region_count];
    uint64_t after_last = region_count == 0 ? 0 : r[-1].offset_bytes + r[-1].length_bytes;
    *r = (struct region){.page_bytes = SMALL_PAGE, .offset_bytes = after_last, .expected_at = UINT64_MAX, .memfd = -1};
    char *copy = strdup(specification);
    char *rest = NULL;
    for (char *field = strtok_r(copy, ",", &rest); field != NULL; field = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(field, '=');
        if (value == NULL) {
            errno = EINVAL;
            die("no NAME=VALUE: %s", field);
        }
        *value++ = '\0';
        set_field(r, field, value);
    }
    free(copy);
    if (r->expected_at == UINT64_MAX) {
        r->expected_at = r->offset_bytes;
    }
    if (r->page_bytes != SMALL_PAGE && r->page_bytes != HUGE_PAGE) {
        errno = EINVAL;
        die("pages have 4K or 2M");
    }
    if (r->length_bytes == 0 || r->length_bytes % r->page_bytes != 0) {
        errno = EINVAL;
        die("the size of a region is a multiple of its page size");
    }
    r->pages = r->length_bytes / r->page_bytes;
    r->piece_bytes = (r->pages + PIECES - 1) / PIECES * r->page_bytes;
    region_count++;
}

// ---- memory

static int hugetlb_flag(const struct region *r, int shift) {
    return r->page_bytes == HUGE_PAGE ? 21 << shift : 0;
}

static char *map(const struct region *r) {
    int flags = r->backing == MEMFD ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (r->page_bytes == HUGE_PAGE && r->backing == ANONYMOUS) {
        flags |= MAP_HUGETLB | hugetlb_flag(r, MAP_HUGE_SHIFT);
    }
    char *memory = mmap(NULL, r->length_bytes, PROT_READ | PROT_WRITE, flags, r->memfd, 0);
    if (memory == MAP_FAILED) {
        die("mmap of %llu bytes in pages of %llu", (unsigned long long)r->length_bytes,
            (unsigned long long)r->page_bytes);
    }
    return memory;
}

// A virtual machine gives memory that its guest has freed back to the host after a while (free page reporting). Then the
// next use of that memory measures the host. So the same amount is used and freed right before.
static void take_memory_from_host(const struct region *r) {
    struct region same = *r;
    same.backing = ANONYMOUS;
    same.memfd = -1;
    char *memory = map(&same);
    if (r->page_bytes == SMALL_PAGE) {
        madvise(memory, r->length_bytes, MADV_HUGEPAGE);
    }
    for (uint64_t offset = 0; offset < r->length_bytes; offset += SMALL_PAGE) {
        *(volatile char *)(memory + offset) = 1;
    }
    munmap(memory, r->length_bytes);
}

void map_regions(void) {
    for (struct region *r = regions; r < regions + region_count; r++) {
        if (options.prime) {
            take_memory_from_host(r);
        }
        if (r->backing == MEMFD) {
            unsigned flags = MFD_CLOEXEC;
            if (r->page_bytes == HUGE_PAGE) {
                flags |= MFD_HUGETLB | (unsigned)hugetlb_flag(r, MFD_HUGE_SHIFT);
            }
            r->memfd = memfd_create("guest", flags);
            if (r->memfd < 0 || ftruncate(r->memfd, (off_t)r->length_bytes) != 0) {
                die("memfd");
            }
        }
        char *memory = map(r);
        if (r->page_bytes == SMALL_PAGE) {
            madvise(memory, r->length_bytes, MADV_NOHUGEPAGE);
        }
        for (unsigned i = 0; i < PIECES; i++) {
            r->pieces[i] = memory + i * r->piece_bytes;
        }
        r->state = calloc(r->pages, 1);
        if (r->state == NULL) {
            die("no memory for %llu pages", (unsigned long long)r->pages);
        }
    }
}

// ---- the userfaultfd

int create_userfaultfd(uint64_t features, bool blocking) {
    int flags = O_CLOEXEC | (blocking ? 0 : O_NONBLOCK);
    int fd = (int)syscall(SYS_userfaultfd, flags);
    int device = fd >= 0 ? -1 : open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device >= 0) {
        fd = ioctl(device, USERFAULTFD_IOC_NEW, flags);
        close(device);
    }
    if (fd < 0) {
        fd = (int)syscall(SYS_userfaultfd, flags | UFFD_USER_MODE_ONLY);
    }
    if (fd < 0) {
        die("userfaultfd");
    }
    if (features != UINT64_MAX) {
        handshake(fd, features);
    }
    return fd;
}

void handshake(int uffd, uint64_t features) {
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    if (ioctl(uffd, UFFDIO_API, &api) != 0) {
        die("UFFDIO_API with features 0x%llx", (unsigned long long)features);
    }
}

void register_range(int uffd, const void *start, uint64_t length_bytes, uint64_t modes) {
    struct uffdio_register range = {.range = {.start = (uintptr_t)start, .len = length_bytes}, .mode = modes};
    if (ioctl(uffd, UFFDIO_REGISTER, &range) != 0) {
        die("UFFDIO_REGISTER");
    }
}

void open_userfaultfd(uint64_t features) {
    for (const struct region *r = regions; r < regions + region_count; r++) {
        bool huge = r->page_bytes == HUGE_PAGE;
        if (r->minor) {
            features |= huge ? UFFD_FEATURE_MINOR_HUGETLBFS : UFFD_FEATURE_MINOR_SHMEM;
        }
        features |= huge ? UFFD_FEATURE_MISSING_HUGETLBFS : 0;
        features |= r->backing == MEMFD ? UFFD_FEATURE_MISSING_SHMEM : 0;
    }
    userfaultfd = create_userfaultfd(features, options.blocking);
    for (const struct region *r = regions; r < regions + region_count; r++) {
        uint64_t modes = UFFDIO_REGISTER_MODE_MISSING | (r->minor ? UFFDIO_REGISTER_MODE_MINOR : 0);
        register_range(userfaultfd, r->pieces[0], r->length_bytes, modes);
    }
}

// ---- pages

uint64_t total_pages(void) {
    uint64_t pages = 0;
    for (int i = 0; i < region_count; i++) {
        pages += regions[i].pages;
    }
    return pages;
}

struct region *region_of(uint64_t global_page, uint64_t *page) {
    struct region *r = regions;
    while (global_page >= r->pages) {
        global_page -= r->pages;
        r++;
    }
    *page = global_page;
    return r;
}

char *page_at(const struct region *r, uint64_t page) {
    uint64_t offset = page * r->page_bytes;
    return r->pieces[offset / r->piece_bytes] + offset % r->piece_bytes;
}

// ---- contents

void open_expected(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        die("%s", path);
    }
    expected_bytes = (uint64_t)status.st_size;
    expected = mmap(NULL, expected_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (expected == MAP_FAILED) {
        die("mmap of %s", path);
    }
    close(fd);
}

void fill_pattern(const char *path, uint64_t length_bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        die("%s", path);
    }
    static uint64_t words[(1 << 20) / 8];
    for (uint64_t done = 0; done < length_bytes; done += sizeof words) {
        for (uint64_t i = 0; i < sizeof words / 8; i++) {
            words[i] = word_at(done + i * 8);
        }
        size_t count = at_most(sizeof words, length_bytes - done);
        if (write(fd, words, count) != (ssize_t)count) {
            die("%s: write", path);
        }
    }
    if (close(fd) != 0) {
        die("%s", path);
    }
}

// The guest's own word at the start of a page that it has written to.
static uint64_t own_word(const struct region *r, uint64_t page) {
    return ~word_at((uint64_t)(r - regions) << 48 | page);
}

void write_page(struct region *r, uint64_t page) {
    *(volatile uint64_t *)page_at(r, page) = own_word(r, page);
    r->state[page] |= PAGE_WRITTEN;
}

static uint64_t expected_word(const struct region *r, uint64_t page, uint64_t at) {
    if (at == 0 && r->state[page] & PAGE_WRITTEN) {
        return own_word(r, page);
    }
    if (r->state[page] & PAGE_ZERO) {
        return 0;
    }
    uint64_t offset = r->expected_at + page * r->page_bytes + at;
    if (expected == NULL) {
        return word_at(offset);
    }
    if (offset + 8 > expected_bytes) {
        return 0;
    }
    uint64_t word;
    memcpy(&word, expected + offset, sizeof word);
    return word;
}

bool page_is_right(const struct region *r, uint64_t page, char *why, size_t why_size) {
    if (r->state[page] & (PAGE_UNMAPPED | PAGE_POISONED)) {
        return true;
    }
    const char *memory = page_at(r, page);
    for (uint64_t at = 0; at < r->page_bytes; at += 8) {
        uint64_t word = *(const volatile uint64_t *)(memory + at);
        uint64_t wanted = expected_word(r, page, at);
        if (word != wanted) {
            snprintf(why, why_size, "region %d page %llu (%p) offset %llu holds 0x%016llx, not 0x%016llx; state %d",
                     (int)(r - regions), (unsigned long long)page, (const void *)memory, (unsigned long long)at,
                     (unsigned long long)word, (unsigned long long)wanted, r->state[page]);
            return false;
        }
    }
    return true;
}

// Removes pages as a balloon does; they are zero from then on. Answers how many: a run ends with its piece, and at limit.
uint64_t remove_run(struct region *r, uint64_t page, uint64_t count, uint64_t limit) {
    uint64_t pages_in_piece = r->piece_bytes / r->page_bytes;
    count = at_most(count, pages_in_piece - page % pages_in_piece);
    count = at_most(count, at_most(limit, r->pages) - page);
    for (uint64_t i = 0; i < count; i++) {
        if (r->state[page + i] & (PAGE_UNMAPPED | PAGE_POISONED)) {
            count = i;
        }
    }
    if (count == 0) {
        return 0;
    }
    // DONTNEED of shared memory would leave the page in the memfd.
    int advice = r->backing == MEMFD ? MADV_REMOVE : MADV_DONTNEED;
    if (madvise(page_at(r, page), count * r->page_bytes, advice) != 0) {
        die("madvise");
    }
    memset(r->state + page, PAGE_ZERO | PAGE_TOUCHED, count);
    return count;
}
