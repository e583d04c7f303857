// SPDX-License-Identifier: Apache-2.0
//
// The least that a postcopy source in C has to do: what the product is measured against as the source of a QEMU's memory.
//
//   source SNAPSHOT SOCKET BATCH_PAGES [preempt] [on-demand]
//       prints "ready", waits for a line on its standard input, and then connects to the unix socket at which a QEMU waits
//       for a migration; ends when QEMU says that it has everything
//       BATCH_PAGES  pages in one writev of the bulk
//       preempt      asked-for pages on a second connection; QEMU's capability of that name decides whether it is wanted
//       on-demand    no bulk until another line has come
//
// The pages go out from the mapping of the snapshot. Two threads: one sends the bulk in the order of the file, the other
// reads what QEMU asks for and answers it. Each page has one bit that says whether it is still to be sent, and whoever sets
// it sends the page. Zero pages are sent only when asked for: the rest is zero in QEMU's memory anyhow.

#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "snapshot.h"

#define WORD_ZERO_PAGE 0x02ULL
#define WORD_DATA_PAGE 0x08ULL
#define WORD_SAME_BLOCK 0x20ULL
#define PING_HELLO 1U
#define PING_DEVICES_LOADED 3U
#define MAX_BATCH_PAGES (IOV_MAX / 2)

enum command { OPEN_RETURN_PATH = 1, PING = 2, ADVISE = 3, LISTEN = 4, RUN = 5, DISCARD = 6, PACKAGED = 7 };
enum message { SHUT = 1, PONG = 2, REQUEST_IN_BLOCK = 3, REQUEST = 4 };

// One direction of one connection; which block the last page on it belonged to is a matter of the connection.
struct channel {
    int socket;
    const struct ram_block *block;
    bool ended;  // QEMU reads no further
    pthread_mutex_t lock;
};

