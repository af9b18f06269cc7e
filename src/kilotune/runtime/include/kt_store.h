/* The weight store: the committed values of all weights that draws may train, on pages that can be erased. Two banks: a commit
   writes the whole image to the bank that is not in use, and becomes valid with its last write, the seal. Whatever happens before
   that, the commit before it stays; so power loss costs at most the steps since the last commit.

   A bank: 32 bytes of description, 32 bytes of seal, the image padded to 32 bytes; it starts on a page. Every write is 32 bytes,
   aligned to as many, on erased bytes, each of them written once. */
#ifndef KT_STORE_H
#define KT_STORE_H

#include <stdint.h>

#define KT_STORE_UNIT 32u
#define KT_STORE_HEADER 64u

enum {
    KT_STORE_COMMITTED = 0, /* the newest commit is intact */
    KT_STORE_EMPTY = 1,     /* nothing was ever committed */
    KT_STORE_OLDER = 2,     /* one of two commits is damaged; the other one, perhaps older, is used */
    KT_STORE_FAILED = -2,   /* the medium is too small, or one of its functions failed */
    KT_STORE_CORRUPT = -3,  /* there was a commit, and no intact one is left */
    KT_STORE_FOREIGN = -5   /* the commit is of another network or another plan */
};

/* What the user implements: three functions over an address space of n_pages pages from address 0. Each returns 0 if it worked. */
typedef struct {
    int (*read)(uint32_t address, void *to, uint32_t n);
    int (*erase)(uint32_t page);
    int (*write)(uint32_t address, const void *from, uint32_t n);
    uint32_t page_bytes; /* a multiple of 32 */
    uint32_t n_pages;
    const uint8_t *map; /* where address 0 can be read without a call, as kernels do; NULL if it cannot */
} kt_medium;

/* A store that is open; none of its fields is for the user. */
typedef struct {
    const kt_medium *medium;
    uint32_t image_bytes, identity;
    uint32_t bank, sequence; /* of the commit in use; sequence 0: none */
    uint32_t place, crc;     /* of the commit being written */
    uint8_t unit[KT_STORE_UNIT];
} kt_store;

/* Find the newest intact commit. identity: a number that only this network and layout has. */
int kt_store_open(kt_store *store, const kt_medium *medium, uint32_t image_bytes, uint32_t identity);

/* A new commit: begin, then the image from its first byte to its last, appended or kept as in the commit in use, then commit.
   The commit in use stays in use until the last of them has worked. */
int kt_store_begin(kt_store *store);
int kt_store_append(kt_store *store, const void *from, uint32_t n);
int kt_store_keep(kt_store *store, uint32_t n);
int kt_store_commit(kt_store *store);

/* Where the image of the commit in use starts. */
static inline uint32_t kt_store_address(const kt_store *store)
{
    return store->bank + KT_STORE_HEADER;
}

/* Weights as they are in flash, appended as float32: n numbers, of which per_scale share one scale. */
int kt_store_append_f32(kt_store *store, const float *weight, const float *scale, uint32_t n, uint32_t per_scale);
int kt_store_append_f16(kt_store *store, const uint16_t *weight, const float *scale, uint32_t n, uint32_t per_scale);
int kt_store_append_s8(kt_store *store, const int8_t *weight, const float *scale, uint32_t n, uint32_t per_scale);

/* CRC-32 of n more bytes, 0 to begin with (the one of zlib). */
uint32_t kt_crc32(uint32_t crc, const void *from, uint32_t n);

/* Internal: CRC-32 of an image on the medium; where bank 0 or 1 starts; where the one starts that is not in use. */
int kt_store_sum(const kt_medium *medium, uint32_t address, uint32_t n, uint32_t *crc);
uint32_t kt_store_bank(const kt_store *store, uint32_t number);
uint32_t kt_store_free_bank(const kt_store *store);

#define KT_STORE_MAGIC 0x5753544Bu
#define KT_STORE_SEAL 0x4C414553u

#endif
