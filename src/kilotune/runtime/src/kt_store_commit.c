#include "kt_store.h"

/* What is left of the image, read back and compared; the description; then the seal, which makes it valid. */
int kt_store_commit(kt_store *store)
{
    const kt_medium *medium = store->medium;
    const uint32_t other = kt_store_free_bank(store);
    const uint32_t sequence = store->sequence + 1 == 0 ? 1 : store->sequence + 1;
    const uint32_t filled = store->place % KT_STORE_UNIT;
    uint32_t words[KT_STORE_UNIT / 4] = {KT_STORE_MAGIC}, place, found;

    if (store->place != store->image_bytes) {
        return KT_STORE_FAILED;
    }
    for (place = filled; filled > 0 && place < KT_STORE_UNIT; place++) {
        store->unit[place] = 0xFF;
    }
    if ((filled > 0 &&
         medium->write(other + KT_STORE_HEADER + store->place - filled, store->unit, KT_STORE_UNIT) != 0) ||
        kt_store_sum(medium, other + KT_STORE_HEADER, store->image_bytes, &found) != 0 || found != store->crc) {
        return KT_STORE_FAILED;
    }
    words[1] = store->identity;
    words[2] = store->image_bytes;
    words[3] = sequence;
    words[4] = store->crc;
    words[7] = kt_crc32(0, words, 7 * sizeof words[0]);
    if (medium->write(other, words, KT_STORE_UNIT) != 0) {
        return KT_STORE_FAILED;
    }
    for (place = 0; place < KT_STORE_UNIT / 4; place++) {
        words[place] = place == 0 ? KT_STORE_SEAL : 0xFFFFFFFFu;
    }
    if (medium->write(other + KT_STORE_UNIT, words, KT_STORE_UNIT) != 0) {
        return KT_STORE_FAILED;
    }
    store->bank = other;
    store->sequence = sequence;
    return 0;
}
