#include "kt_store.h"

/* Bytes are gathered until they fill a unit. */
int kt_store_append(kt_store *store, const void *from, uint32_t n)
{
    const uint8_t *byte = from;
    const uint32_t other = kt_store_free_bank(store);

    if (n > store->image_bytes - store->place) {
        return KT_STORE_FAILED;
    }
    store->crc = kt_crc32(store->crc, from, n);
    while (n-- > 0) {
        store->unit[store->place++ % KT_STORE_UNIT] = *byte++;
        if (store->place % KT_STORE_UNIT == 0) {
            const uint32_t address = other + KT_STORE_HEADER + store->place - KT_STORE_UNIT;

            if (store->medium->write(address, store->unit, KT_STORE_UNIT) != 0) {
                return KT_STORE_FAILED;
            }
        }
    }
    return 0;
}
