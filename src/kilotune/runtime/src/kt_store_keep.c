#include "kt_store.h"

int kt_store_keep(kt_store *store, uint32_t n)
{
    uint8_t unit[KT_STORE_UNIT];

    if (store->sequence == 0) {
        return KT_STORE_FAILED;
    }
    while (n > 0) {
        const uint32_t part = n < KT_STORE_UNIT ? n : KT_STORE_UNIT;

        if (store->medium->read(kt_store_address(store) + store->place, unit, part) != 0 ||
            kt_store_append(store, unit, part) != 0) {
            return KT_STORE_FAILED;
        }
        n -= part;
    }
    return 0;
}