static struct snapshot snapshot;
static _Atomic uint64_t *claimed[MAX_BLOCKS];
static struct channel bulk = {.socket = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
static struct channel preempt = {.socket = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
static const char *socket_path;
static uint64_t batch_pages;
static uint64_t faults;
static uint64_t started_nanos;
static _Atomic uint64_t bytes_sent;
static _Atomic uint64_t pages_sent;
static pthread_mutex_t pong_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pong_came = PTHREAD_COND_INITIALIZER;
static uint32_t last_pong;

// ---- out

static void send_all(struct channel *channel, struct iovec *parts, int count) {
    uint64_t sent_bytes = 0;
    while (count > 0) {
        ssize_t sent = writev(channel->socket, parts, count);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            die("writev to %s", socket_path);
        }
        sent_bytes += (uint64_t)sent;
        while (count > 0 && (size_t)sent >= parts->iov_len) {
            sent -= (ssize_t)parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + sent;
            parts->iov_len -= (size_t)sent;
        }
    }
    atomic_fetch_add_explicit(&bytes_sent, sent_bytes, memory_order_relaxed);
}

// What is sent before the pages.
struct buffer {
    char bytes[64 << 10];
    uint64_t used;
};

static void put(struct buffer *b, const void *bytes, uint64_t count) {
    if (count > sizeof b->bytes - b->used) {
        errno = ENOBUFS;
        die("too many blocks for a buffer of %zu bytes", sizeof b->bytes);
    }
    memcpy(b->bytes + b->used, bytes, count);
    b->used += count;
}

static void put_u8(struct buffer *b, uint8_t value) {
    put(b, &value, sizeof value);
}

static void put_u16(struct buffer *b, uint16_t value) {
    uint16_t wire = htobe16(value);
    put(b, &wire, sizeof wire);
}

static void put_u32(struct buffer *b, uint32_t value) {
    uint32_t wire = htobe32(value);
    put(b, &wire, sizeof wire);
}

static void put_u64(struct buffer *b, uint64_t value) {
    uint64_t wire = htobe64(value);
    put(b, &wire, sizeof wire);
}

static void put_name(struct buffer *b, const struct ram_block *block) {
    put_u8(b, block->name_length);
    put(b, block->name, block->name_length);
}

static void put_command(struct buffer *b, enum command command, uint16_t length_bytes) {
    put_u8(b, 8);
    put_u16(b, (uint16_t)command);
    put_u16(b, length_bytes);
}

static void put_ping(struct buffer *b, uint32_t number) {
    put_command(b, PING, 4);
    put_u32(b, number);
}

static void put_section_end(struct buffer *b) {
    put_u64(b, RAM_WORD_END);
    put_u8(b, 0x7e);
    put_u32(b, snapshot.ram_section);
}

static void send_buffer(struct channel *channel, struct buffer *b) {
    struct iovec part = {.iov_base = b->bytes, .iov_len = b->used};
    send_all(channel, &part, 1);
    b->used = 0;
}

static void send_until_ram_list(struct buffer *b) {
    put_u32(b, 0x5145564d);
    put_u32(b, 3);
    put_u8(b, 7);
    put_u32(b, snapshot.machine_length);
    put(b, snapshot.machine, snapshot.machine_length);
    put_command(b, OPEN_RETURN_PATH, 0);
    put_ping(b, PING_HELLO);
    put_command(b, ADVISE, 16);
    put_u64(b, PAGE_BYTES);
    put_u64(b, PAGE_BYTES);
    put_u8(b, 1);
    put_u32(b, snapshot.ram_section);
    put_u8(b, 3);
    put(b, "ram", 3);
    put_u32(b, 0);
    put_u32(b, 4);
    put_u64(b, snapshot.total_bytes | RAM_WORD_TOTAL);
    for (uint32_t i = 0; i < snapshot.block_count; i++) {
        put_name(b, &snapshot.blocks[i]);
        put_u64(b, snapshot.blocks[i].length_bytes);
    }
    put_section_end(b);
    send_buffer(&bulk, b);
}

static void send_switch_over(struct buffer *b) {
    for (uint32_t i = 0; i < snapshot.block_count; i++) {
        const struct ram_block *block = &snapshot.blocks[i];
        put_command(b, DISCARD, (uint16_t)(3 + block->name_length + 16));
        put_u8(b, 0);
        put_name(b, block);
        put_u8(b, 0);
        put_u64(b, 0);
        put_u64(b, block->length_bytes);
    }
    struct buffer after = {.used = 0};
    put_ping(&after, PING_DEVICES_LOADED);
    put_command(&after, RUN, 0);
    put_command(b, PACKAGED, 4);
    put_u32(b, (uint32_t)(5 + snapshot.device_state_bytes + after.used));
    put_command(b, LISTEN, 0);
    // The section that all pages come in begins right behind the package.
    put_u8(&after, 3);
    put_u32(&after, snapshot.ram_section);
    struct iovec parts[] = {
        {.iov_base = b->bytes, .iov_len = b->used},
        {.iov_base = (char *)snapshot.device_state, .iov_len = snapshot.device_state_bytes},
        {.iov_base = after.bytes, .iov_len = after.used},
    };
    // Pages may be asked for as soon as QEMU has read LISTEN.
    pthread_mutex_lock(&bulk.lock);
    send_all(&bulk, parts, 3);
    pthread_mutex_unlock(&bulk.lock);
    b->used = 0;
}

// ---- pages

static bool is_stored(const struct ram_block *block, uint64_t page) {
    return (stored_word(block, page / 64) >> (page % 64) & 1) != 0;
}

static void send_one(struct channel *channel, const struct ram_block *block, uint64_t page) {
    struct buffer head = {.used = 0};
    bool stored = is_stored(block, page);
    pthread_mutex_lock(&channel->lock);
    if (channel->ended) {
        // The page is zero, and QEMU lets whoever waits for it go on when it has come to the end.
        pthread_mutex_unlock(&channel->lock);
        return;
    }
    bool same = channel->block == block;
    put_u64(&head, page * PAGE_BYTES | (stored ? WORD_DATA_PAGE : WORD_ZERO_PAGE) | (same ? WORD_SAME_BLOCK : 0));
    if (!same) {
        put_name(&head, block);
        channel->block = block;
    }
    if (!stored) {
        put_u8(&head, 0);
    }
    struct iovec parts[] = {
        {.iov_base = head.bytes, .iov_len = head.used},
        {.iov_base = (char *)block->contents + page * PAGE_BYTES, .iov_len = PAGE_BYTES},
    };
    send_all(channel, parts, stored ? 2 : 1);
    pthread_mutex_unlock(&channel->lock);
    atomic_fetch_add_explicit(&pages_sent, 1, memory_order_relaxed);
}

static void answer(uint32_t block, uint64_t page) {
    uint64_t bit = 1ULL << (page % 64);
    faults++;
    if ((atomic_fetch_or(&claimed[block][page / 64], bit) & bit) == 0) {
        send_one(preempt.socket >= 0 ? &preempt : &bulk, &snapshot.blocks[block], page);
    }
}

struct batch {
    struct iovec parts[2 * MAX_BATCH_PAGES];
    struct {
        uint64_t word;
        char name[256];
    } heads[MAX_BATCH_PAGES];
    uint64_t pages[MAX_BATCH_PAGES];
    uint64_t count;
};

static void send_batch(struct batch *batch, const struct ram_block *block) {
    if (batch->count == 0) {
        return;
    }
    pthread_mutex_lock(&bulk.lock);
    for (uint64_t i = 0; i < batch->count; i++) {
        bool same = bulk.block == block;
        uint64_t word = batch->pages[i] * PAGE_BYTES | WORD_DATA_PAGE | (same ? WORD_SAME_BLOCK : 0);
        batch->heads[i].word = htobe64(word);
        batch->parts[2 * i].iov_base = &batch->heads[i];
        batch->parts[2 * i].iov_len = sizeof word;
        if (!same) {
            batch->heads[i].name[0] = (char)block->name_length;
            memcpy(batch->heads[i].name + 1, block->name, block->name_length);
            batch->parts[2 * i].iov_len += 1 + block->name_length;
            bulk.block = block;
        }
        batch->parts[2 * i + 1].iov_base = (char *)block->contents + batch->pages[i] * PAGE_BYTES;
        batch->parts[2 * i + 1].iov_len = PAGE_BYTES;
    }
    send_all(&bulk, batch->parts, (int)(2 * batch->count));
    pthread_mutex_unlock(&bulk.lock);
    atomic_fetch_add_explicit(&pages_sent, batch->count, memory_order_relaxed);
    batch->count = 0;
}

static void send_bulk(void) {
    static struct batch batch;
    for (uint32_t b = 0; b < snapshot.block_count; b++) {
        const struct ram_block *block = &snapshot.blocks[b];
        for (uint64_t word = 0; word < block->words; word++) {
            uint64_t wanted =
                stored_word(block, word) & ~atomic_load_explicit(&claimed[b][word], memory_order_relaxed);
            if (wanted == 0) {
                continue;
            }
            uint64_t mine = wanted & ~atomic_fetch_or(&claimed[b][word], wanted);
            for (; mine != 0; mine &= mine - 1) {
                batch.pages[batch.count++] = word * 64 + (uint64_t)__builtin_ctzll(mine);
                if (batch.count == batch_pages) {
                    send_batch(&batch, block);
                }
            }
        }
        send_batch(&batch, block);
    }
}

// ---- in

static void receive(void *into, uint64_t bytes) {
    ssize_t count = recv(bulk.socket, into, bytes, MSG_WAITALL);
    if (count != (ssize_t)bytes) {
        if (count >= 0) {
            errno = ECONNRESET;
        }
        die("the return path of %s", socket_path);
    }
}

static uint32_t block_named(const char *name, uint8_t length) {
    for (uint32_t i = 0; i < snapshot.block_count; i++) {
        if (snapshot.blocks[i].name_length == length && memcmp(snapshot.blocks[i].name, name, length) == 0) {
            return i;
        }
    }
    errno = ENOENT;
    die("block %.*s", length, name);
}

static void *read_return_path(void *unused) {
    (void)unused;
    uint32_t block = 0;
    while (true) {
        uint16_t head[2];
        char body[512];
        receive(head, sizeof head);
        uint16_t length = be16toh(head[1]);
        if (length > sizeof body) {
            errno = EMSGSIZE;
            die("a message of %u bytes", length);
        }
        receive(body, length);
        struct cursor c = {.map = body, .at = 0, .end = length};
        switch (be16toh(head[0])) {
        case SHUT:
            expect_value(&c, take_u32(&c), 0, "QEMU's last word");
            return NULL;
        case PONG:
            pthread_mutex_lock(&pong_lock);
            last_pong = take_u32(&c);
            if (last_pong == PING_DEVICES_LOADED) {
                printf("devices_loaded_ns=%llu\n", (unsigned long long)(nanos() - started_nanos));
            }
            pthread_cond_broadcast(&pong_came);
            pthread_mutex_unlock(&pong_lock);
            break;
        case REQUEST_IN_BLOCK:
        case REQUEST: {
            uint64_t offset_bytes = take_u64(&c);
            uint64_t count = take_u32(&c) / PAGE_BYTES;
            if (be16toh(head[0]) == REQUEST_IN_BLOCK) {
                uint8_t name_length = take_u8(&c);
                block = block_named(take(&c, name_length), name_length);
            }
            for (uint64_t i = 0; i < count; i++) {
                answer(block, offset_bytes / PAGE_BYTES + i);
            }
            break;
        }
        default:
            errno = EPROTO;
            die("message %u on the return path", be16toh(head[0]));
        }
    }
}

static void await_pong(uint32_t number) {
    pthread_mutex_lock(&pong_lock);
    while (last_pong != number) {
        pthread_cond_wait(&pong_came, &pong_lock);
    }
    pthread_mutex_unlock(&pong_lock);
}

// ---- the whole

static int connect_to_qemu(void) {
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die("%s", socket_path);
    }
    strcpy(address.sun_path, socket_path);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) != 0) {
        die("connect to %s", socket_path);
    }
    return connection;
}

