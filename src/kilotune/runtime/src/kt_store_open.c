#include "kt_store.h"

/* Words of a description: magic, identity, image bytes, sequence, CRC of the image, two of zeros, CRC of the words before. */
enum { MAGIC, IDENTITY, IMAGE_BYTES, SEQUENCE, IMAGE_CRC, WORD_CRC = 7, N_WORDS };

typedef enum { UNSEALED, INTACT, DAMAGED, FOREIGN, UNREADABLE } condition;

static condition inspect(const kt_store *store, uint32_t bank, uint32_t *sequence)
{
    uint32_t words[N_WORDS], seal, crc;

    if (store->medium->read(bank, words, sizeof words) != 0 ||
        store->medium->read(bank + KT_STORE_UNIT, &seal, sizeof seal) != 0) {
        return UNREADABLE;
    }
    *sequence = words[SEQUENCE];
    if (seal != KT_STORE_SEAL) {
        return UNSEALED;
    }
    if (words[MAGIC] != KT_STORE_MAGIC || kt_crc32(0, words, WORD_CRC * sizeof words[0]) != words[WORD_CRC]) {
        return DAMAGED;
    }
    if (words[IDENTITY] != store->identity || words[IMAGE_BYTES] != store->image_bytes) {
        return FOREIGN;
    }
    if (kt_store_sum(store->medium, bank + KT_STORE_HEADER, store->image_bytes, &crc) != 0) {
        return UNREADABLE;
    }
    return crc == words[IMAGE_CRC] ? INTACT : DAMAGED;
}

int kt_store_open(kt_store *store, const kt_medium *medium, uint32_t image_bytes, uint32_t identity)
{
    condition found[2];
    uint32_t sequence[2], number, newest;

    store->medium = medium;
    store->image_bytes = image_bytes;
    store->identity = identity;
    store->sequence = 0;
    store->bank = 0;
    if (kt_store_bank(store, 2) / medium->page_bytes > medium->n_pages) {
        return KT_STORE_FAILED;
    }
    for (number = 0; number < 2; number++) {
        found[number] = inspect(store, kt_store_bank(store, number), &sequence[number]);
        if (found[number] == UNREADABLE) {
            return KT_STORE_FAILED;
        }
    }
    if (found[0] != INTACT && found[1] != INTACT) {
        return found[0] == DAMAGED || found[1] == DAMAGED   ? KT_STORE_CORRUPT
               : found[0] == FOREIGN || found[1] == FOREIGN ? KT_STORE_FOREIGN
                                                            : KT_STORE_EMPTY;
    }
    newest = found[0] != INTACT || (found[1] == INTACT && (int32_t)(sequence[1] - sequence[0]) > 0);
    store->bank = kt_store_bank(store, newest);
    store->sequence = sequence[newest];
    return found[!newest] == DAMAGED ? KT_STORE_OLDER : KT_STORE_COMMITTED;
}
