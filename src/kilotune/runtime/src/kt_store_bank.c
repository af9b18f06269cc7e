#include "kt_store.h"

/* Address of bank 0 or 1: a whole number of pages that hold header and image. */
uint32_t kt_store_bank(const kt_store *store, uint32_t number)
{
    const uint32_t units = (store->image_bytes + KT_STORE_UNIT - 1) / KT_STORE_UNIT * KT_STORE_UNIT;
    const uint32_t page = store->medium->page_bytes;

    return number * ((KT_STORE_HEADER + units + page - 1) / page) * page;
}
