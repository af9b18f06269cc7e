#include "kt_store.h"

/* Erases the bank that is not in use, its header first: from then on it cannot be taken for a commit. */
int kt_store_begin(kt_store *store)
{
    const kt_medium *medium = store->medium;
    const uint32_t bank_pages = kt_store_bank(store, 1) / medium->page_bytes;
    const uint32_t first = kt_store_free_bank(store) / medium->page_bytes;
    uint32_t page;

    for (page = first; page < first + bank_pages; page++) {
        if (medium->erase(page) != 0) {
            return KT_STORE_FAILED;
        }
    }
    store->place = 0;
    store->crc = 0;
    return 0;
}