static void await_line(void) {
    fflush(stdout);
    for (int c = getchar(); c != '\n'; c = getchar()) {
        if (c == EOF) {
            errno = EPIPE;
            die("the end of standard input");
        }
    }
}

static uint64_t micros(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000ULL + (uint64_t)time.tv_usec;
}

int main(int argc, char **argv) {
    bool with_preempt = false;
    bool on_demand = false;
    for (int i = 4; i < argc; i++) {
        with_preempt |= strcmp(argv[i], "preempt") == 0;
        on_demand |= strcmp(argv[i], "on-demand") == 0;
    }
    if (argc < 4 || argc != 4 + with_preempt + on_demand) {
        fprintf(stderr, "usage: see the head of source.c\n");
        return 2;
    }
    socket_path = argv[2];
    batch_pages = number(argv[3]);
    if (batch_pages == 0 || batch_pages > MAX_BATCH_PAGES) {
        errno = EINVAL;
        die("BATCH_PAGES is 1 to %d", MAX_BATCH_PAGES);
    }
    puts("ready");
    await_line();

    started_nanos = nanos();
    open_snapshot(argv[1], &snapshot);
    for (uint32_t i = 0; i < snapshot.block_count; i++) {
        claimed[i] = calloc(snapshot.blocks[i].words, sizeof *claimed[i]);
        if (claimed[i] == NULL) {
            die("no bitmap");
        }
    }
    bulk.socket = connect_to_qemu();
    pthread_t return_path;
    pthread_create(&return_path, NULL, read_return_path, NULL);
    static struct buffer b;
    send_until_ram_list(&b);
    if (with_preempt) {
        // QEMU knows the second connection only by its coming second.
        await_pong(PING_HELLO);
        preempt.socket = connect_to_qemu();
    }
    send_switch_over(&b);
    if (on_demand) {
        await_line();
    }
    send_bulk();
    put_section_end(&b);
    put_u8(&b, 0);
    pthread_mutex_lock(&bulk.lock);
    send_buffer(&bulk, &b);
    bulk.ended = true;
    pthread_mutex_unlock(&bulk.lock);
    pthread_join(return_path, NULL);

    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("loaded_ns=%llu\n", (unsigned long long)(nanos() - started_nanos));
    printf("cpu_us=%llu\n", (unsigned long long)(micros(used.ru_utime) + micros(used.ru_stime)));
    printf("bytes=%llu\npages=%llu\nfaults=%llu\n", (unsigned long long)bytes_sent, (unsigned long long)pages_sent,
           (unsigned long long)faults);
    return 0;
}
