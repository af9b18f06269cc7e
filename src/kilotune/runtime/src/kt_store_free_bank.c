#include "kt_store.h"

/* Address of the bank that the next commit goes to. */
uint32_t kt_store_free_bank(const kt_store *store)
{
    return store->sequence != 0 && store->bank == 0 ? kt_store_bank(store, 1) : 0;
}
